"""Campaigns of seeds: counted in order whoever is done first, and what they say that they have reached."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from simulator import __main__ as program
from simulator import campaign
from simulator.campaign import Campaign, run_campaign
from simulator.coverage import RARE, reached
from simulator.world import Result

SEEDS = range(7)
"""More than one chunk."""


def ended(seed: int, *violations: str) -> Result:
    return Result(seed, "", violations, {"r-001": "completed"}, {}, 1.0, ("     1.000 broker         restarts with 1",))


def seeds_that(patch: pytest.MonkeyPatch, become: Callable[[int], Result]) -> None:
    patch.setattr(campaign, "simulate", lambda seed, **_rest: become(seed))


def run(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    patch.setattr("sys.argv", ["simulate", *arguments])
    return program.main()


def facts_of(done: Campaign) -> tuple[Any, ...]:
    return done.count, done.outcomes, done.reached, done.digest, done.failed


def test_campaign_comes_out_the_same_for_any_number_of_processes() -> None:
    alone, together = (run_campaign(SEEDS, device_count=3, jobs=jobs) for jobs in (1, 2))

    assert alone.count == len(SEEDS)
    assert facts_of(alone) == facts_of(together)
    assert run_campaign(SEEDS[1:], device_count=3, jobs=1).digest != alone.digest


def test_first_failing_seed_ends_a_campaign_and_tells_how_to_replay_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds_that(monkeypatch, lambda seed: ended(seed, "1.000 INV-1: d-0001: broken") if seed > 2 else ended(seed))

    assert run(monkeypatch, "--seeds", "7", "--jobs", "1", "--devices", "4", "--json") == 1

    told = capsys.readouterr()
    assert json.loads(told.out)["failed"] == {"seed": 3, "violations": ["1.000 INV-1: d-0001: broken"]}
    assert json.loads(told.out)["seeds"] == 4
    assert "replay: tidegate simulate --seed 3 --devices 4 --explain" in told.err


def test_campaign_goes_on_where_another_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def become(seed: int) -> Result:
        ran.append(seed)
        return ended(seed)

    seeds_that(monkeypatch, become)

    assert run(monkeypatch, "--seeds", "3", "--first", "762", "--jobs", "1") == 0

    assert ran == [762, 763, 764]


def test_what_a_seed_raises_is_its_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(seed: int) -> Result:
        if seed == 1:
            raise AssertionError("no end of steps")
        return ended(seed)

    seeds_that(monkeypatch, become)
    failed = run_campaign(SEEDS, device_count=None, jobs=1).failed

    assert failed is not None
    assert (failed.seed, failed.violations) == (1, ("AssertionError: no end of steps",))


def test_interrupted_campaign_tells_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def become(seed: int) -> Result:
        if seed == 4:
            raise KeyboardInterrupt
        return ended(seed)

    seeds_that(monkeypatch, become)

    assert run(monkeypatch, "--seeds", "7", "--jobs", "1") == 130

    told = capsys.readouterr().out
    assert told.startswith("4 of 7 seeds, interrupted, no violation")
    assert "4 mishap broker restarts" in told
    assert f"never reached: {', '.join(RARE)}" in told


def test_who_reads_only_the_first_lines_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        typed = [sys.executable, "-m", "simulator", "--seed", "1", "--devices", "3", "--explain"]
        done = subprocess.run(typed, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "")


BEGUN = ("orchestrator rollout_started", "d-0001 draining (generation 1)")
BACK = (*BEGUN, "orchestrator rollback_ordered canary", "d-0001 rolling_back (generation 2)")


@pytest.mark.parametrize(
    ("rare", "happened", "happens"),
    [
        ("halt while a device drains", BEGUN, "orchestrator rollout_halted"),
        ("rollback during a rollback", BACK, "orchestrator rollback_ordered canary"),
        ("power cut while going back", BACK, "d-0001 loses power"),
        ("epoch change in a wave", BEGUN, "orchestrator epoch_opened"),
        ("brake during a rollback", BACK, "alice brake on"),
        (
            "approval that comes too late",
            (*BEGUN, "orchestrator rollout_ended"),
            "alice approve is answered: conflict",
        ),
    ],
)
def test_rare_state_counts_only_where_it_is_reached(rare: str, happened: tuple[str, ...], happens: str) -> None:
    before = [f"1.000 {line}" for line in happened]

    assert f"rare {rare}" in reached([*before, f"2.000 {happens}"])
    assert f"rare {rare}" not in reached([f"1.000 {happens}"])
    assert f"rare {rare}" not in reached(before)


def test_what_is_reached_is_told_without_what_is_of_one_case_only() -> None:
    lines = ("d-0001 sleeps for 3 s", "broker restarts with 3 sessions", "orchestrator of epoch 2 ends: x")

    found = reached(f"1.000 {line}" for line in lines)

    assert {"mishap device sleeps", "mishap broker restarts", "mishap orchestrator of epoch"} <= found
