"""The campaign of ``make crash``: a small part of it, and disks that refuse without any tracing."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.end_to_end.mortal_bench import Told, a_bench, told_by, unsound
from tests.end_to_end.orchestrator_crash import (
    KINDS,
    MISSED,
    REFUSED,
    Cut,
    Point,
    cuts_at,
    disturbed,
    last_words,
    place_of,
    points_in,
    recorded,
)

SEED = 60
DRAWN = 2


async def test_disk_that_refuses_ends_the_orchestrator_with_a_remedy_and_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path) as bench:
        async with bench.scene() as (world, folder):
            assert await bench.run(world, folder) == 0
            told = told_by(world, folder)
            assert unsound(world, folder, told) == ""

        for file_bytes_max in (60_000, 150_000, 300_000):
            async with bench.scene() as (world, folder):
                assert await bench.run(world, folder, file_bytes_max=file_bytes_max) == REFUSED
                assert f"{folder}/journal.db: disk I/O error; check the disk and restart" in last_words(folder)

                assert await bench.run(world, folder) == 0
                assert unsound(world, folder, told) == ""


@pytest.mark.debian
async def test_rollout_ends_as_it_would_have_when_the_orchestrator_is_killed_or_its_disk_fails_at_a_call(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path) as bench:
        points, told = await recorded(bench, None)
        assert len(points) > 300

        for kind in KINDS:
            for cut in drawn(cuts_at(points, [kind], 1)):
                assert (await disturbed(bench, cut, told)) in {"", MISSED}, str(cut)
        (first,) = random.Random(SEED).sample(points, 1)
        again, _ = await recorded(bench, told, first)
        for cut in drawn([Cut(point, "kill", first) for point in again]):
            assert await disturbed(bench, cut, told) in {"", MISSED}, str(cut)


def drawn(cuts: Sequence[Cut]) -> list[Cut]:
    return random.Random(SEED).sample(cuts, DRAWN)


async def test_point_that_raises_is_wrong_and_the_others_still_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_bench(tmp_path) as bench:
        monkeypatch.setattr(bench, "run", lambda *_, **__: asyncio.sleep(0, 1 / 0))

        assert (await disturbed(bench, Cut(Point(0, "fsync", "/journal.db", 1), "EIO"), Told({}, {}, {}, {}))) == (
            "ZeroDivisionError: division by zero"
        )


@pytest.mark.parametrize(
    ("call", "what", "place"),
    [
        ("pwrite64", r'9</r/journal.db-wal>, "\0"..., 24, 0) = 24', "/journal.db-wal"),
        ("rename", '"/r/state.new", "/r/state.snapshot") = 0', "/state.new"),
        ("fdatasync", "11</r>) = 0", "/"),
        ("sendto", r'12<socket:[47]>, "\20f"..., 104, 0, NULL, 0) = 104', ""),
        ("openat", 'AT_FDCWD</home>, "/etc/hosts", O_RDONLY) = 14</etc/hosts>', None),
    ],
)
def test_call_is_about_a_file_of_the_orchestrator_a_socket_or_nothing_of_ours(
    call: str, what: str, place: str | None
) -> None:
    assert place_of(call, what, "/r") == place


def test_calls_are_numbered_by_thread_name_and_file(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    (tmp_path / "strace.0").write_text(
        'openat(AT_FDCWD</h>, "/r/journal.db", O_RDONLY) = 9</r/journal.db>\n'
        'openat(AT_FDCWD</h>, "/r/journal.db", O_RDWR|O_CREAT, 0644) = 9</r/journal.db>\n'
        'sendto(7<socket:[1]>, "\\0", 1, 0, NULL, 0) = 1\n'
        'sendto(7<socket:[2]>, "\\20"..., 9, 0, NULL, 0) = 9\n'
    )
    (tmp_path / "strace.1").write_text("fsync(9</r/state.new>) = 0\n")

    assert points_in(log, "/r") == [
        Point(0, "openat", "/journal.db", 2),
        Point(0, "sendto", "", 2),
        Point(1, "fsync", "/state.new", 1),
    ]
