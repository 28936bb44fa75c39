"""What the orchestrator knows, folded from its journal.

``evolve`` applies one fact and holds no rule: replaying an old journal never fails and always ends in the same state.
The fold is in place, because a fleet of a million devices is not copied for each fact; only ``evolve`` and ``observe``
write. What is only seen (presence, reports, holds) is volatile: it is rebuilt from the bus and never decides without
evidence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from orchestrator.core import events as e
from orchestrator.core.releases import StoredRelease
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.messages import Action, Info
from schemas.policy import Policy


class Phase(StrEnum):
    """Where a rollout is."""

    DEPLOYING = "deploying"
    SOAKING = "soaking"
    AWAITING_APPROVAL = "awaiting_approval"
    ROLLING_BACK = "rolling_back"
    HALTED = "halted"
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"


TERMINAL = frozenset({Phase.COMPLETED, Phase.ABORTED, Phase.ROLLED_BACK})


class Progress(StrEnum):
    """Where one member of a rollout is. Every target ends in one of the last five, or stays queued."""

    PENDING = "pending"
    ORDERED = "ordered"
    GRANTED = "granted"
    RETURNING = "returning"
    HELD = "held"
    PROVEN = "proven"
    """It serves the new version well and waits for its wave's gate before it commits."""
    COMMITTED = "committed"
    FAILED = "failed"
    RETURNED = "returned"
    STRANDED = "stranded"
    """Ordered back and could not: a person must look."""


DEPLOYED = frozenset({Progress.PROVEN, Progress.COMMITTED})
"""It serves the new version and has shown its health: what gates and triggers judge."""


@dataclass(slots=True)
class Member:
    """One target of a rollout."""

    wave: int
    arch: str
    """What the device was when the plan was made; what it calls itself later changes no order."""
    progress: Progress = Progress.PENDING
    generation: int = 0
    from_version: str | None = None
    ordered_at: float = 0.0
    granted_at: float | None = None
    nonce: str = ""
    """Of the last question that was answered with a go."""
    failed: bool = False
    """It counts against the wave, whatever it runs by now."""
    excused: bool = False
    """A person let the rollout go on in spite of it."""
    error: str = ""
    is_lost: bool = False
    """It was granted, and nobody knows what it runs; it is out of service until it says so."""


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
    members: dict[str, Member]
    phase: Phase = Phase.DEPLOYING
    wave: int = 0
    wave_started_at: float = 0.0
    paused: bool = False
    soaked_seconds: float = 0.0
    soak_since: float = 0.0
    """From here on soak is watched but not yet journaled."""
    extensions: int = 0
    soak_until_seconds: float | None = None
    gates: dict[int, e.GateJudged] = field(default_factory=dict)
    gates_at: dict[int, float] = field(default_factory=dict)
    approvals: dict[int, e.RolloutApproved] = field(default_factory=dict)
    halted_from: Phase | None = None
    rollback: e.RollbackOrdered | None = None
    reason: str = ""

    def in_wave(self, wave: int) -> Iterator[tuple[str, Member]]:
        """Yield the members of one wave in the plan's order."""
        return ((device, self.members[device]) for device in self.plan.waves[wave].members)

    def having(self, *progress: Progress) -> list[str]:
        """Return the members that are in one of ``progress``, in the plan's order."""
        return [device for device, member in self.members.items() if member.progress in progress]

    @property
    def wave_name(self) -> str:
        """Name of the current wave."""
        return self.plan.waves[self.wave].name

    @property
    def is_last_wave(self) -> bool:
        """Whether no wave follows."""
        return self.wave == len(self.plan.waves) - 1


@dataclass(slots=True)
class Device:
    """One device of the fleet. What is below ``volatile`` is only seen, never journaled."""

    id: str
    info: Info
    quarantine: str = ""
    rollout: str | None = None
    generation: int = 0
    action: Action | None = None
    epoch: int = 0
    # volatile
    is_online: bool = False
    online_since: float = 0.0
    is_asking: bool = False
    """It has prepared the current order and waits for a grant."""
    seen_version: str | None = None
    seen_disk_free_bytes: int | None = None

    @property
    def disk_free_bytes(self) -> int | None:
        """What it has free, as far as it said."""
        return self.info.disk_free_bytes if self.seen_disk_free_bytes is None else self.seen_disk_free_bytes

    @property
    def version(self) -> str | None:
        """What it runs, as far as it said."""
        return self.seen_version or self.info.version


@dataclass(slots=True)
class State:
    """Everything that decisions are made on, beside telemetry."""

    epoch: int = 0
    devices: dict[str, Device] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    generation: int = 0
    grant_seq: int = 0
    is_held: bool = False
    early_presence: dict[str, bool] = field(default_factory=dict)
    """Presence of devices that have not announced themselves yet; bounded."""

    @property
    def active(self) -> Iterable[Rollout]:
        """Rollouts in which something may still be decided."""
        return [rollout for rollout in self.rollouts.values() if rollout.phase not in TERMINAL]

    @property
    def watched(self) -> Iterable[Rollout]:
        """Rollouts in which devices may still be overdue: the active ones, and ended ones with devices under way."""
        under_way = (Progress.GRANTED, Progress.RETURNING)
        return [each for each in self.rollouts.values() if each.phase not in TERMINAL or each.having(*under_way)]


def evolve(state: State, event: e.AnyEvent, at: float) -> None:
    """Apply one fact that happened at ``at``."""
    match event:
        case e.EpochOpened():
            _open_epoch(state, event, at)
        case e.DeviceAnnounced():
            known = state.devices.get(event.device)
            if known is None:
                state.devices[event.device] = Device(event.device, event.info)
            else:
                known.info = event.info
        case e.DeviceQuarantined():
            state.devices[event.device].quarantine = event.reason
        case e.DeviceReleased():
            state.devices[event.device].quarantine = ""
        case e.DevicesOrdered():
            _order(state, event, at)
        case e.GrantIssued():
            _grant(state, event, at)
        case e.RolloutStarted():
            state.rollouts[event.rollout] = _started(state, event, at)
        case e.CommandAnswered():
            pass
        case _:
            _evolve_rollout(state.rollouts[event.rollout], event, at)


def _evolve_rollout(rollout: Rollout, event: "e.AnyEvent", at: float) -> None:
    match event:
        case e.WaveStarted():
            rollout.phase, rollout.wave, rollout.wave_started_at = Phase.DEPLOYING, event.wave, at
            rollout.soaked_seconds, rollout.extensions, rollout.soak_until_seconds = 0.0, 0, None
        case e.DeviceProven():
            rollout.members[event.device].progress = Progress.PROVEN
        case e.DeviceCommitted():
            _settle(rollout.members[event.device], Progress.COMMITTED)
        case e.DeviceFailed():
            _fail(rollout.members[event.device], event)
        case e.DeviceReturned():
            _settle(rollout.members[event.device], Progress.RETURNED)
        case e.SoakStarted():
            rollout.phase, rollout.soak_since = Phase.SOAKING, at
        case e.SoakProgressed():
            rollout.soaked_seconds, rollout.soak_since = event.soaked_seconds, at
        case e.SoakExtended():
            rollout.extensions, rollout.soak_until_seconds = event.extension, event.until_seconds
            rollout.reason = event.reason
        case e.GateJudged():
            rollout.gates[event.wave], rollout.gates_at[event.wave] = event, at
            if event.decision == "await_approval":
                rollout.phase = Phase.AWAITING_APPROVAL
        case e.RolloutApproved():
            rollout.approvals[event.wave] = event
        case e.RolloutPaused():
            rollout.paused, rollout.reason = True, event.reason
        case e.RolloutResumed():
            _resume(rollout, event, at)
        case e.RolloutHalted():
            if rollout.phase is not Phase.HALTED:
                rollout.halted_from = rollout.phase
            rollout.phase, rollout.reason = Phase.HALTED, event.reason
        case e.RollbackOrdered():
            _order_back(rollout, event)
        case e.RolloutEnded():
            rollout.phase, rollout.reason = Phase(event.outcome), event.reason
        case (
            e.EpochOpened()
            | e.DeviceAnnounced()
            | e.DeviceQuarantined()
            | e.DeviceReleased()
            | e.RolloutStarted()
            | e.DevicesOrdered()
            | e.GrantIssued()
            | e.CommandAnswered()
        ):
            raise AssertionError(f"{event.kind} is applied to the state, not to a rollout")
        case _:
            assert_never(event)


def _open_epoch(state: State, event: e.EpochOpened, at: float) -> None:
    state.epoch = event.epoch
    for rollout in state.active:
        rollout.soak_since = at  # Soak that nobody watched does not count.


def _started(state: State, event: e.RolloutStarted, at: float) -> Rollout:
    members = {
        device: Member(number, state.devices[device].info.arch)
        for number, wave in enumerate(event.plan.waves)
        for device in wave.members
    }
    return Rollout(
        id=event.rollout,
        by=event.by,
        started_at=at,
        release=event.release,
        registry_url=event.registry_url,
        policy=event.policy,
        plan=event.plan,
        baselines=dict(event.baselines),
        members=members,
        wave_started_at=at,
    )


_ORDERED = {"install": Progress.ORDERED, "rollback": Progress.RETURNING, "hold": Progress.HELD}


def _order(state: State, event: e.DevicesOrdered, at: float) -> None:
    state.generation = max(state.generation, event.generation)
    rollout = state.rollouts[event.rollout]
    for name, from_version in event.devices.items():
        device, member = state.devices[name], rollout.members[name]
        device.rollout, device.generation = event.rollout, event.generation
        device.action, device.epoch = event.action, event.epoch
        member.progress, member.generation, member.ordered_at = _ORDERED[event.action], event.generation, at
        member.granted_at = None
        if event.action == "install":
            member.from_version = from_version


def _grant(state: State, event: e.GrantIssued, at: float) -> None:
    state.grant_seq = max(state.grant_seq, event.seq)
    member = state.rollouts[event.rollout].members[event.device]
    member.nonce = event.nonce
    if event.step == "activate":
        member.granted_at = at if member.granted_at is None else member.granted_at
        if member.progress is Progress.ORDERED:
            member.progress = Progress.GRANTED


def _settle(member: Member, progress: Progress) -> None:
    member.progress, member.is_lost = progress, False


def _fail(member: Member, event: e.DeviceFailed) -> None:
    stranded = member.progress is Progress.RETURNING
    member.progress = Progress.STRANDED if stranded else Progress.FAILED
    member.failed, member.error = True, event.code
    member.is_lost = event.version is None and member.granted_at is not None


def _resume(rollout: Rollout, event: e.RolloutResumed, at: float) -> None:
    for device in event.excused:
        rollout.members[device].excused = True
    if rollout.phase is Phase.HALTED:
        rollout.phase = rollout.halted_from or Phase.DEPLOYING
        rollout.extensions, rollout.soak_until_seconds = 0, None
        rollout.soaked_seconds, rollout.soak_since = 0.0, at
    rollout.paused, rollout.halted_from, rollout.reason = False, None, ""


def _order_back(rollout: Rollout, event: e.RollbackOrdered) -> None:
    for device in event.devices:
        rollout.members[device].failed = rollout.members[device].failed or event.scope == "device"
    if event.scope != "device":
        rollout.phase, rollout.rollback, rollout.reason = Phase.ROLLING_BACK, event, event.reason
        rollout.paused = False
