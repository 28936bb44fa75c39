"""How each group and each wave is, for people: published every few seconds and never judged."""

from collections.abc import Mapping
from typing import Final

from orchestrator.telemetry.group_windows import NOTHING, GroupWindow
from orchestrator.telemetry.monitor import Monitor
from schemas.documents import GroupSummary, HealthSummary

WINDOW_SECONDS: Final = 300.0


def summarize(devices: Mapping[str, int], monitor: Monitor, *, now: float) -> dict[str, GroupSummary]:
    """Summarize the groups, given with the number of their devices; all that they did counts, on any version."""
    found = monitor.groups(seconds=WINDOW_SECONDS, now=now)
    return {
        group: GroupSummary(group=group, devices=count, **_summary(found.get(group, NOTHING)).model_dump())
        for group, count in sorted(devices.items())
    }


def summarize_waves(version: str, monitor: Monitor, *, now: float) -> dict[str, HealthSummary]:
    """Summarize the waves, as ``Place`` names them, of which something is known on ``version``."""
    found = monitor.waves(version=version, seconds=WINDOW_SECONDS, now=now)
    return {wave: _summary(did) for wave, did in found.items() if did.fresh_count or did.together.samples}


def _summary(did: GroupWindow) -> HealthSummary:
    cell = did.together
    return HealthSummary(
        fresh=did.fresh_count,
        healthy=did.healthy_count,
        requests=round(cell.requests),
        error_rate=min(cell.errors / cell.requests, 1.0) if cell.requests else None,
        latency_p50_seconds=cell.latency.quantile(0.50),
        latency_p95_seconds=cell.latency.quantile(0.95),
        latency_p99_seconds=cell.latency.quantile(0.99),
    )
