"""Two orchestrators on one journal: the first is stopped as if its machine had hung, and wakes when another leads."""

import os
import signal
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from tests.end_to_end.mortal_bench import Bench, Told, a_bench, entries_of, told_by, unsound
from tests.end_to_end.orchestrator_crash import REFUSED, last_words

STOPPED_AT = (36, 47, 60)
"""Steps after which the first one is stopped: with its canary and in its waves."""
SLEEPS_STEPS = 6


async def test_one_that_wakes_after_another_took_over_ends_and_no_device_obeys_it(tmp_path: Path) -> None:
    async with a_bench(tmp_path / "one") as one, a_bench(tmp_path / "two") as two:
        async with one.scene() as (world, folder):
            assert await one.run(world, folder) == 0
            told = told_by(world, folder)

        for steps in STOPPED_AT:
            await take_over(one, two, told, steps)


def stop_between_writes(pid: int, journal: Path) -> None:
    """Stop a process that is not just writing: then it would keep the journal locked, and nobody could take over."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            pass
        with closing(sqlite3.connect(journal, timeout=0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                database.execute("ROLLBACK")
                return


async def take_over(one: Bench, two: Bench, told: Told, steps: int) -> None:
    async with one.scene() as (world, folder):
        pid, ended = await one.begin(world, folder)
        passed = count()
        await world.live(ended, lambda: next(passed) >= steps)
        stop_between_writes(pid, folder / "journal.db")
        since = count()

        def is_over() -> bool:
            if next(since) == SLEEPS_STEPS:
                os.kill(pid, signal.SIGCONT)
            return world.phase == "rolled_back" and ended.done()

        assert await two.run(world, folder, is_over) == 0

        assert (await ended)["code"] == REFUSED
        assert "epoch 2 took over from 1; this process must exit" in last_words(folder)
        assert unsound(world, folder, told) == ""
        epochs = [each.epoch for each in entries_of(folder)]
        assert epochs == sorted(epochs), "the one that was stopped wrote nothing after it woke"
        for device in world.devices.values():
            accepted = [(grant.epoch, grant.seq) for grant in device.granted]
            assert accepted == sorted(accepted)
