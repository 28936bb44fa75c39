"""What the orchestrator knows, folded from its journal.

``evolve`` applies one fact and holds no rule: replaying an old journal never fails and always ends in the same state.
The fold is in place, because a fleet of a million devices is not copied for each fact; only ``evolve`` and ``observe``
write. What is only seen (presence, reports, holds) is volatile: it is rebuilt from the bus and never decides without
evidence.
"""

from dataclasses import dataclass, field
from math import nan
from typing import Final

from orchestrator.core import events as e
from orchestrator.core.folding import evolve_rollout
from orchestrator.core.inventory import Device, Inventory, lasting, peer_url_of
from orchestrator.core.members import Member, Members, Progress
from orchestrator.core.own_waits import OwnWait
from orchestrator.core.repeating import Done, note_done
from orchestrator.core.rollout import TERMINAL, Rollout
from schemas.inventory import DeviceEntry


@dataclass(slots=True)
class Import:
    """An import whose last part has not come."""

    parts_seen: int
    devices: dict[str, DeviceEntry]


@dataclass(slots=True)
class State:
    """Everything that decisions are made on, beside telemetry."""

    epoch: int = 0
    devices: Inventory = field(default_factory=Inventory)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    generation: int = 0
    grant_seq: int = 0
    frozen: str = ""
    """Why nothing is decided; empty while it is."""
    frozen_at: float = 0.0
    thawed_at: float = 0.0
    heard_again_at: float = 0.0
    """When a silence ended because devices were heard; not when a person took it for what it is."""
    done: dict[str, Done] = field(default_factory=dict)
    """Commands that count once; see ``repeating``."""
    listening_since: float = 0.0
    """Since when everybody can be heard here without a break; volatile."""
    unread: str = ""
    """Whose health nobody reads, so that no gate passes meanwhile; empty while everybody's is read; volatile."""
    is_held: bool = False
    early_presence: dict[str, bool] = field(default_factory=dict)
    """Presence of devices that have not announced themselves yet; bounded."""
    own_waits: dict[str, OwnWait] = field(default_factory=dict)
    """By device, what it waits for before it asks; volatile and bounded."""
    imports: dict[tuple[str, str], Import] = field(default_factory=dict)
    """By actor and id; volatile."""

    @property
    def active(self) -> list[Rollout]:
        """Rollouts in which something may still be decided."""
        return [rollout for rollout in self.rollouts.values() if rollout.phase not in TERMINAL]

    @property
    def watched(self) -> list[Rollout]:
        """Rollouts in which devices may still be overdue: the active ones, and ended ones with devices under way."""
        under_way = (Progress.GRANTED, Progress.RETURNING)
        return [each for each in self.rollouts.values() if each.phase not in TERMINAL or each.counts(*under_way)]

    @property
    def unheard(self) -> str:
        """Why no evidence can be judged: the fleet fell silent, or nobody reads its health; empty while it can."""
        return self.frozen or self.unread

    def own_wait(self, device: Device) -> OwnWait | None:
        """Return what ``device`` waits for of its own with its current order; None if it does not, or never said so."""
        wait = self.own_waits.get(device.id)
        return wait if wait is not None and wait.generation == device.generation else None


def evolve(state: State, event: e.AnyEvent, at: float) -> None:
    """Apply one fact that happened at ``at``."""
    match event:
        case e.EpochOpened():
            state.epoch = event.epoch
            state.generation = max(state.generation, event.generation)
            for rollout in state.active:
                rollout.soak_since = at  # Soak that nobody watched does not count.
        case e.DeviceAnnounced():
            _announce(state, event)
        case e.DevicesImported():
            _import(state, event)
        case e.ConnectionsLost():
            rows = state.devices.rows(event.devices)
            state.devices.fill(rows, Device.lost_at, at)
            state.devices.fill(rows, Device.trouble_at, at)
        case e.DeviceQuarantined():
            state.devices[event.device].quarantine = event.reason
        case e.DeviceReleased():
            state.devices[event.device].quarantine = ""
        case e.MediaNoted():
            state.devices[event.device].media = event.note
        case e.DevicesOrdered():
            _order(state, event, at)
        case e.GrantIssued():
            state.grant_seq = max(state.grant_seq, event.seq)
            evolve_rollout(state.rollouts[event.rollout], event, at)
        case e.RolloutStarted():
            state.rollouts[event.rollout] = _started(state, event, at)
        case e.FleetFrozen():
            state.frozen, state.frozen_at = event.reason, at
        case e.FleetThawed():
            if event.by == e.ORCHESTRATOR:
                state.heard_again_at = at
            state.frozen, state.thawed_at = "", at
            for rollout in state.active:
                rollout.soak_since = at
        case e.CommandAnswered():
            note_done(state.done, event, at)
        case _:
            evolve_rollout(state.rollouts[event.rollout], event, at)


def _announce(state: State, event: e.DeviceAnnounced) -> None:
    if event.device not in state.devices:
        state.devices.add([event.device])
    device = state.devices[event.device]
    device.said = lasting(event.info)
    device.version = event.info.version or device.version
    device.peer_url = peer_url_of(event.info)
    device.settle_info()


def _import(state: State, event: e.DevicesImported) -> None:
    state.devices.add([name for name in event.devices if name not in state.devices])
    for name, declared in event.devices.items():
        device = state.devices[name]
        device.declared = declared
        device.settle_info()


def _started(state: State, event: e.RolloutStarted, at: float) -> Rollout:
    members = Members(state.devices, [wave.members for wave in event.plan.waves])
    if event.peer_ranks:
        members.mark_first(event.policy.distribution.peers.first)
    return Rollout(
        id=event.rollout,
        by=event.by,
        started_at=at,
        release=event.release,
        registry_url=event.registry_url,
        policy=event.policy,
        plan=event.plan,
        baselines=dict(event.baselines),
        sources=dict(event.sources),
        limits=dict(event.limits),
        peer_ranks=dict(event.peer_ranks),
        traced=event.traced,
        members=members,
        known_devices=len(state.devices),
        reason_given=event.reason,
        wave_started_at=at,
    )


_ORDERED: Final = {"install": Progress.ORDERED, "rollback": Progress.RETURNING, "hold": Progress.HELD}


def _order(state: State, event: e.DevicesOrdered, at: float) -> None:
    state.generation = max(state.generation, event.generation)
    devices, members = state.devices, state.rollouts[event.rollout].members
    at_home = devices.rows(event.devices)
    devices.fill(at_home, Device.rollout, event.rollout)
    devices.fill(at_home, Device.generation, event.generation)
    devices.fill(at_home, Device.action, event.action)
    devices.fill(at_home, Device.epoch, event.epoch)
    rows = members.rows(event.devices)
    members.fill(rows, Member.progress, _ORDERED[event.action])
    members.fill(rows, Member.generation, event.generation)
    members.fill(rows, Member.ordered_at, at)
    members.fill(rows, Member.granted, nan)
    members.fill(rows, Member.is_ahead, event.ahead)
    members.fill(rows, Member.staged_bytes, nan)
    if event.action == "install":
        members.write(rows, Member.from_version, event.devices.values())
