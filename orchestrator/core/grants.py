"""The grant: nothing that serves changes without one.

This is the one function in which wave order, holds, pauses, generations, concurrency and availability are enforced, at
the last moment. So a limit is a hard bound, a stop takes effect at once, and a device that slept through a rollout and
its rollback wakes to exactly one correct answer. A rollback asks too, but waits for nothing except its own parallelism.

Source:
    Reference, "Configuration Parameters" (max_unavailable, min_available) and "Rollback Execution Order";
    DECISIONS.md, 5.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.core.capacity import Capacity, capacity, is_at_floor, is_returning, unavailable_max
from orchestrator.core.events import GrantIssued
from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Member, Progress
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.stopping import failing_wave
from schemas.messages import Ready
from schemas.windows import is_open, opens_in_seconds


class WaitReason(StrEnum):
    """Why a device may not go yet."""

    UNKNOWN_DEVICE = "unknown_device"
    NOTHING_ORDERED = "nothing_ordered"
    STALE_GENERATION = "stale_generation"
    SETTLING = "settling"
    HOLD = "hold"
    FROZEN = "frozen"
    OUTSIDE_WINDOW = "outside_window"
    PAUSED = "paused"
    ROLLOUT_STOPPED = "rollout_stopped"
    NOT_ACTIVATED = "not_activated"
    WAVE_NOT_OPEN = "wave_not_open"
    QUARANTINED = "quarantined"
    NOT_ELIGIBLE = "not_eligible"
    CAPACITY = "capacity"
    AVAILABILITY = "availability"
    TOO_FEW_HEALTHY = "too_few_healthy"
    """So many devices are not seen to be healthy that none of those that are may be taken out of service."""
    GATE_PENDING = "gate_pending"
    REPEATED = "repeated"
    """This very question was answered with a go; a lost answer is asked for with a new nonce."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet, and why.

    Attributes:
        seconds: How long it surely lasts; None where that is not known.
    """

    reason: WaitReason
    seconds: float | None = None


_OPEN: Final = frozenset(
    {Phase.DEPLOYING, Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.AWAITING_DEVICES, Phase.COMPLETED}
)
"""Phases in which a late member may still install: the rollout is good so far as anybody knows."""
_LEFT_AS_IT_IS: Final = frozenset({Phase.COMPLETED, Phase.ABORTED, Phase.SUPERSEDED})
"""How a rollout may end that leaves devices on what they run."""


def decide_grant(state: State, name: str, ready: Ready, *, now: float, is_settling: bool = False) -> GrantIssued | Wait:
    """Answer one ``ready`` of the device ``name``.

    Args:
        state: As far as the fleet has spoken.
        name: The sender.
        ready: Its question.
        now: Seconds since the epoch.
        is_settling: Just after a connect, when a hold and who is there may not have been heard of: no install begins.
    """
    device = state.devices.get(name)
    if device is None:
        return Wait(WaitReason.UNKNOWN_DEVICE)
    if device.rollout is None:
        return Wait(WaitReason.NOTHING_ORDERED)
    rollout = state.rollouts[device.rollout]
    member = rollout.members[name]
    reason = may_ever(state, device, rollout, ready)
    if reason is not None:
        return Wait(reason)
    is_install = device.action == "install" and ready.step == "activate"
    if is_install and is_settling:
        return Wait(WaitReason.SETTLING)
    begins = is_install and member.progress is not Progress.GRANTED  # Else it has its place: the answer was lost.
    wait = _refuse_moment(device, rollout, now) if begins else None
    if wait is not None:
        return wait
    there = capacity(rollout)
    reason = _refuse_room(device, rollout, there) if begins else None
    if reason is not None:
        return Wait(reason)
    return GrantIssued(
        rollout=rollout.id,
        device=name,
        generation=ready.generation,
        step=ready.step,
        nonce=ready.nonce,
        seq=state.grant_seq + 1,
        in_flight=there.in_flight,
        unavailable=there.unavailable,
        serving=there.serving,
        present=there.present,
        healthy=there.healthy,
        was_healthy=not device.is_unwell,
    )


def may_ever(state: State, device: Device, rollout: Rollout, ready: Ready) -> WaitReason | None:
    """Refuse what may not be done whatever room there is; None if it may."""
    member = rollout.members[device.id]
    if ready.generation != device.generation:
        return WaitReason.STALE_GENERATION
    if member.was_answered(ready.nonce):
        return WaitReason.REPEATED
    if device.action == "rollback":
        return _refuse_return(rollout, member)
    if ready.step == "commit":
        return _refuse_commit(rollout, member)
    return _refuse_install(state, device, rollout, member)


def _refuse_moment(device: Device, rollout: Rollout, now: float) -> Wait | None:
    """Refuse what may be done at all, but not at this moment."""
    window = rollout.policy.maintenance_window
    if window is not None and not is_open(window, device.info.time_zone, now):
        return Wait(WaitReason.OUTSIDE_WINDOW, opens_in_seconds(window, device.info.time_zone, now))
    return None


def _refuse_return(rollout: Rollout, member: Member) -> WaitReason | None:
    """A rollback never waits for a gate, an approval, a pause or a hold."""
    if member.progress is Progress.RETURNING and member.granted_at is None:
        in_flight = int(is_returning(rollout.members).sum())
        return WaitReason.CAPACITY if in_flight >= rollout.policy.rollout.global_.max_parallel_deploys else None
    return None


def _refuse_commit(rollout: Rollout, member: Member) -> WaitReason | None:
    if member.progress not in {*DEPLOYED, Progress.GRANTED}:
        return WaitReason.NOT_ELIGIBLE
    if rollout.policy.commit_on == "gate":
        gate = rollout.gates.get(member.wave)
        if rollout.phase in _LEFT_AS_IT_IS or (gate is not None and gate.decision == "await_devices"):
            return None  # Its own gate has passed, or is judged no more; the fallback would bring it back after a week.
        if gate is None or gate.verdict != "pass" or gate.decision == "watch":
            return WaitReason.GATE_PENDING
    return None


def _refuse_install(state: State, device: Device, rollout: Rollout, member: Member) -> WaitReason | None:
    if device.action != "install" or member.progress not in {Progress.ORDERED, Progress.GRANTED}:
        return WaitReason.NOT_ELIGIBLE
    if member.wave > rollout.open_wave:
        return WaitReason.NOT_ACTIVATED if rollout.open_wave < 0 else WaitReason.WAVE_NOT_OPEN
    if state.is_held:
        return WaitReason.HOLD
    if state.frozen:
        return WaitReason.FROZEN
    if rollout.paused:
        return WaitReason.PAUSED
    if rollout.phase not in _OPEN:
        return WaitReason.ROLLOUT_STOPPED
    if rollout.phase is Phase.COMPLETED and failing_wave(rollout) is not None:  # so many of those who come late failed
        return WaitReason.ROLLOUT_STOPPED
    if device.quarantine:
        return WaitReason.QUARANTINED
    return None


def _refuse_room(device: Device, rollout: Rollout, there: Capacity) -> WaitReason | None:
    return _refuse_capacity(rollout, there) or _refuse_floor(device, rollout, there)


def _refuse_capacity(rollout: Rollout, there: Capacity) -> WaitReason | None:
    if there.in_flight >= rollout.policy.rollout.global_.max_parallel_deploys:
        return WaitReason.CAPACITY
    if there.unavailable >= unavailable_max(rollout, there.unavailable + there.serving):
        return WaitReason.AVAILABILITY
    return None


def _refuse_floor(device: Device, rollout: Rollout, there: Capacity) -> WaitReason | None:
    """A device that is unwell takes no healthy one away, and the update may be what mends it."""
    return None if device.is_unwell or not is_at_floor(rollout, there) else WaitReason.TOO_FEW_HEALTHY
