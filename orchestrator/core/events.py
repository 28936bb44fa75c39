"""Facts, in the past tense: what the journal holds and the state is folded from.

Every decision of the orchestrator is one of these, with what is needed to account for it. A fact is never changed once
it is written; fields may be added with a default, so that an old journal always replays.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from orchestrator.core.media import MediaNote
from orchestrator.core.releases import StoredRelease
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.documents import CheckResult
from schemas.inventory import DeviceEntry
from schemas.messages import Action, FetchLimits, Info, Step
from schemas.policy import Policy
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import VerdictWord

Outcome = Literal["completed", "aborted", "rolled_back", "superseded"]
RollbackScope = Literal["device", "wave", "fleet"]


ORCHESTRATOR: Final = "orchestrator"
"""Who acts where no person does."""


class Event(BaseModel):
    """One fact. When it happened stands in the journal's entry."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class EpochOpened(Event):
    """This orchestrator took over; whatever carries a lower epoch is stale.

    Attributes:
        restored: Why the journal is not the one that others saw last; empty if it is.
        generation: All that come are above it, because the journal does not know how many there were; 0: it does.
    """

    kind: Literal["epoch_opened"] = "epoch_opened"
    epoch: int
    restored: str = ""
    generation: int = 0


class DeviceAnnounced(Event):
    """A device introduced itself, or what it is has changed."""

    kind: Literal["device_announced"] = "device_announced"
    device: str
    info: Info


class DevicesImported(Event):
    """A person declared what devices are.

    Attributes:
        devices: Each device that changed, with what is declared of it now; None: nothing any more.
    """

    kind: Literal["devices_imported"] = "devices_imported"
    by: str
    reason: str
    devices: Mapping[str, DeviceEntry | None]


class DeviceQuarantined(Event):
    """A device is kept out of all waves until a person releases it."""

    kind: Literal["device_quarantined"] = "device_quarantined"
    device: str
    by: str
    reason: str


class DeviceReleased(Event):
    """A person let a device back into waves."""

    kind: Literal["device_released"] = "device_released"
    device: str
    by: str
    reason: str


class MediaNoted(Event):
    """A device said what it took from media, or that something from the bus has taken its place.

    Attributes:
        note: None: nothing any more.
    """

    kind: Literal["media_noted"] = "media_noted"
    device: str
    note: MediaNote | None


class RolloutStarted(Event):
    """A person started a rollout; the plan, the policy and the baselines are frozen with it.

    Attributes:
        sources: Base addresses that devices of a site fetch from, in order; those of all others use ``registry_url``.
        limits: What each device of a site may take of its line, for the sites that limit it.
        peer_ranks: Sites whose devices give each other what they have, with how many of those are asked before.
        traced: Orders name the trace that this rollout is.
    """

    kind: Literal["rollout_started"] = "rollout_started"
    rollout: str
    by: str
    reason: str
    release: StoredRelease
    registry_url: str
    policy: Policy
    plan: Plan
    baselines: Mapping[str, Baseline]
    sources: Mapping[str, tuple[str, ...]] = {}
    limits: Mapping[str, FetchLimits] = {}
    peer_ranks: Mapping[str, int] = {}
    traced: Annotated[bool, Field(exclude_if=lambda traced: not traced)] = False


class StagingStarted(Event):
    """Members of all waves may fetch and install; nothing is activated before the rollout is."""

    kind: Literal["staging_started"] = "staging_started"
    rollout: str


class RolloutActivated(Event):
    """A person let a staged rollout begin with its canary, or the moment came that its policy names."""

    kind: Literal["rollout_activated"] = "rollout_activated"
    rollout: str
    by: str
    reason: str


class WaveStarted(Event):
    """A wave may begin; wave 0 is the canary."""

    kind: Literal["wave_started"] = "wave_started"
    rollout: str
    wave: int


class DevicesJoined(Event):
    """Devices that appeared during a rollout follow at the end of its last wave."""

    kind: Literal["devices_joined"] = "devices_joined"
    rollout: str
    devices: tuple[str, ...]


class ConnectionsLost(Event):
    """Devices lost their connection without notice; of each it is written down once an hour at most."""

    kind: Literal["connections_lost"] = "connections_lost"
    devices: tuple[str, ...]


class DevicesOrdered(Event):
    """Devices were given a new desired state.

    Attributes:
        devices: Each device with the version it ran when it was ordered (None: unknown).
        ahead: Their wave is not open: they fetch and install, and are let go by a newer order only.
    """

    kind: Literal["devices_ordered"] = "devices_ordered"
    rollout: str
    action: Action
    generation: int
    epoch: int
    devices: Mapping[str, str | None]
    ahead: Annotated[bool, Field(exclude_if=lambda ahead: not ahead)] = False


class DeviceStaged(Event):
    """A device that was ordered ahead of its wave has the release verified in standby.

    Attributes:
        fetched: As in ``DeviceCommitted``.
    """

    kind: Literal["device_staged"] = "device_staged"
    rollout: str
    device: str
    generation: int
    fetched: Annotated[Mapping[str, int] | None, Field(exclude_if=lambda fetched: fetched is None)] = None


class GrantIssued(Event):
    """A device may take one step, once."""

    kind: Literal["grant_issued"] = "grant_issued"
    rollout: str
    device: str
    generation: int
    step: Step
    nonce: str
    seq: int
    in_flight: int | None = None
    """Devices that were let go and had not told how it ended, when this one was let go."""
    unavailable: int | None = None
    serving: int | None = None
    present: int | None = None
    """What ``min_available`` was taken of."""
    healthy: int | None = None
    """Those of them that served and were not seen to be unwell, and ``was_healthy``: whether it was one of these."""
    was_healthy: bool | None = None


class DeviceProven(Event):
    """A device runs the new version in good health and keeps its fallback armed until its wave's gate has passed."""

    kind: Literal["device_proven"] = "device_proven"
    rollout: str
    device: str
    generation: int


class DeviceCommitted(Event):
    """A device runs the new version and has proven its health.

    Attributes:
        fetched: What bringing it there took, in bytes by origin (``slots``, ``peers``, ``cache``, ``registry``,
            ``mqtt``), as far as the device said.
    """

    kind: Literal["device_committed"] = "device_committed"
    rollout: str
    device: str
    generation: int
    version: str
    fetched: Annotated[Mapping[str, int] | None, Field(exclude_if=lambda fetched: fetched is None)] = None


class DeviceFailed(Event):
    """A device did not get there; ``version`` is what it runs now (None: unknown)."""

    kind: Literal["device_failed"] = "device_failed"
    rollout: str
    device: str
    generation: int
    code: str
    message: str
    version: str | None


class DeviceRetried(Event):
    """A device that failed in a way that may pass, or that a person wants tried again, gets another order.

    Attributes:
        attempt: Counted from 1; 0 when a person asked for it.
        not_before: From when on it may be ordered, in seconds since the epoch.
    """

    kind: Literal["device_retried"] = "device_retried"
    rollout: str
    device: str
    code: str
    attempt: int
    not_before: float
    by: str
    reason: str = ""


class DeviceSkipped(Event):
    """A person left a device out of a rollout."""

    kind: Literal["device_skipped"] = "device_skipped"
    rollout: str
    device: str
    by: str
    reason: str


class DeviceReturned(Event):
    """A device that was ordered back runs the version it had before."""

    kind: Literal["device_returned"] = "device_returned"
    rollout: str
    device: str
    generation: int
    version: str


class SoakStarted(Event):
    """The last online member of the wave has committed or failed."""

    kind: Literal["soak_started"] = "soak_started"
    rollout: str
    wave: int


class SoakProgressed(Event):
    """So much soak has been watched, in seconds; what was not watched does not count."""

    kind: Literal["soak_progressed"] = "soak_progressed"
    rollout: str
    wave: int
    soaked_seconds: float


class SoakExtended(Event):
    """The evidence was not good enough to go on and not bad enough to go back."""

    kind: Literal["soak_extended"] = "soak_extended"
    rollout: str
    wave: int
    extension: int
    until_seconds: float
    reason: str


class CanaryPhaseStarted(Event):
    """What the canary shows was good enough for the next phase of its watch, after so much soak in seconds."""

    kind: Literal["canary_phase_started"] = "canary_phase_started"
    rollout: str
    phase: CanaryPhase
    soaked_seconds: float


class GateJudged(Event):
    """A gate's verdict changed or was acted upon.

    Attributes:
        phase: Of the canary's watch; None for the gate itself.
        not_judged: Checks of that phase that have nothing to look at on these devices, each with the reason.
    """

    kind: Literal["gate_judged"] = "gate_judged"
    rollout: str
    wave: int
    gate: str
    verdict: VerdictWord
    decision: str
    devices: int
    checks: tuple[CheckResult, ...]
    phase: CanaryPhase | None = None
    not_judged: tuple[str, ...] = ()


class RolloutApproved(Event):
    """A person approved going on after a wave, on this plan and this evidence: the gate, judged again just then."""

    kind: Literal["rollout_approved"] = "rollout_approved"
    rollout: str
    wave: int
    by: str
    reason: str
    plan_digest: str
    checks: tuple[CheckResult, ...] = ()


class RolloutPaused(Event):
    """A person stopped the rollout for now."""

    kind: Literal["rollout_paused"] = "rollout_paused"
    rollout: str
    by: str
    reason: str


class RolloutResumed(Event):
    """A person let the rollout go on, in spite of the failures that are excused by name."""

    kind: Literal["rollout_resumed"] = "rollout_resumed"
    rollout: str
    by: str
    reason: str
    excused: tuple[str, ...]


class RolloutHalted(Event):
    """The system stopped the rollout for a person."""

    kind: Literal["rollout_halted"] = "rollout_halted"
    rollout: str
    reason: str


class RollbackOrdered(Event):
    """Somebody or something ordered devices back, with the evidence for it.

    Attributes:
        monitor_seconds: For how long the devices are watched after their return before the rollback is over.
    """

    kind: Literal["rollback_ordered"] = "rollback_ordered"
    rollout: str
    scope: RollbackScope
    trigger: str
    action: str
    by: str
    reason: str
    devices: tuple[str, ...]
    evidence: tuple[CheckResult, ...]
    monitor_seconds: float = 0.0


class RollbackVerified(Event):
    """What the devices that went back show since then, judged against what was normal before the rollout."""

    kind: Literal["rollback_verified"] = "rollback_verified"
    rollout: str
    scope: RollbackScope
    verdict: VerdictWord
    healthy: int
    not_healthy: tuple[str, ...]
    not_back: tuple[str, ...]
    checks: tuple[CheckResult, ...]


class RolloutEnded(Event):
    """Nothing more is decided in this rollout."""

    kind: Literal["rollout_ended"] = "rollout_ended"
    rollout: str
    outcome: Outcome
    by: str
    reason: str


class FleetFrozen(Event):
    """So many devices fell silent at once that the orchestrator suspects itself or the broker and decides nothing.

    Attributes:
        silent: How many fell silent within the window.
        of: How many were heard before.
    """

    kind: Literal["fleet_frozen"] = "fleet_frozen"
    silent: int
    of: int
    reason: str


class FleetThawed(Event):
    """The devices are heard again, or a person takes the silence for what it is."""

    kind: Literal["fleet_thawed"] = "fleet_thawed"
    by: str
    reason: str


class CommandAnswered(Event):
    """A person's or a tool's command and what came of it."""

    kind: Literal["command_answered"] = "command_answered"
    actor: str
    verb: str
    subject: str
    status: Literal["ok", "error"]
    code: str
    reason: str
    transaction: str | None


AnyEvent = Annotated[
    EpochOpened
    | DeviceAnnounced
    | DevicesImported
    | ConnectionsLost
    | DeviceQuarantined
    | DeviceReleased
    | MediaNoted
    | RolloutStarted
    | StagingStarted
    | RolloutActivated
    | WaveStarted
    | DevicesJoined
    | DevicesOrdered
    | DeviceStaged
    | GrantIssued
    | DeviceProven
    | DeviceCommitted
    | DeviceFailed
    | DeviceRetried
    | DeviceSkipped
    | DeviceReturned
    | SoakStarted
    | SoakProgressed
    | SoakExtended
    | CanaryPhaseStarted
    | GateJudged
    | RolloutApproved
    | RolloutPaused
    | RolloutResumed
    | RolloutHalted
    | RollbackOrdered
    | RollbackVerified
    | RolloutEnded
    | FleetFrozen
    | FleetThawed
    | CommandAnswered,
    Field(discriminator="kind"),
]
_EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent, config=ConfigDict(defer_build=True))


def event_from_json(body: str) -> AnyEvent:
    """Read a fact as the journal holds it; raises pydantic's ``ValidationError`` for anything else."""
    return _EVENTS.validate_json(body)
