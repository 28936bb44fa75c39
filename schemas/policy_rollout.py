"""The ``rollout:`` and ``rolling_update:`` blocks of a policy, and when devices may be updated.

Source:
    Reference, "Canary Deployment Pattern", "Wave Configuration" and "Configuration Parameters".
"""

from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from schemas.ids import Id
from schemas.messages import HealthCheck
from schemas.policy_block import SCALES, Block, Minutes, Percent, PercentText
from schemas.policy_phases import CANARY_PHASES, CanaryPhase, CanaryPhases
from schemas.windows import MaintenanceWindow as MaintenanceWindow  # noqa: PLC0414 - a block of the policy as well


class CanaryPolicy(Block):
    """How many devices go first and for how long they are watched."""

    percentage: Percent | None = None
    """Of all targets; without it the reference's table decides."""
    min_devices: Annotated[int, Field(ge=1)] = 1
    max_devices: Annotated[int, Field(ge=1)] | None = None
    immediate_minutes: Minutes = 5.0
    short_term_minutes: Minutes = 30.0
    soak_minutes: Minutes = 30.0
    require_human_approval_after: bool = True
    phases: CanaryPhases = CanaryPhases()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.max_devices is not None and self.min_devices > self.max_devices:
            raise ValueError(f"min_devices {self.min_devices} is above max_devices {self.max_devices}")
        if self.immediate_minutes > self.short_term_minutes:
            raise ValueError("immediate_minutes ends after short_term_minutes")
        return self

    def phase_seconds(self, phase: CanaryPhase) -> float:
        """Return how long a phase lasts; of no length it is left out."""
        minutes = {
            "immediate": self.immediate_minutes,
            "short_term": self.short_term_minutes - self.immediate_minutes,
            "soak": self.soak_minutes,
        }
        return minutes[phase] * 60

    @property
    def watch_seconds(self) -> float:
        """From the first moment of the evaluation to the end of the soak."""
        return (self.short_term_minutes + self.soak_minutes) * 60

    @property
    def watched_phases(self) -> tuple[CanaryPhase, ...]:
        """The phases that have a length, in order."""
        return tuple(phase for phase in CANARY_PHASES if self.phase_seconds(phase) > 0)


class WavePolicy(Block):
    """One ordered part of the rollout. The last wave takes all that is left, whatever its percentage."""

    name: Id
    percentage: Percent
    soak_minutes: Minutes
    failure_threshold_percent: Annotated[float, Field(ge=0, lt=100)] = 5.0
    auto_rollback: bool = True


class GlobalPolicy(Block):
    """Limits over all waves of the rollout."""

    max_parallel_deploys: Annotated[int, Field(ge=1)] = 50
    deploy_timeout_minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60), SCALES] = 10.0
    health_check_interval_seconds: Annotated[float, Field(gt=0, le=86400), SCALES] = 30.0
    """What ``rolling_update.health_check.interval_seconds`` is where it is not written."""
    health_check_retries: Annotated[int, Field(ge=1, le=1000)] = 3
    """What the thresholds of ``rolling_update.health_check`` are where they are not written."""
    offline_device_policy: Literal["skip_and_queue"] = "skip_and_queue"
    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often an install is tried again that failed in a way that may pass."""
    retry_after_seconds: Annotated[float, Field(ge=0, le=7 * 86400), SCALES] = 60.0
    silence_deadline_minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60), SCALES] = 30.0
    """A deployed device that is silent for so long counts as failed."""

    @property
    def deploy_timeout_seconds(self) -> float:
        """From the grant until a device must have committed or failed."""
        return self.deploy_timeout_minutes * 60

    @property
    def silence_deadline_seconds(self) -> float:
        """From a deployed device's last sign of life until it counts as failed."""
        return self.silence_deadline_minutes * 60


REFERENCE_WAVES = (
    WavePolicy(name="wave-1", percentage=15, soak_minutes=15, failure_threshold_percent=5),
    WavePolicy(name="wave-2", percentage=35, soak_minutes=10, failure_threshold_percent=5),
    WavePolicy(name="wave-3", percentage=100, soak_minutes=10, failure_threshold_percent=3),
)
"""The waves of the reference: what a policy has that names none."""


class RolloutBlock(Block):
    """The ``rollout:`` block."""

    canary: CanaryPolicy = CanaryPolicy()
    waves: Annotated[tuple[WavePolicy, ...], Field(min_length=1, max_length=64)] = REFERENCE_WAVES
    global_: Annotated[GlobalPolicy, Field(alias="global")] = GlobalPolicy()

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = ["canary", *(wave.name for wave in self.waves)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two waves are called {twice[0]!r}")
        return self


REFERENCE_ROLLOUT = RolloutBlock(canary=CanaryPolicy(percentage=3, min_devices=1, max_devices=10))
"""The reference's block: what a policy has that holds no ``rollout:``."""


class RollingUpdate(Block):
    """The ``rolling_update:`` block: availability while devices are updated, and when one counts as healthy."""

    max_unavailable: PercentText = 10.0
    """Of the targets that are present, how many may be out of service because of the rollout: at least one may."""
    min_available: PercentText = 90.0
    """Of the targets that are present, how many must serve and be seen to be healthy when a healthy one is let go."""
    health_check: HealthCheck = HealthCheck()
    """How a device asks its application; without a port, the one that the release names."""
    min_ready_seconds: Annotated[float, Field(ge=0, le=86400), SCALES] = 60.0
    progress_deadline: Annotated[float, Field(gt=0, le=7 * 86400), SCALES] = 300.0
    """Seconds until a device that is not healthy counts as stuck."""
    rollback_on_failure: Literal[True] = True
    """A device that fails always goes back; it cannot be told not to."""

    @field_validator("health_check", mode="before")
    @classmethod
    def _knows_its_keys(cls, value: object) -> object:
        """On the wire unknown fields are ignored; in a policy they are a mistake."""
        known = sorted(HealthCheck.model_fields)
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                raise ValueError(f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return value

    def with_defaults(self, limits: GlobalPolicy) -> Self:
        """Return the block with what its health check leaves open taken from ``rollout.global``."""
        retries = limits.health_check_retries
        given = {
            "interval_seconds": limits.health_check_interval_seconds,
            "success_threshold": retries,
            "failure_threshold": retries,
        }
        check = self.health_check
        missing = {name: value for name, value in given.items() if name not in check.model_fields_set}
        return self.model_copy(update={"health_check": check.model_copy(update=missing)}) if missing else self


class MassSilence(Block):
    """When so much of the fleet falls silent at once that the orchestrator suspects itself or the broker."""

    percent: PercentText = 20.0
    window_seconds: Annotated[float, Field(gt=0, le=86400), SCALES] = 60.0
