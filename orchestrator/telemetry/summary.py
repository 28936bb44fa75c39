"""How each group is, for people: published every few seconds and never judged."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from orchestrator.telemetry.monitor import Monitor

WINDOW_SECONDS: Final = 300.0


class GroupSummary(BaseModel):
    """One group over the last five minutes, each device with the version it runs; None: not known.

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


def summarize(group_of: Mapping[str, str], monitor: Monitor, *, now: float) -> dict[str, GroupSummary]:
    """Summarize the devices given with their groups, by group."""
    members: dict[str, list[str]] = {}
    for device, group in group_of.items():
        members.setdefault(group, []).append(device)
    return {group: _summarize(group, devices, monitor, now) for group, devices in sorted(members.items())}


def _summarize(group: str, devices: list[str], monitor: Monitor, now: float) -> GroupSummary:
    window = monitor.window(devices, version=None, seconds=WINDOW_SECONDS, now=now)
    return GroupSummary(
        group=group,
        devices=window.device_count,
        fresh=len(window.fresh),
        healthy=window.healthy_count,
        requests=window.request_count,
        error_rate=window.error_rate,
        latency_p50_seconds=window.latency.quantile(0.50),
        latency_p95_seconds=window.latency.quantile(0.95),
        latency_p99_seconds=window.latency.quantile(0.99),
    )
