"""A seed is told as a story, and one that violates something is shrunk to what it needs for that."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from simulator.__main__ import main
from simulator.faults import NO_FAULTS
from simulator.scenario import draw_scenario, make_scenario
from simulator.shrinking import NAMES, keep_only
from simulator.telling import tell
from simulator.world import World
from tests.simulation import planted

SEED, DEVICES = 2, 6
"""With which capacity is exceeded where nothing is said against it."""


def story(seed: int, device_count: int = DEVICES) -> list[str]:
    world = World(draw_scenario(seed, device_count=device_count))
    return list(tell(world, world.run()))


def test_story_begins_with_what_was_drawn_and_ends_with_what_became_of_it() -> None:
    told = story(3)

    assert told[0].startswith("Seed 3: 6 devices, ")
    assert "broker_restarts_per_hour" in told[2]
    assert told[-1] == "Every invariant held."
    assert any(line.startswith("r-001 ended ") for line in told)


def test_story_goes_forward_in_time() -> None:
    moments = [float(line.split(" s  ")[0]) for line in story(3) if " s  " in line]

    assert len(moments) > 30
    assert all(later >= earlier - 60.0 for earlier, later in pairwise(moments))


@pytest.mark.parametrize("seed", [0, 3])
def test_no_entry_of_the_journal_is_told_as_it_is_stored(seed: int) -> None:
    assert not [line for line in story(seed) if '{"' in line]


def test_devices_that_take_the_same_steps_are_told_together() -> None:
    world = World(make_scenario(devices=10))

    told = list(tell(world, world.run()))

    assert any(re.search(r"d-\d+, d-\d+.*: downloading.* \(generation ", line) for line in told)


def test_violation_stands_where_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.ignore_capacity(monkeypatch)

    told = story(SEED)

    place = next(index for index, line in enumerate(told) if "VIOLATED: INV-8 capacity" in line)
    assert any("may activate" in line for line in told[place - 3 : place + 4])
    assert told[-1].startswith("Violated: ")


def test_everything_kept_is_the_scenario_as_it_was_drawn() -> None:
    drawn = draw_scenario(7)

    assert keep_only(drawn, NAMES) == drawn
    assert keep_only(drawn, ()).faults == replace(NO_FAULTS, stop_seconds=drawn.faults.stop_seconds)


def test_shrunk_seed_needs_less_and_violates_the_same_when_it_is_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.ignore_capacity(monkeypatch)

    assert run(monkeypatch, f"--seed {SEED} --devices {DEVICES} --shrink --json") == 1
    found = json.loads(capsys.readouterr().out)
    assert run(monkeypatch, found["replay"].removeprefix("tidegate simulate ")) == 1

    assert "INV-8 capacity" in found["violation"]
    assert len(found["only"]) < 5
    assert found["devices"] < DEVICES
    assert f"Violated: {found['violation']}" in capsys.readouterr().out


def test_seed_that_violates_nothing_is_not_shrunk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--seed 1 --devices 3 --shrink") == 0
    assert "violates nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--seed 1 --only rain", "there is no rain; there are loss, "),
        ("--explain", "--seed N"),
        ("policy.yaml --explain", "without a POLICY"),
    ],
)
def test_wrong_use_says_what_is_right(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, words) == 2
    assert said in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> int:
    monkeypatch.setattr("sys.argv", ["tidegate simulate", *words.split()])
    try:
        return main()
    except SystemExit as end:
        return int(end.code or 0)
