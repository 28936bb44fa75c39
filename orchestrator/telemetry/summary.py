"""How each group is, for people: published every few seconds and never judged."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from orchestrator.telemetry.group_windows import NOTHING, GroupWindow
from orchestrator.telemetry.monitor import Monitor

WINDOW_SECONDS: Final = 300.0


class GroupSummary(BaseModel):
    """One group over the last five minutes; None: not known.

    Attributes:
        fresh: Devices with a fresh sample.
        healthy: Of these, how many are healthy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    group: str
    devices: int
    fresh: int
    healthy: int
    requests: int
    error_rate: float | None
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None


def summarize(devices: Mapping[str, int], monitor: Monitor, *, now: float) -> dict[str, GroupSummary]:
    """Summarize the groups, given with the number of their devices; all that they did counts, on any version."""
    found = monitor.groups(seconds=WINDOW_SECONDS, now=now)
    return {group: _summarize(group, count, found.get(group, NOTHING)) for group, count in sorted(devices.items())}


def _summarize(group: str, devices: int, did: GroupWindow) -> GroupSummary:
    cell = did.together
    return GroupSummary(
        group=group,
        devices=devices,
        fresh=did.fresh_count,
        healthy=did.healthy_count,
        requests=round(cell.requests),
        error_rate=min(cell.errors / cell.requests, 1.0) if cell.requests else None,
        latency_p50_seconds=cell.latency.quantile(0.50),
        latency_p95_seconds=cell.latency.quantile(0.95),
        latency_p99_seconds=cell.latency.quantile(0.99),
    )
