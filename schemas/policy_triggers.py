"""The ``rollback_triggers:`` block: what must not happen while a rollout runs.

Source:
    Reference, "Trigger Definitions".
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from schemas.condition_text import parse_trigger
from schemas.conditions import LATENCIES, Condition, Metric, check_sense
from schemas.ids import Id
from schemas.policy_block import Block, Duration, blaming_the_author
from schemas.policy_gates import TREND_WINDOW_SECONDS

TRIGGER_METRICS: Final = frozenset(
    {
        Metric.DEVICE_RESTARTS,
        Metric.ENDPOINT_DOWN,
        Metric.FAILED_PERCENTAGE,
        Metric.ERROR_RATE,
        *LATENCIES,
        Metric.CPU,
        Metric.MEMORY_GROWTH,
        Metric.DISK_GROWTH,
        Metric.ERROR_RATE_RISES,
        Metric.TEMPERATURE,
    }
)
"""What a trigger may watch. A new trigger starts here."""

_WINDOWS: Final[Mapping[Metric, float]] = {
    Metric.MEMORY_GROWTH: TREND_WINDOW_SECONDS,
    Metric.DISK_GROWTH: TREND_WINDOW_SECONDS,
    Metric.TEMPERATURE: TREND_WINDOW_SECONDS,
    Metric.ERROR_RATE_RISES: 300.0,
}
"""What is looked at where a trend's window is not written: for the error rate, five minutes for each check."""

Scope = Literal["single_device", "current_wave", "all_deployed", "affected_devices"]
TriggerAction = Literal["rollback_device", "rollback_wave", "rollback_all", "rollback_affected", "halt_and_assess"]


class Trigger(Block):
    """A streaming rule that orders a rollback while the rollout runs."""

    name: Id
    condition: Condition
    """What must not happen, for example ``error_rate > baseline + 10%``."""
    window: Duration | None = None
    """Over which the metric is taken; of ``error_rate increasing``, of each check."""
    scope: Scope
    action: TriggerAction
    min_samples: Annotated[int, Field(ge=1)] = 20
    """Requests, latencies or samples below which there is no evidence; of each check likewise."""

    @field_validator("condition", mode="before", json_schema_input_type=str)
    @classmethod
    def _parse_condition(cls, value: object) -> object:
        if isinstance(value, dict | Condition):
            return value
        with blaming_the_author():
            return parse_trigger(str(value))

    @field_validator("condition")
    @classmethod
    def _can_be_watched(cls, condition: Condition) -> Condition:
        if condition.metric not in TRIGGER_METRICS:
            raise ValueError(f"no trigger watches {condition.metric}")
        with blaming_the_author():
            check_sense(condition, must_hold=False)
        return condition

    @model_validator(mode="after")
    def _has_a_window_for_a_trend(self) -> Self:
        window = _WINDOWS.get(self.condition.metric)
        if self.window_seconds is None and window is not None:
            object.__setattr__(self, "window", window)  # It is being built, and nobody has seen it yet.
        return self

    @property
    def window_seconds(self) -> float | None:
        """The time over which the metric is counted, from the condition or beside it."""
        return self.condition.window_seconds or self.window

    @property
    def reach_seconds(self) -> float | None:
        """How far back it looks: a rate that rises from check to check takes one more check than it rises."""
        limit, window = self.condition.limit_value(None), self.window_seconds
        if window is None or limit is None or self.condition.metric is not Metric.ERROR_RATE_RISES:
            return window
        return window * (int(limit) + 1)


def _trigger(name: str, condition: str, scope: Scope, action: TriggerAction, window: str | None = None) -> Trigger:
    fields: dict[str, Any] = {"name": name, "condition": condition, "scope": scope, "action": action, "window": window}
    return Trigger.model_validate(fields)


class RollbackTriggers(Block):
    """The ``rollback_triggers:`` block; a list that is not written holds none."""

    immediate: tuple[Trigger, ...] = ()
    threshold: tuple[Trigger, ...] = ()
    trend: tuple[Trigger, ...] = ()

    @property
    def all(self) -> tuple[Trigger, ...]:
        """All triggers, the immediate ones first."""
        return (*self.immediate, *self.threshold, *self.trend)


REFERENCE_TRIGGERS: Final = RollbackTriggers(
    immediate=(
        _trigger("crash_loop", "device restarts > 3 in 5 minutes", "single_device", "rollback_device"),
        _trigger(
            "health_endpoint_down", "health endpoint unreachable for > 2 minutes", "single_device", "rollback_device"
        ),
        _trigger("wave_failure_rate", "failed devices > 20% of wave", "current_wave", "rollback_wave"),
    ),
    threshold=(
        _trigger("error_rate_spike", "error_rate > baseline + 10%", "all_deployed", "rollback_all", "5m"),
        _trigger("latency_spike", "p95_latency > baseline * 2.0", "current_wave", "halt_and_assess", "5m"),
        _trigger("memory_leak", "memory_growth > 5% per 10 minutes", "affected_devices", "rollback_affected", "30m"),
    ),
    trend=(
        _trigger(
            "gradual_degradation", "error_rate increasing for 3 consecutive checks", "all_deployed", "halt_and_assess"
        ),
        _trigger(
            "thermal_escalation", "temperature trending toward thermal limit", "affected_devices", "halt_and_assess"
        ),
    ),
)
"""The reference's block: what a policy has that holds no ``rollback_triggers:``."""
