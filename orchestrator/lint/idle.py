"""Rules about limits that never act: beyond reach, without samples, or behind another limit."""

from collections.abc import Iterator

from orchestrator.lint.finding import Finding, error, note, percent, warning
from orchestrator.lint.numbers import EXECUTED_MIN, failures_tolerated
from orchestrator.lint.samples import too_few_samples
from orchestrator.lint.scene import WAVE_GATE, PlacedTrigger, Scene
from schemas.conditions import Absolute, Condition, Metric
from schemas.policy_triggers import Trigger
from schemas.times import format_duration


def never_trips(scene: Scene) -> Iterator[Finding]:
    """L001: what looks like a stop and cannot be one."""
    idle = [*_idle_checks(scene), *_idle_triggers(scene)]
    places = {each.where for each in idle}
    no_gate = all(each.where in places for each in scene.checks if each.gate == WAVE_GATE)
    if no_gate and all(each.where in places for each in scene.triggers):
        yield error(
            "L001",
            "health_gates.wave_gate",
            "after the canary no check and no trigger can ever stop this rollout; only installs that fail can",
            "give wave_gate a check, or declare a trigger, whose limit can be exceeded",
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
    yield from too_few_samples(scene)


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
        largest = max((devices for _, devices in scene.judged_devices(each)), default=0)
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
        reason = reason or _outlasts(each.trigger, scene)
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


def _outlasts(trigger: Trigger, scene: Scene) -> str:
    """Say why what must go on for so long cannot do so before the rollout is complete; empty if it can."""
    match trigger.condition.metric:
        case Metric.ENDPOINT_DOWN:
            needed = trigger.condition.limit_value(None)
        case Metric.ERROR_RATE_RISES:
            needed = trigger.reach_seconds
        case _:
            needed = None
    watched = scene.policy.rollout.canary.watch_seconds + sum(soak for _, soak in scene.soaks)
    if needed is None or needed <= watched:
        return ""
    return f"it takes {format_duration(needed)}, and canary and waves soak {format_duration(watched)} together"


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
        yield note(
            "L010",
            trigger.where,
            f"{said} has nothing left to do: every wave goes back at failed > {loosest:g}% already",
            f"a limit below {loosest:g}%, or keep it as a second line",
        )
