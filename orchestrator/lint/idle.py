"""Rules about limits that never act: beyond reach, without samples, or behind another limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.lint.finding import Finding, counted, error, info, long_enough, name_some, percent, warning
from orchestrator.lint.numbers import EXECUTED_MIN, failures_tolerated
from orchestrator.lint.scene import CANARY_GATE, WAVE_GATE, PlacedTrigger, Scene
from schemas.conditions import LATENCIES, Absolute, Condition, Metric
from schemas.times import format_duration

_PER_REQUEST: Final = frozenset({Metric.ERROR_RATE, *LATENCIES})
_PER_SAMPLE: Final = frozenset(
    {Metric.CRASH_COUNT, Metric.HEALTHY_PERCENTAGE, Metric.LOG_ERRORS, Metric.THROTTLE_EVENTS}
)


def never_trips(scene: Scene) -> Iterator[Finding]:
    """L001: what looks like a stop and cannot be one."""
    idle = [*_idle_checks(scene), *_idle_triggers(scene)]
    places = {each.where for each in idle}
    gates = {CANARY_GATE, WAVE_GATE}
    no_gate = all(each.where in places for each in scene.checks if each.gate in gates)
    if no_gate and all(each.where in places for each in scene.triggers):
        yield error(
            "L001",
            "health_gates",
            "no check and no trigger can ever stop this rollout; only installs that fail can",
            "give each gate a check, and declare a trigger, whose limit can be exceeded",
        )
    elif not scene.policy.rollback_triggers.all:
        yield warning(
            "L001",
            "rollback_triggers",
            "no trigger is declared: a wave that turns bad goes on until its gate at the end of the soak",
            "declare at least the reference's wave_failure_rate and error_rate_spike",
        )
    yield from idle
    yield from _idle_thresholds(scene)
    yield from _too_few_samples(scene)


def _idle_thresholds(scene: Scene) -> Iterator[Finding]:
    for each in scene.waves:
        limit = each.wave.failure_threshold_percent
        if failures_tolerated(EXECUTED_MIN, limit) >= EXECUTED_MIN - 1:
            yield warning(
                "L001",
                f"{each.where}.failure_threshold_percent",
                f"failed > {limit:g}% stops {each.wave.name} only when all of the first {EXECUTED_MIN} devices failed",
                "20 stops at the second failure of five",
            )


def _idle_checks(scene: Scene) -> Iterator[Finding]:
    for each in scene.checks:
        condition = each.check.threshold
        reason = _beyond_reach(condition, scene)
        largest = max((devices for _, devices in scene.judged_devices(each.gate)), default=0)
        if condition.metric is Metric.HEALTHY_PERCENTAGE and isinstance(condition.limit, Absolute) and largest > 1:
            share = 100 - condition.limit.value * 100
            if failures_tolerated(largest, share) >= largest - 1:
                reason = f"it fails only when all {largest:,} devices are unhealthy"
        if reason:
            yield warning("L001", each.where, f"{condition} never fails: {reason}", "bring the limit within reach")


def _idle_triggers(scene: Scene) -> Iterator[Finding]:
    between = scene.facts.sample_seconds if scene.facts else None
    for each in scene.triggers:
        reason = _beyond_reach(each.trigger.condition, scene)
        window = each.trigger.window_seconds
        if window is not None and between is not None and window < between:
            reason = f"its window is {format_duration(window)}, and samples come {format_duration(between)} apart"
        if reason:
            yield warning(
                "L001", each.where, f"{each.trigger.name} never fires: {reason}", "bring the limit within reach"
            )


def _beyond_reach(condition: Condition, scene: Scene) -> str:
    """Say why an error rate can never exceed its limit in any group; empty if it can, or may."""
    if condition.metric is not Metric.ERROR_RATE or not condition.needs_baseline or scene.facts is None:
        return ""
    known = [group.error_rate for group in scene.facts.groups.values() if group.error_rate is not None]
    limit = condition.limit_value(min(known)) if known else None
    if limit is None or limit < 1:
        return ""
    return f"with a baseline of {percent(min(known))} the limit is {limit * 100:.0f}%, and a rate ends at 100%"


@dataclass(frozen=True, slots=True)
class _Supply:
    """What some devices send, at most."""

    sender: str
    noun: str
    devices: int
    per_minute: float


def _too_few_samples(scene: Scene) -> Iterator[Finding]:
    """Where even all devices together send less than ``min_samples`` in the window."""
    for check in scene.checks:
        metric, wanted = check.check.threshold.metric, check.check.min_samples
        watched = [soak for _, soak in scene.watched_seconds(check.gate)]
        seconds = min([check.check.window or float("inf"), *watched])
        for each in _supplies(scene, metric, is_canary=check.gate == CANARY_GATE):
            yield from _short(f"{check.where}.min_samples", each, seconds, wanted, "the verdict stays inconclusive")
    for trigger in scene.triggers:
        window = trigger.trigger.window_seconds
        for each in _supplies(scene, trigger.trigger.condition.metric, is_canary=False) if window else ():
            so = f"{trigger.trigger.name} never fires"
            yield from _short(f"{trigger.where}.min_samples", each, window or 0.0, trigger.trigger.min_samples, so)


def _supplies(scene: Scene, metric: Metric, *, is_canary: bool) -> Iterator[_Supply]:
    facts = scene.facts
    if facts is None:
        return
    if metric in _PER_REQUEST:
        for name, group in facts.groups.items():
            devices = group.canary if is_canary else group.targets
            if group.requests_per_minute is not None and devices:
                yield _Supply(f"group {name_some([name])}", "request", devices, group.requests_per_minute)
    elif metric in _PER_SAMPLE and facts.sample_seconds:
        devices = facts.canary if is_canary else facts.targets
        yield _Supply("the canary" if is_canary else "the fleet", "sample", devices, 60 / facts.sample_seconds)


def _short(where: str, supply: _Supply, seconds: float, wanted: int, so: str) -> Iterator[Finding]:
    per_minute = supply.per_minute * supply.devices
    expected = per_minute * seconds / 60
    if expected < wanted:
        longer = long_enough(wanted, per_minute)
        yield warning(
            "L001",
            where,
            f"{supply.sender} ({counted(supply.devices, 'device')}) sends about {int(expected)} {supply.noun}s in "
            f"{format_duration(seconds)}, {wanted} are needed: {so}",
            f"min_samples: {max(1, int(expected / 2))}{f', or {longer}' if longer else ''}",
        )


def hidden_limits(scene: Scene) -> Iterator[Finding]:
    """L010: of a wave's threshold and a trigger on the same failures, one never acts."""
    for each in scene.triggers:
        limit = each.trigger.condition.limit
        if each.trigger.condition.metric is Metric.FAILED_PERCENTAGE and isinstance(limit, Absolute):
            yield from _compare(scene, each, limit.value * 100)


def _compare(scene: Scene, trigger: PlacedTrigger, fires_above: float) -> Iterator[Finding]:
    waves = list(scene.waves)
    said = f"{trigger.trigger.name} ({trigger.trigger.condition})"
    for each in waves:
        if each.wave.failure_threshold_percent > fires_above:
            yield warning(
                "L010",
                f"{each.where}.failure_threshold_percent",
                f"{each.wave.name} never has failed > {each.wave.failure_threshold_percent:g}% of all its devices: "
                f"{said} acts before",
                f"{fires_above:g} or less, or a looser trigger",
            )
    loosest = max((each.wave.failure_threshold_percent for each in waves), default=fires_above)
    goes_back = all(each.wave.auto_rollback for each in waves) and trigger.trigger.action == "rollback_wave"
    if loosest < fires_above and goes_back:
        yield info(
            "L010",
            trigger.where,
            f"{said} has nothing left to do: every wave goes back at failed > {loosest:g}% already",
            f"a limit below {loosest:g}%, or keep it as a second line",
        )
