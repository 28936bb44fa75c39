"""Numbers of checks as people read them: in the metric's unit, with how much room is left to the limit."""

import re
from typing import Final

from orchestrator.telemetry.values import format_value
from schemas.conditions import Metric
from schemas.documents import CheckResult
from schemas.times import parse_timestamp

_CONDITION: Final = re.compile(r"(?P<metric>.+?) (?P<operator><=|>=|<|>) (?P<bound>.+)")
_HOUR_SECONDS: Final = 3600


def value_text(check: CheckResult, value: float | None) -> str:
    """Write a value of ``check`` in its metric's unit; ``-`` where it is not known."""
    if value is None:
        return "-"
    metric = _metric(check)
    return f"{value:.4g}" if metric is None else format_value(metric, value)


def limit_text(check: CheckResult) -> str:
    """Write the limit with the rule it comes from: ``2.31% (baseline + 2pp)``."""
    match = _CONDITION.fullmatch(check.limit_expr)
    rule = match["bound"] if match else check.limit_expr
    if check.limit is None:
        return rule
    value = value_text(check, check.limit)
    return f"{value} ({rule})" if rule.startswith("baseline") else value


def margin(check: CheckResult) -> float | None:
    """Return which share of the room to the limit is left: 1 is as good as the baseline, below 0 is beyond the limit.

    The room is between the baseline and the limit; without a baseline it starts at zero, or at 100% where more is
    better. None where there is no room at all or nothing was observed.
    """
    match = _CONDITION.fullmatch(check.limit_expr)
    if check.observed is None or check.limit is None or match is None:
        return None
    more_is_better = match["operator"].startswith(">")
    if check.verdict == "fail" and more_is_better is (check.observed > check.limit):
        more_is_better = not more_is_better  # A trigger says what must not be, a check what must.
    best = check.baseline if check.baseline is not None else float(more_is_better)
    room = abs(check.limit - best)
    left = check.observed - check.limit if more_is_better else check.limit - check.observed
    return min(1.0, left / room) if room else None


def margin_text(check: CheckResult) -> str:
    """Write the margin as a whole percentage."""
    left = margin(check)
    return "-" if left is None else f"{left * 100:.0f}%"


def clock(seconds: float) -> str:
    """Write a duration as ``12:05`` or ``1:12:05``: it stands still while it counts."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, _HOUR_SECONDS)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes:02d}:{left:02d}"


def ago(timestamp: str, now: float) -> str:
    """Write how long ago a moment was: ``12 min``, ``3 h``, ``2 d``."""
    seconds = max(0, round(now - parse_timestamp(timestamp)))
    for unit, size in (("d", 86_400), ("h", _HOUR_SECONDS), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def time_of_day(timestamp: str) -> str:
    """Return the time of an RFC 3339 moment in UTC, ``10:21:07``; the orchestrator writes no other zone."""
    return timestamp[11:19]


def _metric(check: CheckResult) -> Metric | None:
    match = _CONDITION.fullmatch(check.limit_expr)
    try:
        return Metric(match["metric"]) if match else None
    except ValueError:
        return None
