"""``list`` with ``what: health``: the devices that are worst off, each with why, for people; none is judged."""

import json
from collections.abc import Sequence
from typing import Any, Final

from orchestrator.core.answers import Outcome, accept
from orchestrator.core.state import State
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.summary import WINDOW_SECONDS
from orchestrator.telemetry.worst import DeviceHealth
from schemas.times import format_duration

ROWS_BYTES_MAX: Final = 56 * 1024
"""What the rows of an answer may take: with all else it must fit into one message."""
_GROWTH_SHOWN: Final = 0.01
"""Memory that grows less in ten minutes is no reason to look."""


def list_health(state: State, monitor: Monitor, names: Sequence[str], limit: int, now: float) -> Outcome:
    """Answer with the worst of ``names``, as many of ``limit`` as fit into a message, and count who is not well."""
    worst = monitor.worst(names, limit=limit, seconds=WINDOW_SECONDS, now=now)
    rows: list[dict[str, Any]] = []
    size = 0
    for each in worst.devices:
        row = _row(each, state.devices[each.device].info.group, worst.kept_seconds)
        size += len(json.dumps(row))
        if size > ROWS_BYTES_MAX:
            break
        rows.append(row)
    return accept(
        {
            "devices": rows,
            "count": len(names),
            "unhealthy": worst.unwell_count,
            "suspect": worst.suspect_count,
            "silent": worst.silent_count,
            "window_seconds": min(WINDOW_SECONDS, worst.kept_seconds),
            "kept_seconds": worst.kept_seconds,
        }
    )


def _row(each: DeviceHealth, group: str, kept_seconds: float) -> dict[str, Any]:
    return {
        "device": each.device,
        "group": group,
        "version": each.version,
        "healthy": each.healthy,
        "down_seconds": _rounded(each.down_seconds, 1),
        "bad_samples": each.bad_samples,
        "silent": each.silent,
        "sample_age_seconds": _rounded(each.sample_age_seconds, 1),
        "requests": each.requests,
        "errors": each.errors,
        "error_rate": _rounded(each.error_rate, 6),
        "restarts": each.restarts,
        "memory_growth": _rounded(each.memory_growth, 4),
        "why": "; ".join(reasons(each, kept_seconds)),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def reasons(each: DeviceHealth, kept_seconds: float) -> list[str]:
    """Say in words why somebody should look at a device, the gravest first; nothing of one that is well."""
    kept = format_duration(kept_seconds)
    found = []
    if each.down_seconds is not None:
        seconds = round(each.down_seconds)
        found.append(f"endpoint down for {format_duration(seconds)}" if seconds else "endpoint down")
    elif each.healthy is False:
        found.append("was not healthy when last heard" if each.silent else "says that it is not healthy")
    if each.bad_samples:
        found.append(f"{_counted(each.bad_samples, 'bad sample')} in {kept}")
    if each.silent:
        age = each.sample_age_seconds
        found.append("never heard" if age is None else f"silent for {format_duration(round(age))}")
    if each.errors:
        found.append(f"{each.errors:,} of {each.requests:,} requests failed")
    if each.restarts:
        found.append(f"{_counted(each.restarts, 'restart')} in {kept}")
    if each.memory_growth is not None and each.memory_growth >= _GROWTH_SHOWN:
        found.append(f"memory grows {each.memory_growth * 100:.2g}% in 10 min")
    return found


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
