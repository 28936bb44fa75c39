"""The rollout policy, in the reference's own names and units.

The reference's blocks ``rollout`` (canary, waves, global), ``rolling_update``, ``health_gates`` and
``rollback_triggers``, plus ``baseline`` and a few settings of ours. Values stay as written (minutes are minutes),
seconds are properties. What cannot be judged is refused, never ignored; there is no silent default for a misspelt key.

Source:
    Reference, "Wave Configuration", "Configuration Parameters", "Defining Health Gates", "Trigger Definitions".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from schemas.conditions import Condition, Metric, check_sense, parse_duration, parse_threshold, parse_trigger
from schemas.errors import PolicyError
from schemas.ids import Id
from schemas.messages import CommitOn, HealthCheck, Strategy

Minutes = Annotated[float, Field(ge=0, le=60 * 24 * 60)]
Percent = Annotated[float, Field(gt=0, le=100)]


@contextmanager
def _blaming_the_author() -> Iterator[None]:
    """Tell pydantic, which adds the place, of a text that does not parse."""
    try:
        yield
    except PolicyError as error:
        raise ValueError(str(error)) from error


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    with _blaming_the_author():
        return parse_duration(value)


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
"""Written ``15m`` or ``24h``; held in seconds."""


def _percent(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        return float(value[:-1]) if value[:-1].replace(".", "", 1).isdigit() else value
    return value


PercentText = Annotated[float, BeforeValidator(_percent), Field(gt=0, le=100)]
"""Written ``10%``; held as a number of percent."""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def divided(self, time_scale: float, *names: str) -> Self:
        """Return the block with the named numbers divided by ``time_scale``."""
        return self.model_copy(update={name: getattr(self, name) / time_scale for name in names})


class CanaryPolicy(_Block):
    """How many devices go first and for how long they are watched."""

    percentage: Percent | None = None
    min_devices: Annotated[int, Field(ge=1)] = 1
    max_devices: Annotated[int, Field(ge=1)] | None = None
    immediate_minutes: Minutes = 5.0
    short_term_minutes: Minutes = 30.0
    soak_minutes: Minutes = 30.0
    require_human_approval_after: bool = True

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.max_devices is not None and self.min_devices > self.max_devices:
            raise ValueError(f"min_devices {self.min_devices} is above max_devices {self.max_devices}")
        if self.immediate_minutes > self.short_term_minutes:
            raise ValueError("immediate_minutes ends after short_term_minutes")
        return self

    @property
    def watch_seconds(self) -> float:
        """From the first moment of the evaluation to the end of the soak."""
        return (self.short_term_minutes + self.soak_minutes) * 60


class WavePolicy(_Block):
    """One ordered part of the rollout. The last wave takes all that is left, whatever its percentage."""

    name: Id
    percentage: Percent
    soak_minutes: Minutes
    failure_threshold_percent: Annotated[float, Field(ge=0, lt=100)] = 5.0
    auto_rollback: bool = True


class GlobalPolicy(_Block):
    """Limits over all waves of the rollout."""

    max_parallel_deploys: Annotated[int, Field(ge=1)] = 50
    deploy_timeout_minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 10.0
    health_check_interval_seconds: Annotated[float, Field(gt=0, le=86400)] = 30.0
    health_check_retries: Annotated[int, Field(ge=1, le=1000)] = 3
    offline_device_policy: Literal["skip_and_queue"] = "skip_and_queue"

    @property
    def deploy_timeout_seconds(self) -> float:
        """From the grant until a device must have committed or failed."""
        return self.deploy_timeout_minutes * 60


class RolloutBlock(_Block):
    """The ``rollout:`` block."""

    canary: CanaryPolicy = CanaryPolicy()
    waves: Annotated[tuple[WavePolicy, ...], Field(min_length=1, max_length=64)]
    global_: Annotated[GlobalPolicy, Field(alias="global")] = GlobalPolicy()

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = ["canary", *(wave.name for wave in self.waves)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two waves are called {twice[0]!r}")
        return self


class RollingUpdate(_Block):
    """The ``rolling_update:`` block: availability while devices are updated, and when one counts as healthy."""

    max_unavailable: PercentText = 10.0
    min_available: PercentText = 90.0
    health_check: HealthCheck = HealthCheck()
    min_ready_seconds: Annotated[float, Field(ge=0, le=86400)] = 60.0
    progress_deadline: Annotated[float, Field(gt=0, le=7 * 86400)] = 300.0
    rollback_on_failure: Literal[True] = True
    """A device that fails always goes back; it cannot be told not to."""


CHECK_METRICS: Final[Mapping[str, Metric]] = {
    "error_rate": Metric.ERROR_RATE,
    "latency_p95": Metric.LATENCY_P95,
    "crash_count": Metric.CRASH_COUNT,
    "application_health": Metric.HEALTHY_PERCENTAGE,
    "device_health": Metric.HEALTHY_PERCENTAGE,
}
"""Every check that a gate may name, and what it observes. A new check starts here."""

CheckType = Literal["error_rate", "latency_p95", "crash_count", "application_health", "device_health"]


class Check(_Block):
    """One rule of a gate.

    Attributes:
        threshold: What must hold.
        window: Seconds of telemetry that are judged; None takes all that is kept since the version started.
        min_samples: Requests (rates and latencies) or samples (the others) below which it is inconclusive.
    """

    type: CheckType
    threshold: Condition
    window: Duration | None = None
    min_samples: Annotated[int, Field(ge=1)] = 20

    @field_validator("threshold", mode="before")
    @classmethod
    def _parse_threshold(cls, value: object, info: ValidationInfo) -> object:
        metric = CHECK_METRICS.get(info.data.get("type", ""))
        if metric is None or isinstance(value, dict | Condition):
            return value
        with _blaming_the_author():
            return parse_threshold(str(value), metric)

    @field_validator("threshold")
    @classmethod
    def _can_be_judged(cls, threshold: Condition, info: ValidationInfo) -> Condition:
        metric = CHECK_METRICS.get(info.data.get("type", ""))
        if metric is not None and threshold.metric is not metric:
            raise ValueError(f"is about {threshold.metric}, a check of {info.data['type']} is not")
        with _blaming_the_author():
            check_sense(threshold, must_hold=True)
        return threshold


class Gate(_Block):
    """A checkpoint: it passes only if each of its checks passes."""

    description: str = ""
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
    verdict: Literal["all_checks_pass"] = "all_checks_pass"


class HealthGates(_Block):
    """The ``health_gates:`` block."""

    canary_gate: Gate
    wave_gate: Gate
    completion_gate: Gate | None = None


TRIGGER_METRICS: Final = frozenset(
    {Metric.DEVICE_RESTARTS, Metric.ENDPOINT_DOWN, Metric.FAILED_PERCENTAGE, Metric.ERROR_RATE}
)
"""What a trigger may watch. A new trigger starts here."""

Scope = Literal["single_device", "current_wave", "all_deployed", "affected_devices"]
TriggerAction = Literal["rollback_device", "rollback_wave", "rollback_all", "rollback_affected", "halt_and_assess"]


class Trigger(_Block):
    """A streaming rule that orders a rollback while the rollout runs."""

    name: Id
    condition: Condition
    window: Duration | None = None
    scope: Scope
    action: TriggerAction
    min_samples: Annotated[int, Field(ge=1)] = 20

    @field_validator("condition", mode="before")
    @classmethod
    def _parse_condition(cls, value: object) -> object:
        if isinstance(value, dict | Condition):
            return value
        with _blaming_the_author():
            return parse_trigger(str(value))

    @field_validator("condition")
    @classmethod
    def _can_be_watched(cls, condition: Condition) -> Condition:
        if condition.metric not in TRIGGER_METRICS:
            raise ValueError(f"no trigger watches {condition.metric}")
        with _blaming_the_author():
            check_sense(condition, must_hold=False)
        return condition

    @property
    def window_seconds(self) -> float | None:
        """The time over which the metric is counted, from the condition or beside it."""
        return self.condition.window_seconds or self.window


class RollbackTriggers(_Block):
    """The ``rollback_triggers:`` block."""

    immediate: tuple[Trigger, ...] = ()
    threshold: tuple[Trigger, ...] = ()
    trend: tuple[Trigger, ...] = ()

    @property
    def all(self) -> tuple[Trigger, ...]:
        """All triggers, the immediate ones first."""
        return (*self.immediate, *self.threshold, *self.trend)


class BaselinePolicy(_Block):
    """What a group's normal operation is taken from."""

    window: Duration = 24 * 3600.0
    min_samples: Annotated[int, Field(ge=1)] = 20


class Policy(_Block):
    """A whole policy file."""

    rollout: RolloutBlock
    rolling_update: RollingUpdate = RollingUpdate()
    health_gates: HealthGates
    rollback_triggers: RollbackTriggers
    baseline: BaselinePolicy = BaselinePolicy()
    strategy: Strategy = "blue_green"
    commit_on: CommitOn = "round_trip"
    four_eyes: bool = False
    max_soak_extensions: Annotated[int, Field(ge=0, le=100)] = 3

    @model_validator(mode="after")
    def _availability_can_hold(self) -> Self:
        update = self.rolling_update
        if update.max_unavailable + update.min_available > 100:  # noqa: PLR2004 - percent of the fleet
            raise ValueError(
                f"rolling_update: max_unavailable {update.max_unavailable:g}% and min_available "
                f"{update.min_available:g}% can never both hold; together they may be 100% at most"
            )
        return self

    def scaled(self, time_scale: float) -> "Policy":
        """Return the policy with every duration divided by ``time_scale`` (above 0); 60 makes an hour a minute.

        Only how long a device waits for one answer of its application stays: no program answers faster for it.
        """
        rollout, update = self.rollout, self.rolling_update
        canary = rollout.canary.divided(time_scale, "immediate_minutes", "short_term_minutes", "soak_minutes")
        waves = tuple(wave.divided(time_scale, "soak_minutes") for wave in rollout.waves)
        limits = rollout.global_.divided(time_scale, "deploy_timeout_minutes", "health_check_interval_seconds")
        health = update.health_check
        health = health.model_copy(update={"interval_seconds": health.interval_seconds / time_scale})
        update = update.divided(time_scale, "min_ready_seconds", "progress_deadline")
        gates, triggers = self.health_gates, self.rollback_triggers
        return self.model_copy(
            update={
                "rollout": rollout.model_copy(update={"canary": canary, "waves": waves, "global_": limits}),
                "rolling_update": update.model_copy(update={"health_check": health}),
                "health_gates": gates.model_copy(
                    update={name: _scaled_gate(gate, time_scale) for name, gate in gates if gate is not None}
                ),
                "rollback_triggers": triggers.model_copy(
                    update={name: tuple(_scaled_trigger(t, time_scale) for t in group) for name, group in triggers}
                ),
                "baseline": self.baseline.divided(time_scale, "window"),
            }
        )


def _scaled_gate(gate: Gate, time_scale: float) -> Gate:
    checks = [
        check.model_copy(
            update={
                "threshold": check.threshold.scaled(time_scale),
                "window": None if check.window is None else check.window / time_scale,
            }
        )
        for check in gate.checks
    ]
    return gate.model_copy(update={"checks": tuple(checks)})


def _scaled_trigger(trigger: Trigger, time_scale: float) -> Trigger:
    window = None if trigger.window is None else trigger.window / time_scale
    return trigger.model_copy(update={"condition": trigger.condition.scaled(time_scale), "window": window})
