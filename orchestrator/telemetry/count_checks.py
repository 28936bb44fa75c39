"""Checks of what all devices count together: crashes, errors in the log, throttling.

An event is a fact: more samples cannot undo it, so a broken limit takes no minimum of samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.telemetry.devices import Counted, Names
from orchestrator.telemetry.evidence import Evidence, name_some
from orchestrator.telemetry.judgement import doubts, result
from orchestrator.telemetry.values import limit_text
from orchestrator.telemetry.window import Window
from schemas.documents import CheckResult
from schemas.policy import Check, CheckType


@dataclass(frozen=True, slots=True)
class _Count:
    """``missing`` are the fresh devices that do not count it."""

    noun: str
    by_device: Callable[[Window], Counted]
    missing: Callable[[Window], Names]


_COUNTS: Final[Mapping[CheckType, _Count]] = {
    "crash_count": _Count("restarts", lambda window: window.restarts, lambda window: window.without_restarts),
    "log_errors": _Count(
        "errors in the log", lambda window: window.log_errors, lambda window: window.without_log_errors
    ),
    "throttle_events": _Count(
        "times throttled", lambda window: window.throttles, lambda window: window.without_throttles
    ),
}


def check_count(check: Check, evidence: Evidence) -> CheckResult:
    """Judge the sum over all devices."""
    count, condition = _COUNTS[check.type], check.threshold
    window = evidence.window(check.window)
    limit, counted = condition.limit_value(None), count.by_device(window)
    total = counted.total
    text = f"{total} {count.noun} of {window.device_count} devices, {limit_text(condition, limit, None)}"
    if counted:
        text += f"; {name_some(counted.names)}"
    missing = doubts(check, limit, window, window.sample_count, "samples")
    if count.missing(window):
        missing.append(f"{name_some(count.missing(window))} do not count {count.noun}")
    return result(
        check,
        is_broken=limit is not None and not condition.holds(total, limit),
        doubts=missing,
        text=text,
        observed=float(total) if window.sample_count else None,
        limit=limit,
        samples=window.sample_count,
    )
