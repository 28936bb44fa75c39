"""A journal that is put back from a backup: what happened since is not undone, and nothing goes on by itself."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.cli.bus import request
from orchestrator.core import events as e
from orchestrator.core.members import Progress
from tests.core.core_bench import fold
from tests.end_to_end.lockstep import NEW, OLD, ROLLOUT, World
from tests.end_to_end.mortal_bench import a_bench, entries_of, replayed
from tests.end_to_end.stage import make_stage, poll_until

STEPS = 12


def back_up(folder: Path, backup: Path) -> None:
    """Copy the journal of a running orchestrator."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/journal.db?mode=ro", uri=True)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))


def put_back(folder: Path, backup: Path) -> None:
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(backup, folder / "journal.db")


def for_steps(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("noticed_by", ["the broker", "a person"])
async def test_rollout_that_was_aborted_after_the_backup_waits_for_a_person_and_its_devices_are_believed(
    tmp_path: Path, noticed_by: str
) -> None:
    async with a_bench(tmp_path) as bench, bench.scene() as (world, folder):
        backup = tmp_path / "backup.db"

        def is_aborted() -> bool:
            if world.phase == "awaiting_approval" and not backup.exists():
                back_up(folder, backup)
            return world.phase == "aborted"

        world.says["halted"] = "abort"
        assert await bench.run(world, folder, is_aborted) == 0
        switched = switches(world)
        assert sum(versions == [NEW] for versions in switched.values()) == 2
        seen = max(grant.epoch for device in world.devices.values() for grant in device.granted)
        generation = max(device.generation for device in world.devices.values())

        put_back(folder, backup)
        world.says = {}
        if noticed_by == "a person":
            world.forget_the_orchestrator()
        assert await bench.run(world, folder, for_steps(STEPS), restored=noticed_by == "a person") == 0

        entries = entries_of(folder)
        opened = [fact for each in entries if isinstance(fact := e.event_from_json(each.body), e.EpochOpened)]
        assert "put back from a backup" in opened[-1].restored
        assert opened[-1].epoch > seen
        assert opened[-1].generation > generation
        assert world.phase == "paused"
        assert switches(world) == switched, "nobody was touched"
        assert fold(entries).rollouts[ROLLOUT].having(Progress.COMMITTED) == world.plan["canary"]

        world.says = {"paused": "resume", "awaiting_approval": "approve", "halted": "abort"}
        assert await bench.run(world, folder, lambda: world.phase == "aborted") == 0

        assert switches(world) == switched, "who ran the new version was counted, not switched again"
        rollout = fold(entries_of(folder)).rollouts[ROLLOUT]
        lucky = max(world.plan["wave-1"])
        assert sorted(rollout.having(Progress.COMMITTED)) == sorted([*world.plan["canary"], lucky])
        assert replayed(entries_of(folder)) == []
        assert not [wrong for wrong in world.wrong if wrong.startswith("d-")]


def switches(world: World) -> dict[str, list[str]]:
    return {name: [version for _, version in device.activations] for name, device in world.devices.items()}


async def test_rollback_after_the_backup_is_not_undone(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench, bench.scene() as (world, folder):
        backup = tmp_path / "backup.db"

        def is_over() -> bool:
            if world.phase == "awaiting_approval" and not backup.exists():
                back_up(folder, backup)
            return world.phase == "rolled_back"

        assert await bench.run(world, folder, is_over) == 0
        switched = switches(world)

        put_back(folder, backup)
        world.says = {}
        assert await bench.run(world, folder, for_steps(STEPS)) == 0
        assert world.phase == "paused"
        world.says = {"paused": "abort"}
        assert await bench.run(world, folder, lambda: world.phase == "aborted") == 0

        assert switches(world) == switched
        assert {device.version for device in world.devices.values()} == {OLD}


@pytest.mark.mosquitto
async def test_mosquitto_remembers_what_the_journal_has_lost(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stage = make_stage(stack, tmp_path, ["d-1"], kind="mosquitto")
        backup = tmp_path / "backup.db"
        stage.start()
        back_up(tmp_path, backup)
        reply = await request(stage.operator(), "quarantine", {"device": "d-1"}, timeout_seconds=10)
        assert reply.error is not None  # It is not known, and the answer is audited.
        poll_until(lambda: len(stage.facts()) > 1, seconds=10, what="the answer is in the journal")
        stage.stop()

        put_back(tmp_path, backup)
        stage.start()
        stage.stop()
        stage.start()

        opened = [fact for fact in stage.facts() if isinstance(fact, e.EpochOpened)]
        assert [bool(fact.restored) for fact in opened] == [False, True, False]
