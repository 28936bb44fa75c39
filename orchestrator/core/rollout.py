"""One rollout as it is folded from the journal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from orchestrator.core import events as e
from orchestrator.core.members import Member, Members, Progress
from orchestrator.core.releases import StoredRelease
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.messages import FetchLimits
from schemas.policy import Policy
from schemas.policy_phases import CanaryPhase


class Phase(StrEnum):
    """Where a rollout is."""

    STAGING = "staging"
    """Members of all waves fetch and install, and nothing is activated until a person says so or the time has come."""
    DEPLOYING = "deploying"
    SOAKING = "soaking"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_DEVICES = "awaiting_devices"
    """Everything that could be reached is well; what is missing for the coverage must come, or a person finishes it."""
    ROLLING_BACK = "rolling_back"
    HALTED = "halted"
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


TERMINAL: Final = frozenset({Phase.COMPLETED, Phase.ABORTED, Phase.ROLLED_BACK, Phase.SUPERSEDED})
WATCHING: Final = frozenset({Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.AWAITING_DEVICES})
"""Phases in which time passes for the soak."""


@dataclass(slots=True)
class Rollout:
    """One attempt to bring a target set to a version."""

    id: str
    by: str
    started_at: float
    release: StoredRelease
    registry_url: str
    policy: Policy
    plan: Plan
    baselines: dict[str, Baseline]
    members: Members
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Base addresses for the devices of a site, in order; for those of all others the registry's."""
    limits: dict[str, FetchLimits] = field(default_factory=dict)
    """What each device of a site may take of its line, for the sites that limit it."""
    peer_ranks: dict[str, int] = field(default_factory=dict)
    """Sites whose devices give each other what they have, with how many of ``sources`` are asked before."""
    traced: bool = False
    """Orders name the trace that it is."""
    known_devices: int = 0
    """How many devices the inventory held when it was started; later ones have appeared since."""
    reason_given: str = ""
    phase: Phase = Phase.DEPLOYING
    wave: int = 0
    wave_started_at: float = 0.0
    ended_at: float | None = None
    activated_at: float | None = None
    """When a staged rollout was let begin; None while it was not, and for one that was not staged."""
    paused: bool = False
    soaked_seconds: float = 0.0
    soak_since: float = 0.0
    """From here on soak is watched but not yet journaled."""
    canary_phase: CanaryPhase | None = None
    """In which phase the canary is watched; None while it is in the first."""
    phase_since_seconds: float = 0.0
    """At how much soak that phase began."""
    extensions: int = 0
    inconclusive: dict[str, int] = field(default_factory=dict)
    """How many extensions in a row each check caused by being inconclusive."""
    soak_until_seconds: float | None = None
    soaks: dict[int, float] = field(default_factory=dict)
    """How long each wave that is over was watched."""
    gates: dict[int, e.GateJudged] = field(default_factory=dict)
    gates_at: dict[int, float] = field(default_factory=dict)
    approvals: dict[int, e.RolloutApproved] = field(default_factory=dict)
    halted_from: Phase | None = None
    rollback: e.RollbackOrdered | None = None
    rollback_at: float = 0.0
    verified: e.RollbackVerified | None = None
    reason: str = ""
    reason_by: str = ""
    """Who paused, halted or ended it."""

    def bases(self, site: str) -> tuple[str, ...]:
        """Return the base addresses that devices of a site fetch from, in order."""
        return self.sources.get(site) or (self.registry_url,)

    def in_wave(self, wave: int) -> Iterator[tuple[str, Member]]:
        """Yield the members of one wave in the plan's order."""
        rows = self.members.of_wave(wave)
        return ((name, self.members[name]) for name in self.members.names[rows])

    def having(self, *progress: Progress) -> list[str]:
        """Return the members that are in one of ``progress``, in the plan's order."""
        return self.members.named(self.members.where(Member.progress, *progress))

    def counts(self, *progress: Progress) -> int:
        """Count the members that are in one of ``progress``."""
        return int(self.members.where(Member.progress, *progress).sum())

    @property
    def wave_name(self) -> str:
        """Name of the current wave."""
        return self.plan.waves[self.wave].name

    @property
    def open_wave(self) -> int:
        """The last wave whose members may be let go; -1 while the rollout is staged and not activated."""
        is_activated = self.activated_at is not None or not self.policy.distribution.stages
        return self.wave if is_activated else -1

    def place_of(self, wave: int) -> str:
        """Return what telemetry calls one of its waves."""
        return f"{self.id}/{wave}"

    @property
    def is_last_wave(self) -> bool:
        """Whether no wave follows."""
        return self.wave == len(self.plan.waves) - 1
