"""The campaign of ``make power-cut``: a small part of it under strace, and that it always comes to a verdict."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.device_world import end_leftovers
from tests.device.kill_bench import LOST, Bench, made_bench
from tests.device.power_cut import (
    KINDS,
    MISSED,
    STORIES,
    Cut,
    Point,
    disturbed,
    first_cuts,
    recorded,
    role_of,
    second_cuts,
    spread,
)

SEED = 51
DRAWN = 2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with made_bench(tmp_path_factory.mktemp("power-cut")) as made:
        yield made


@pytest.mark.debian
@pytest.mark.parametrize("order", STORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_device_survives_a_kill_or_a_failing_disk_at_calls_of_a_story(
    bench: Bench, order: str, kind: str, tmp_path: Path
) -> None:
    cuts = first_cuts(bench, order, [kind], None, tmp_path)
    survive(bench, cuts, tmp_path)


@pytest.mark.debian
def test_device_survives_a_kill_at_calls_of_its_recovery(bench: Bench, tmp_path: Path) -> None:
    (first,) = spread(recorded(bench, "install", tmp_path), 1, random.Random(SEED))
    survive(bench, second_cuts(bench, "install", first, tmp_path), tmp_path)


def survive(bench: Bench, cuts: list[Cut], folder: Path) -> None:
    assert len(cuts) > DRAWN
    for cut in random.Random(SEED).sample(cuts, DRAWN):
        assert disturbed(bench, cut, folder) in {"", MISSED}, str(cut)


def test_campaign_goes_on_when_its_driver_dies(bench: Bench) -> None:
    device = bench.copy_of("first")
    os.kill(bench.driver.pid, signal.SIGKILL)
    try:
        assert bench.run(device.config, "install", None)["code"] == LOST
        assert bench.run(device.config, "install", None)["code"] == 0
    finally:
        end_leftovers(device.root)


def test_point_that_raises_is_wrong_and_the_others_still_come(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise TimeoutError("it did not happen in time")

    monkeypatch.setattr(Bench, "run", fail)
    cut = Cut("install", Point(0, "fsync", "", 1, ""), "EIO")
    assert disturbed(bench, cut, tmp_path) == "TimeoutError: it did not happen in time"


@pytest.mark.parametrize(
    ("call", "what", "role"),
    [
        ("write", '5</r/state/record.json.pending>, "{\\"phase\\""..., 9) = 9', "/state/record.json.pending"),
        ("rename", '"/r/active.pending", "/r/active") = 0', "/active.pending /active"),
        ("mkdirat", '7</r/green>, "app", 0755) = 0', "/* app"),
        ("openat", f'AT_FDCWD<{Path.cwd()}>, "/r/staging/{"a0" * 32}.json.part", O_CREAT) = 5', "/staging/*.json.part"),
    ],
)
def test_site_of_a_call_is_told_by_what_does_not_change_from_run_to_run(call: str, what: str, role: str) -> None:
    assert role_of(call, what, "/r") == role
