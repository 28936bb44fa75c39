"""Gates: whether what is deployed is good enough to go on.

Each check is one function, listed in ``CHECKS``; a gate is the worst of its checks. A check fails when the evidence at
hand breaks its limit, even if other evidence is missing; it passes only when nothing is missing.
"""

from collections.abc import Mapping
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.count_checks import check_count
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.evidence import Evidence
from orchestrator.telemetry.group_checks import check_groups
from orchestrator.telemetry.judgement import Judge, verdict_of
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.share_checks import (
    check_fleet_coverage,
    check_health,
    check_version_match,
)
from orchestrator.telemetry.trend_checks import check_trend
from schemas.documents import CheckResult
from schemas.policy import CheckType, Gate
from schemas.verdicts import Verdict

CHECKS: Final[Mapping[CheckType, Judge]] = {
    "error_rate": check_groups,
    "latency_p50": check_groups,
    "latency_p95": check_groups,
    "latency_p99": check_groups,
    "cpu": check_groups,
    "quality": check_groups,
    "memory_trend": check_trend,
    "disk_trend": check_trend,
    "crash_count": check_count,
    "log_errors": check_count,
    "throttle_events": check_count,
    "application_health": check_health,
    "device_health": check_health,
    "version_match": check_version_match,
    "fleet_coverage": check_fleet_coverage,
}
"""Where each check of the policy is defined."""


def judge_gate(
    gate: Gate,
    deployed: Devices,
    baselines: Mapping[str, Baseline],
    monitor: Monitor,
    *,
    version: str | None,
    now: float,
    coverage: tuple[int, int] | None = None,
) -> tuple[Verdict, tuple[CheckResult, ...]]:
    """Judge all devices that run the new version; the gate is the worst of its checks that are no dry runs.

    Args:
        gate: What must hold.
        deployed: The devices, with their groups. Without devices no check of them is conclusive.
        baselines: By group.
        monitor: What the samples say.
        version: The only one whose samples are evidence; None: whatever each device runs.
        now: Seconds.
        coverage: How many targets run the version for good, of how many; without it ``fleet_coverage`` is inconclusive.
    """
    evidence = Evidence(deployed, baselines, monitor, version, now, coverage)
    results = tuple(CHECKS[check.type](check, evidence) for check in gate.checks)
    return verdict_of(results), results
