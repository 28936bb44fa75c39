"""Checks of trends: whether any device's memory grows or its disk fills up."""

from collections.abc import Mapping
from typing import Final

from orchestrator.telemetry.evidence import Evidence, name_some
from orchestrator.telemetry.growth import Growth, read_growths
from orchestrator.telemetry.judgement import doubts, result
from orchestrator.telemetry.values import format_value, limit_text
from schemas.conditions import Condition, GrowthPer, Metric, exact_duration
from schemas.documents import CheckResult
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
    growths = read_growths(condition, evidence, seconds, must_hold=True)
    missing = doubts(check, limit, evidence.window(seconds), growths.samples, "samples")
    if growths.untold:
        missing.append(f"too few readings of {noun} from {name_some(growths.untold)} to tell a trend")
    if not evidence.deployed:
        missing.append("no devices")
    worst = growths.broken[0] if growths.broken else growths.fastest
    text = say_growth(condition, growths.broken[0]) if growths.broken else ""
    if not growths.broken:
        text = f"{noun} of {growths.told} devices does not rise beyond the limit for certain"
        text += f"; {say_growth(condition, worst)} at most" if worst is not None else ""
    return result(
        check,
        is_broken=bool(growths.broken),
        doubts=missing,
        text=f"{text}, {limit_text(condition, limit, None)}",
        observed=None if worst is None else worst.amount,
        limit=limit,
        samples=growths.samples,
    )


def say_growth(condition: Condition, growth: Growth) -> str:
    """Say how fast a device's level grows, and how long it was watched."""
    assert isinstance(condition.limit, GrowthPer), "the condition of a growth"
    speed = f"{format_value(condition.metric, growth.amount)} per {exact_duration(condition.limit.per_seconds)}"
    seen = f"{growth.points} readings over {format_duration(growth.span_seconds)}"
    return f"{NOUNS[condition.metric]} of {growth.device} grows {speed} ({seen})"
