"""The rollout policy, in the reference's own names and units.

The reference's blocks ``rollout`` (canary, waves, global), ``rolling_update``, ``health_gates`` and
``rollback_triggers``, plus settings of ours. A block that is not written is the reference's own. Values stay as written
(minutes are minutes), seconds are properties. What cannot be judged is refused, never ignored; there is no silent
default for a misspelt key.

Source:
    Reference, "Wave Configuration", "Configuration Parameters", "Defining Health Gates", "Trigger Definitions".
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.filter_text import parse_filter
from schemas.messages import CommitOn, Strategy
from schemas.policy_block import Block, Duration, blaming_the_author
from schemas.policy_distribution import DistributionPolicy
from schemas.policy_gates import CHECK_METRICS, REFERENCE_GATES, Check, CheckType, Gate, HealthGates
from schemas.policy_rollout import (
    REFERENCE_ROLLOUT,
    CanaryPolicy,
    GlobalPolicy,
    MassSilence,
    RollingUpdate,
    RolloutBlock,
    WavePolicy,
)
from schemas.policy_triggers import (
    REFERENCE_TRIGGERS,
    TRIGGER_METRICS,
    RollbackTriggers,
    Scope,
    Trigger,
    TriggerAction,
)
from schemas.windows import MaintenanceWindow

__all__ = [
    "CHECK_METRICS", "TRIGGER_METRICS", "BaselinePolicy", "CanaryPolicy", "Check", "CheckType", "DistributionPolicy",
    "Gate", "GlobalPolicy", "HealthGates", "LintPolicy", "MaintenanceWindow", "MassSilence", "Policy",
    "RollbackTriggers", "RollingUpdate", "RolloutBlock", "Scope", "Trigger", "TriggerAction", "WavePolicy",
]  # fmt: skip


class BaselinePolicy(Block):
    """What a group's normal operation is taken from."""

    window: Duration = 24 * 3600.0
    min_samples: Annotated[int, Field(ge=1)] = 20


class LintPolicy(Block):
    """Findings of the linter that this policy accepts, each with the reason why."""

    silence: Mapping[
        Annotated[str, StringConstraints(pattern=r"^L\d{3}$")],
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)],
    ] = {}


class Policy(Block):
    """A whole policy file."""

    rollout: RolloutBlock = REFERENCE_ROLLOUT
    rolling_update: RollingUpdate = RollingUpdate()
    health_gates: HealthGates = REFERENCE_GATES
    rollback_triggers: RollbackTriggers = REFERENCE_TRIGGERS
    targets: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Which devices, as a filter such as ``region == "eu-north"``; without it, every device."""
    priority: Annotated[int, Field(ge=0, le=1000)] = 0
    """Where two rollouts compete for what is shared, the higher goes first."""
    maintenance_window: MaintenanceWindow | None = None
    """When devices may be updated; without it, at any time."""
    mass_silence: MassSilence = MassSilence()
    baseline: BaselinePolicy = BaselinePolicy()
    thermal_limit_celsius: Annotated[float, Field(gt=0, le=200)] = 85.0
    strategy: Strategy = "blue_green"
    commit_on: CommitOn = "round_trip"
    distribution: DistributionPolicy = DistributionPolicy()
    four_eyes: bool = False
    """Whether the person who started a rollout may not approve it."""
    max_soak_extensions: Annotated[int, Field(ge=0, le=100)] = 3
    lint: LintPolicy = LintPolicy()

    @field_validator("targets")
    @classmethod
    def _is_a_filter(cls, text: str | None) -> str | None:
        with blaming_the_author():
            if text is not None:
                parse_filter(text)
        return text

    @model_validator(mode="after")
    def _availability_can_hold(self) -> Self:
        update = self.rolling_update
        if update.max_unavailable + update.min_available > 100:  # noqa: PLR2004 - percent of the fleet
            raise ValueError(
                f"rolling_update: max_unavailable {update.max_unavailable:g}% and min_available "
                f"{update.min_available:g}% can never both hold; together they may be 100% at most"
            )
        return self

    @model_validator(mode="after")
    def _health_check_follows_the_rollout(self) -> Self:
        update = self.rolling_update.with_defaults(self.rollout.global_)
        object.__setattr__(self, "rolling_update", update)  # It is being built, and nobody has seen it yet.
        return self

    @property
    def longest_window_seconds(self) -> float | None:
        """How far back any check or trigger looks, in seconds; None where all look at whatever is kept."""
        gates, phases = self.health_gates, self.rollout.canary.phases
        every = (
            gates.canary_gate, gates.wave_gate, gates.completion_gate,
            phases.immediate, phases.short_term, phases.soak,
        )  # fmt: skip
        found = [check.window for gate in every if gate is not None for check in gate.checks]
        found += [trigger.reach_seconds for trigger in self.rollback_triggers.all]
        return max((seconds for seconds in found if seconds is not None), default=None)

    def scaled(self, time_scale: float) -> Self:
        """Return the policy with every duration divided by ``time_scale`` (above 0); 60 makes an hour a minute.

        Three stay: how long a device waits for one answer of its application, because no program answers faster for it,
        the maintenance window and the moment of activation, which are of the clock on the wall.
        """
        return self if time_scale == 1 else super().scaled(time_scale)
