"""Every check of a gate, three times: broken, nearly broken, and without what it looks at.

Six canaries in two groups are watched for the check alone, again and again, and at last by the canary's gate. What
breaks it brings them back; what does not, lets a person approve; and without data nobody is asked to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import pytest

from schemas.policy import CheckType, Gate, RollbackTriggers
from schemas.policy_phases import CanaryPhases
from simulator import Behavior, World, failing, make_scenario, slow
from simulator.materials import NEW_VERSION, OLD_VERSION
from tests.simulation.harm import Harm, bother, noisy, one, spoiled, withholding
from tests.simulation.story import bodies, canaries, gates, policy_with, run, running, when

DEVICES, CANARIES, EXTENSIONS = 8, 6, 1


@dataclass(frozen=True)
class Row:
    """A check and its stories; a window of None is all that is kept."""

    type: CheckType
    threshold: object
    breaks: Harm
    no_data: Harm
    misses: Mapping[str, Harm] = field(default_factory=dict)
    window: str | None = None
    minutes: float = 6.0

    @property
    def gate(self) -> Gate:
        check = {"type": self.type, "threshold": self.threshold, "window": self.window, "min_samples": 1}
        return Gate.model_validate({"checks": [check]})


ERRORS, SLOW, BUSY = Harm(failing(0.04)), Harm(slow(1.5)), spoiled(cpu_ratio=0.3)
WORSE, CHATTY, SICK = spoiled(quality_factor=0.9), spoiled(log_errors_per_minute=4.0), spoiled(sick_after_seconds=200.0)
BLINK = Harm(Behavior(sick_after_seconds=0.0), lasts_seconds=61.0, victims=1)

ROWS = (
    Row("error_rate", "baseline + 2%", ERRORS, withholding("errors_total"),
        {"just_below": noisy(error_ratio=0.018), "one_of_many": one(ERRORS)}, window="15m"),
    Row("latency_p50", "baseline + 20%", SLOW, withholding("latency"),
        {"just_below": noisy(latency_factor=1.15), "one_of_many": one(SLOW)}, window="15m"),
    Row("latency_p95", "baseline + 20%", SLOW, withholding("latency"),
        {"just_below": noisy(latency_factor=1.15)}, window="15m"),
    Row("latency_p99", "baseline + 20%", SLOW, withholding("latency"),
        {"just_below": noisy(latency_factor=1.15)}, window="15m"),
    Row("cpu", "baseline + 20%", BUSY, withholding("cpu_ratio"),
        {"just_below": noisy(cpu_ratio=0.17), "one_of_many": one(BUSY)}, window="15m"),
    Row("quality", "baseline - 5%", WORSE, withholding("quality"),
        {"just_below": noisy(quality_factor=0.98), "one_of_many": one(WORSE)}, window="30m"),
    Row("memory_trend", "growth < 1% per 10m", one(spoiled(leak_bytes_per_second=20_000.0)),
        withholding("memory_bytes"), {"just_below": noisy(leak_bytes_per_second=2_400.0)}, window="30m", minutes=31.0),
    Row("disk_trend", "growth < 5% per 10m", one(spoiled(disk_bytes_per_second=600_000.0)),
        withholding("disk_free_bytes"), {"just_below": noisy(disk_bytes_per_second=350_000.0)},
        window="30m", minutes=31.0),
    Row("crash_count", 1, Harm(crashes=2, victims=1), withholding("restarts_total")),
    Row("log_errors", 30, CHATTY, withholding("log_errors_total"),
        {"just_below": noisy(log_errors_per_minute=0.6), "one_of_many": one(CHATTY)}, window="5m"),
    Row("throttle_events", 10, spoiled(throttles_per_minute=2.0), withholding("throttle_events_total"),
        {"just_below": noisy(throttles_per_minute=0.1)}, window="5m"),
    Row("application_health", "all_healthy", one(SICK), withholding("healthy")),
    Row("device_health", "healthy_percentage >= 80%", SICK, withholding("healthy"), {"one_for_a_minute": BLINK}),
    Row("version_match", "all_matching", one(Harm(Behavior(says_version="1.9.9"))), withholding("version")),
)  # fmt: skip


def watch(row: Row, harm: Harm, *, bothered: bool = False) -> World:
    """Return how a rollout went under whose canaries a harm came."""
    canary = {
        "min_devices": CANARIES, "immediate_minutes": row.minutes, "short_term_minutes": row.minutes,
        "soak_minutes": 0.0, "phases": CanaryPhases(immediate=row.gate),
    }  # fmt: skip
    policy = policy_with(
        canary=canary,
        update={"max_unavailable": 90.0, "min_available": 10.0},
        gates={"canary_gate": row.gate},
        rollback_triggers=RollbackTriggers(),
        max_soak_extensions=EXTENSIONS,
    )
    world = World(make_scenario(devices=DEVICES, policy=policy, approve_after_seconds=None))
    begins = "soaking" if harm.is_brief else "deploying"
    when(world, lambda: world.phase() == begins, lambda: harm.befall(world, canaries(world)))
    if bothered:
        when(world, lambda: world.phase() == "soaking", lambda: bother(world, canaries(world)))
    run(world)
    assert len(canaries(world)) == CANARIES
    return world


def verdicts(world: World) -> list[tuple[str, str]]:
    return [(check["check"], check["verdict"]) for fact in bodies(world, "gate_judged") for check in fact["checks"]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.type)
def test_canaries_go_back_when_the_check_is_broken(row: Row) -> None:
    world = watch(row, row.breaks)
    assert gates(world) == [("immediate", "fail", "rollback")]
    assert verdicts(world)[-1] == (row.type, "fail")
    (order,) = bodies(world, "rollback_ordered")
    assert (order["scope"], order["trigger"]) == ("wave", "canary_gate")
    assert sorted(order["devices"]) == sorted(canaries(world))
    assert world.phase() == "rolled_back"
    assert running(world) == {OLD_VERSION}


def misses() -> Iterator[object]:
    for row in ROWS:
        for name, harm in row.misses.items():
            yield pytest.param(row, harm, False, id=f"{row.type}-{name}")
        yield pytest.param(row, noisy(), True, id=f"{row.type}-restart_and_clock_jump")


@pytest.mark.parametrize(("row", "harm", "bothered"), tuple(misses()))
def test_person_is_asked_when_the_check_is_nearly_broken(row: Row, harm: Harm, *, bothered: bool) -> None:
    world = watch(row, harm, bothered=bothered)
    assert gates(world) == [(None, "pass", "await_approval")]
    assert (row.type, "fail") not in verdicts(world)
    assert running(world, *canaries(world)) == {NEW_VERSION}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.type)
def test_rollout_is_extended_and_halted_when_the_check_has_no_data(row: Row) -> None:
    world = watch(row, row.no_data)
    assert gates(world) == [("immediate", "inconclusive", decision) for decision in ["extend"] * EXTENSIONS + ["halt"]]
    assert set(verdicts(world)) == {(row.type, "inconclusive")}
    assert world.phase() == "halted"
    assert running(world, *canaries(world)) == {NEW_VERSION}


@pytest.mark.parametrize(
    ("threshold", "verdict", "decision", "phase"),
    [("85%", "pass", "complete", "completed"), ("90%", "fail", "await_devices", "awaiting_devices")],
    ids=["nearly_broken", "broken"],
)
def test_rollout_waits_when_fleet_coverage_is_broken_by_a_device_that_nothing_is_heard_of(
    threshold: str, verdict: str, decision: str, phase: str
) -> None:
    check = {"type": "fleet_coverage", "threshold": f"deployed_percentage >= {threshold}"}
    policy = policy_with(gates={"completion_gate": Gate.model_validate({"checks": [check]})})
    world = World(make_scenario(devices=DEVICES, policy=policy))
    world.at(-30.0, world.devices["d-0005"].vanish)
    run(world)
    assert gates(world)[-1] == (None, verdict, decision)
    assert bodies(world, "gate_judged")[-1]["checks"][0]["observed"] == 7 / 8
    assert world.phase() == phase


def test_no_check_is_without_its_stories() -> None:
    assert {row.type for row in ROWS} | {"fleet_coverage"} == set(get_args(CheckType))
