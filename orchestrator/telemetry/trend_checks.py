"""Checks of trends: whether any device's memory grows or its disk fills up."""

from collections.abc import Mapping
from typing import Final

from orchestrator.telemetry.evidence import Evidence, format_value, limit_text, name_some
from orchestrator.telemetry.growth import Growth, read_growths
from orchestrator.telemetry.judgement import doubts, result
from schemas.conditions import Condition, GrowthPer, Metric, exact_duration
from schemas.messages import CheckResult
from schemas.policy import Check
from schemas.policy_gates import TREND_WINDOW_SECONDS
from schemas.times import format_duration

NOUNS: Final[Mapping[Metric, str]] = {Metric.MEMORY_GROWTH: "memory", Metric.DISK_GROWTH: "used disk"}


def check_trend(check: Check, evidence: Evidence) -> CheckResult:
    """Judge each device by itself and show the worst.

    It is broken only where a device's level rises beyond chance; where there are too few readings to show that, nothing
    is known of the device, and the check does not pass.
    """
    condition, seconds = check.threshold, check.window or TREND_WINDOW_SECONDS
    limit, noun = condition.limit_value(None), NOUNS[condition.metric]
    growths, untold = read_growths(condition, evidence, seconds)
    broken = [it for it in growths if it.is_certain and limit is not None and not condition.holds(it.amount, limit)]
    readings = sum(it.slope.points for it in growths)
    silent = evidence.window(evidence.deployed, seconds).silent
    missing = doubts(check, limit, silent, readings, "readings")
    if untold:
        missing.append(f"too few readings of {noun} from {name_some(untold)} to tell a trend")
    if not evidence.deployed:
        missing.append("no devices")
    worst = max(broken or growths, key=lambda it: it.amount, default=None)
    text = say_growth(condition, worst) if worst is not None and broken else ""
    if not broken:
        text = f"{noun} of {len(growths)} devices does not rise beyond the limit for certain"
        text += f"; {say_growth(condition, worst)} at most" if worst is not None else ""
    return result(
        check,
        is_broken=bool(broken),
        doubts=missing,
        text=f"{text}, {limit_text(condition, limit, None)}",
        observed=None if worst is None else worst.amount,
        limit=limit,
        samples=readings,
    )


def say_growth(condition: Condition, growth: Growth) -> str:
    """Say how fast a device's level grows, and how long it was watched."""
    assert isinstance(condition.limit, GrowthPer), "the condition of a growth"
    slope = growth.slope
    speed = f"{format_value(condition.metric, growth.amount)} per {exact_duration(condition.limit.per_seconds)}"
    seen = f"{slope.points} readings over {format_duration(slope.span_seconds)}"
    return f"{NOUNS[condition.metric]} of {growth.device} grows {speed} ({seen})"
