"""Every trigger, three times: it fires, it nearly fires, and it has nothing to look at.

Two canaries are followed by a wave of five, and when these run the new version for good, a harm comes over some of them
or over all that is deployed. The gates let everything pass that they can see.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from schemas.policy import Gate, RollbackTriggers, Trigger
from schemas.policy_phases import CanaryPhases
from schemas.policy_triggers import REFERENCE_TRIGGERS, TRIGGER_METRICS
from simulator import Behavior, World, make_scenario, slow
from simulator.materials import NEW_VERSION, OLD_VERSION, brisk_policy
from simulator.scenario import ROLLOUT, SAMPLE_SECONDS
from tests.simulation.harm import Harm, bother, noisy, one, spoiled
from tests.simulation.story import bodies, canaries, facts, gates, policy_with, run, running, wave, when

DEVICES = 7
REFERENCE = {each.name: each.model_copy(update={"min_samples": 5}) for each in REFERENCE_TRIGGERS.all}


def new_trigger(name: str, condition: str, scope: str, action: str, window: str | None = None) -> Trigger:
    fields = {"name": name, "condition": condition, "scope": scope, "action": action, "window": window}
    return Trigger.model_validate({**fields, "min_samples": 5})


@dataclass(frozen=True)
class Row:
    """A trigger and its stories.

    Attributes:
        withheld: The fields of samples that it looks at.
        check: A gate's, of the same; it passes as long as there is anything to see.
    """

    trigger: Trigger
    fires: Harm
    withheld: frozenset[str]
    check: tuple[str, object]
    misses: Mapping[str, Harm] = field(default_factory=dict)
    minutes: float = 7.0


LATENCY, TREND_MINUTES = frozenset({"latency"}), 24.0
ERRORS, SLOW, BUSY = spoiled(error_ratio=0.25), Harm(slow(3.0)), spoiled(cpu_ratio=0.6)

ROWS = (
    Row(REFERENCE["crash_loop"], Harm(crashes=2, reboots=2, victims=1),
        frozenset({"restarts_total"}), ("crash_count", 99),
        {"just_below": Harm(crashes=1, reboots=2, victims=1), "one_each": Harm(crashes=1)}),
    Row(REFERENCE["health_endpoint_down"], one(spoiled(sick_after_seconds=0.0)),
        frozenset({"healthy", "endpoint_up"}), ("device_health", "healthy_percentage >= 10%"),
        {"just_below": Harm(Behavior(sick_after_seconds=0.0), lasts_seconds=110.0)}),
    Row(REFERENCE["error_rate_spike"], ERRORS, frozenset({"errors_total"}), ("error_rate", "baseline + 90%"),
        {"just_below": noisy(error_ratio=0.09), "one_of_many": one(ERRORS)}),
    Row(REFERENCE["latency_spike"], SLOW, LATENCY, ("latency_p95", "baseline * 9"),
        {"just_below": Harm(slow(1.9))}),
    Row(new_trigger("latency_p50", "p50_latency > baseline * 2.0", "current_wave", "rollback_wave", "5m"),
        SLOW, LATENCY, ("latency_p50", "baseline * 9"), {"just_below": Harm(slow(1.9)), "one_of_many": one(SLOW)}),
    Row(new_trigger("latency_p99", "p99_latency > 200ms", "all_deployed", "rollback_all", "5m"),
        SLOW, LATENCY, ("latency_p99", "9s"), {"just_below": Harm(slow(1.9))}),
    Row(new_trigger("cpu", "cpu > baseline + 40%", "current_wave", "rollback_wave", "5m"),
        BUSY, frozenset({"cpu_ratio"}), ("cpu", "baseline + 900%"),
        {"just_below": noisy(cpu_ratio=0.37), "one_of_many": one(BUSY)}),
    Row(REFERENCE["memory_leak"], replace(noisy(leak_bytes_per_second=60_000.0), victims=2),
        frozenset({"memory_bytes"}), ("memory_trend", "growth < 99% per 10m"),
        {"just_below": noisy(leak_bytes_per_second=12_000.0)}, TREND_MINUTES),
    Row(new_trigger("disk_full", "disk_growth > 10% per 10 minutes", "affected_devices", "rollback_affected", "30m"),
        one(spoiled(disk_bytes_per_second=1_500_000.0)), frozenset({"disk_free_bytes"}),
        ("disk_trend", "growth < 99% per 10m"), {"just_below": spoiled(disk_bytes_per_second=750_000.0)},
        TREND_MINUTES),
    Row(REFERENCE["gradual_degradation"].model_copy(update={"window": 120.0}), spoiled(error_ratio_per_minute=0.02),
        frozenset({"errors_total"}), ("error_rate", "baseline + 90%"),
        {"burst": Harm(Behavior(error_ratio=0.4), lasts_seconds=100.0)}, TREND_MINUTES),
    Row(REFERENCE["thermal_escalation"], one(spoiled(celsius_per_minute=1.5)),
        frozenset({"temperature_celsius", "throttle_events_total"}), ("throttle_events", 14),
        {"just_below": noisy(celsius_per_minute=0.5)}, TREND_MINUTES),
)  # fmt: skip
VERSION = ("version_match", "all_matching")
FAILURES = REFERENCE["wave_failure_rate"]
AWAY_SECONDS = 3600.0


def make_world(trigger: Trigger, check: tuple[str, object] = VERSION, minutes: float = 3.0) -> World:
    """Return a world with one wave after the canary; its devices are slower to go back by themselves than usual."""
    usual = brisk_policy()
    only = usual.rollout.waves[-1].model_copy(update={"soak_minutes": minutes, "failure_threshold_percent": 99.0})
    watched = {"immediate_minutes": 3.0, "short_term_minutes": 3.0, "soak_minutes": 0.0}
    policy = policy_with(
        canary={**watched, "phases": CanaryPhases(immediate=_gate(*VERSION))},
        update={
            "max_unavailable": 90.0,
            "min_available": 10.0,
            "health_check": usual.rolling_update.health_check.model_copy(update={"interval_seconds": SAMPLE_SECONDS}),
        },
        gates={"canary_gate": _gate(*VERSION), "wave_gate": _gate(*check)},
        rollback_triggers=RollbackTriggers(immediate=(trigger,)),
        max_soak_extensions=1,
    )
    rollout = policy.rollout.model_copy(update={"waves": (only,)})
    return World(make_scenario(devices=DEVICES, policy=policy.model_copy(update={"rollout": rollout})))


def _gate(type_: str, threshold: object) -> Gate:
    window = "30m" if type_.endswith("_trend") else "5m"
    check = {"type": type_, "threshold": threshold, "window": window, "min_samples": 1}
    return Gate.model_validate({"checks": [check]})


def reached(world: World, trigger: Trigger) -> list[str]:
    """Return the devices that a harm comes over: the wave, or all that is deployed where the trigger looks at that."""
    return [*wave(world, 1), *(canaries(world) if trigger.scope == "all_deployed" else ())]


def go(row: Row, harm: Harm, *, withheld: frozenset[str] = frozenset(), bothered: bool = False) -> World:
    """Return how a rollout went under whose second wave a harm came, seen or not."""
    world = make_world(row.trigger, row.check, row.minutes)

    def blind() -> None:
        Harm(Behavior(withholds=withheld)).befall(world, list(world.devices))

    def befall() -> None:
        replace(harm, behavior=replace(harm.behavior, withholds=withheld)).befall(world, reached(world, row.trigger))
        if bothered:
            bother(world, wave(world, 1))

    when(world, lambda: world.phase() == "awaiting_approval", blind)
    when(world, lambda: _wave_of(world) == 1 and world.phase() == "soaking", befall)
    run(world)
    return world


def _wave_of(world: World) -> int:
    return world.witness.ledger.rollouts[ROLLOUT].wave if world.phase() else -1


def goes_back(world: World, trigger: Trigger, victims: int | None) -> list[str]:
    """Return the devices that the trigger's action is about."""
    match trigger.action:
        case "halt_and_assess":
            return []
        case "rollback_all":
            return sorted(world.devices)
        case "rollback_wave":
            return sorted(wave(world, 1))
        case _:
            return sorted(reached(world, trigger)[:victims])


def assert_it_acted(world: World, trigger: Trigger, back: list[str]) -> None:
    """Hold what came of a trigger that fired against its action: who went back, who stayed, and how it ended."""
    orders = bodies(world, "rollback_ordered")
    assert {order["trigger"] for order in orders} == ({trigger.name} if back else set())
    assert sorted(name for order in orders for name in order["devices"]) == back
    assert not back or running(world, *back) == {OLD_VERSION}
    stayed = set(world.devices) - set(back)
    assert not stayed or running(world, *stayed) == {NEW_VERSION}
    ends = {"rollback_all": "rolled_back", "rollback_wave": "halted", "halt_and_assess": "halted"}
    assert world.phase() == ends.get(trigger.action, "completed")
    if not back:
        (halted,) = bodies(world, "rollout_halted")
        assert halted["reason"].startswith(trigger.name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.trigger.name)
def test_trigger_acts_on_its_scope_and_on_nobody_else(row: Row) -> None:
    world = go(row, row.fires)
    assert_it_acted(world, row.trigger, goes_back(world, row.trigger, row.fires.victims))


def misses() -> Iterator[object]:
    for row in ROWS:
        for name, harm in row.misses.items():
            yield pytest.param(row, harm, False, id=f"{row.trigger.name}-{name}")
        yield pytest.param(row, noisy(), True, id=f"{row.trigger.name}-restart_and_clock_jump")


@pytest.mark.parametrize(("row", "harm", "bothered"), tuple(misses()))
def test_rollout_completes_when_the_trigger_nearly_fires(row: Row, harm: Harm, *, bothered: bool) -> None:
    world = go(row, harm, bothered=bothered)
    assert bodies(world, "rollback_ordered") == bodies(world, "rollout_halted") == []
    assert world.phase() == "completed"
    assert running(world) == {NEW_VERSION}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.trigger.name)
def test_nothing_fires_and_nothing_passes_when_samples_do_not_show_what_happens(row: Row) -> None:
    world = go(row, row.fires, withheld=row.withheld)
    assert bodies(world, "rollback_ordered") == []
    assert gates(world)[-2:] == [(None, "inconclusive", "extend"), (None, "inconclusive", "halt")]
    (halted,) = bodies(world, "rollout_halted")
    assert halted["reason"].startswith(f"wave_gate is inconclusive: {row.check[0]}")


@pytest.mark.parametrize(("victims", "fires"), [(2, True), (1, False)], ids=["fires", "just_below"])
def test_wave_goes_back_when_more_than_a_fifth_of_it_failed(victims: int, *, fires: bool) -> None:
    world = make_world(FAILURES)
    harm = Harm(Behavior(starts=False), victims=victims)
    when(world, lambda: world.phase() == "awaiting_approval", lambda: harm.befall(world, wave(world, 1)))
    run(world)
    failed, others = wave(world, 1)[:victims], wave(world, 1)[victims:]
    assert sorted(fact["device"] for fact in bodies(world, "device_failed")) == failed
    assert [order["trigger"] for order in bodies(world, "rollback_ordered")] == [FAILURES.name] * fires
    assert running(world, *canaries(world)) == {NEW_VERSION}
    assert running(world, *others) == {OLD_VERSION if fires else NEW_VERSION}
    assert world.phase() == ("halted" if fires else "completed")


def test_no_wave_fails_and_none_passes_while_nothing_is_heard_of_it() -> None:
    world = make_world(FAILURES)

    def leave() -> None:
        for name in wave(world, 1):
            world.devices[name].sleep(AWAY_SECONDS)

    when(world, lambda: world.phase() == "awaiting_approval", leave)
    run(world)
    assert bodies(world, "rollback_ordered") == bodies(world, "rollout_halted") == []
    (left_at, _), (judged_at, _) = facts(world, "gate_judged")[-2:]
    assert judged_at - left_at > AWAY_SECONDS
    assert world.phase() == "completed"


def test_no_trigger_is_without_its_stories() -> None:
    shown = [*(row.trigger for row in ROWS), FAILURES]
    assert {each.condition.metric for each in shown} == TRIGGER_METRICS
    assert {each.name for each in shown} >= REFERENCE.keys()
