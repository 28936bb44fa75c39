"""The ``health_gates:`` block: what must hold before a rollout goes on.

Source:
    Reference, "Defining Health Gates".
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from schemas.condition_text import parse_threshold
from schemas.conditions import Condition, Metric, check_sense
from schemas.policy_block import Block, Duration, blaming_the_author

CheckType = Literal[
    "error_rate", "latency_p50", "latency_p95", "latency_p99", "cpu", "quality", "memory_trend", "disk_trend",
    "crash_count", "log_errors", "throttle_events", "application_health", "device_health", "version_match",
    "fleet_coverage",
]  # fmt: skip

CHECK_METRICS: Final[Mapping[CheckType, Metric]] = {
    "error_rate": Metric.ERROR_RATE,
    "latency_p50": Metric.LATENCY_P50,
    "latency_p95": Metric.LATENCY_P95,
    "latency_p99": Metric.LATENCY_P99,
    "cpu": Metric.CPU,
    "quality": Metric.QUALITY,
    "memory_trend": Metric.MEMORY_GROWTH,
    "disk_trend": Metric.DISK_GROWTH,
    "crash_count": Metric.CRASH_COUNT,
    "log_errors": Metric.LOG_ERRORS,
    "throttle_events": Metric.THROTTLE_EVENTS,
    "application_health": Metric.HEALTHY_PERCENTAGE,
    "device_health": Metric.HEALTHY_PERCENTAGE,
    "version_match": Metric.MATCHING_PERCENTAGE,
    "fleet_coverage": Metric.DEPLOYED_PERCENTAGE,
}
"""Every check that a gate may name, and what it observes. A new check starts here."""

TREND_WINDOW_SECONDS: Final = 1800.0
"""Over how long a trend is looked at where the policy does not say: the reference's 30 minutes."""

_TREND_CHECKS: Final = frozenset({"memory_trend", "disk_trend"})
assert set(get_args(CheckType)) == set(CHECK_METRICS), "a type and what it observes belong together"


class Check(Block):
    """One rule of a gate."""

    type: CheckType
    threshold: Condition
    """What must hold, for example ``baseline + 2%``."""
    window: Duration | None = None
    """How much telemetry is judged; without it all that is kept since the version started, of a trend 30 minutes."""
    min_samples: Annotated[int, Field(ge=1)] = 20
    """Requests (rates and latencies) or samples (the others) below which it is inconclusive."""
    consecutive_error_limit: Annotated[int, Field(ge=0, le=100)] | None = None
    """So often in a row it may be inconclusive and have the soak extended; once more halts the rollout.

    Without it only ``max_soak_extensions`` counts.
    """
    dry_run: bool = False
    """Judged and shown, and without a say in the gate: to see what a new check would make of a rollout."""

    @model_validator(mode="before")
    @classmethod
    def _has_a_window_for_a_trend(cls, value: Any) -> Any:  # noqa: ANN401 - not validated yet
        if isinstance(value, dict) and str(value.get("type")) in _TREND_CHECKS and value.get("window") is None:
            return {**value, "window": TREND_WINDOW_SECONDS}
        return value

    @field_validator("threshold", mode="before", json_schema_input_type=str | float)
    @classmethod
    def _parse_threshold(cls, value: object, info: ValidationInfo) -> object:
        metric = CHECK_METRICS.get(info.data.get("type", ""))
        if metric is None or isinstance(value, dict | Condition):
            return value
        with blaming_the_author():
            return parse_threshold(str(value), metric)

    @field_validator("threshold")
    @classmethod
    def _can_be_judged(cls, threshold: Condition, info: ValidationInfo) -> Condition:
        metric = CHECK_METRICS.get(info.data.get("type", ""))
        if metric is not None and threshold.metric is not metric:
            raise ValueError(f"is about {threshold.metric}, a check of {info.data['type']} is not")
        with blaming_the_author():
            check_sense(threshold, must_hold=True)
        return threshold


class Gate(Block):
    """A checkpoint: it passes only if each of its checks passes."""

    description: str = ""
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
    verdict: Literal["all_checks_pass"] = "all_checks_pass"

    @field_validator("checks")
    @classmethod
    def _has_a_say(cls, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        if all(check.dry_run for check in checks):
            raise ValueError("all checks are dry runs, so nothing could ever pass; let one of them count")
        return checks


def _gate(description: str, *checks: tuple[CheckType, object, str | None]) -> Gate:
    rows = [{"type": type_, "threshold": threshold, "window": window} for type_, threshold, window in checks]
    return Gate.model_validate({"description": description, "checks": rows})


REFERENCE_CANARY_GATE: Final = _gate(
    "Canary devices healthy after soak period",
    ("error_rate", "baseline + 2%", "15m"),
    ("latency_p95", "baseline + 20%", "15m"),
    ("memory_trend", "growth < 1% per 10m", "30m"),
    ("application_health", "all_healthy", None),
    ("crash_count", 0, "30m"),
)
REFERENCE_WAVE_GATE: Final = _gate(
    "All deployed devices healthy",
    ("error_rate", "baseline + 5%", "10m"),
    ("latency_p95", "baseline + 30%", "10m"),
    ("device_health", "healthy_percentage >= 95%", None),
    ("crash_count", 0, "10m"),
)
REFERENCE_COMPLETION_GATE: Final = _gate(
    "Full fleet healthy post-deployment",
    ("error_rate", "baseline + 2%", "30m"),
    ("fleet_coverage", "deployed_percentage >= 95%", None),
    ("device_health", "healthy_percentage >= 98%", None),
)


class HealthGates(Block):
    """The ``health_gates:`` block; the canary's and the waves' gate are the reference's where they are not written."""

    canary_gate: Gate = REFERENCE_CANARY_GATE
    wave_gate: Gate = REFERENCE_WAVE_GATE
    completion_gate: Gate | None = None
    """After the last wave's gate; without it that one is the last."""


REFERENCE_GATES: Final = HealthGates(completion_gate=REFERENCE_COMPLETION_GATE)
"""The reference's block: what a policy has that holds no ``health_gates:``."""
