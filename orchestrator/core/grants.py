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

from orchestrator.core.events import GrantIssued
from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Mask, Member, Members, Progress
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from schemas.conditions import percent_of
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
    wait = None if reason is None else Wait(reason)
    if wait is None and device.action == "install" and ready.step == "activate":
        wait = Wait(WaitReason.SETTLING) if is_settling else _refuse_start(device, rollout, member, now)
    if wait is not None:
        return wait
    there = capacity(rollout)
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


def _refuse_start(device: Device, rollout: Rollout, member: Member, now: float) -> Wait | None:
    """Refuse what may be done at all, but not at this moment."""
    if member.progress is Progress.GRANTED:
        return None  # It holds its place already: the answer was lost.
    window = rollout.policy.maintenance_window
    if window is not None and not is_open(window, device.info.time_zone, now):
        return Wait(WaitReason.OUTSIDE_WINDOW, opens_in_seconds(window, device.info.time_zone, now))
    reason = _refuse_capacity(rollout, capacity(rollout))
    return None if reason is None else Wait(reason)


def _refuse_return(rollout: Rollout, member: Member) -> WaitReason | None:
    """A rollback never waits for a gate, an approval, a pause or a hold."""
    if member.progress is Progress.RETURNING and member.granted_at is None:
        in_flight = int(_is_returning(rollout.members).sum())
        return WaitReason.CAPACITY if in_flight >= rollout.policy.rollout.global_.max_parallel_deploys else None
    return None


def _refuse_commit(rollout: Rollout, member: Member) -> WaitReason | None:
    if member.progress not in {*DEPLOYED, Progress.GRANTED}:
        return WaitReason.NOT_ELIGIBLE
    if rollout.policy.commit_on == "gate":
        gate = rollout.gates.get(member.wave)
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
    if device.quarantine:
        return WaitReason.QUARANTINED
    return None


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many targets are out of service because of the rollout, and how many serve.

    Attributes:
        in_flight: Granted, and nobody knows yet how it ended: out of service, also when they fall silent.
        unavailable: These, and devices of which nobody knows whether they serve.
        serving: The others that are connected.
    """

    in_flight: int
    unavailable: int
    serving: int


def capacity(rollout: Rollout) -> Capacity:
    """Count the members of a rollout."""
    members = rollout.members
    in_flight = members.where(Member.progress, Progress.GRANTED) | _is_returning(members)
    lost = members.column(Member.is_lost) | members.where(Member.progress, Progress.STRANDED)
    unavailable = in_flight | lost
    serving = members.online & ~unavailable
    return Capacity(int(in_flight.sum()), int(unavailable.sum()), int(serving.sum()))


def _refuse_capacity(rollout: Rollout, now_there: Capacity) -> WaitReason | None:
    if now_there.in_flight >= rollout.policy.rollout.global_.max_parallel_deploys:
        return WaitReason.CAPACITY
    if now_there.unavailable >= unavailable_max(rollout, now_there.unavailable + now_there.serving):
        return WaitReason.AVAILABILITY
    return None


def unavailable_max(rollout: Rollout, present: int) -> int:
    """Return how many of ``present`` devices may be out of service at once: the stricter limit, and at least 1."""
    update = rollout.policy.rolling_update
    by_maximum, _ = percent_of(present, update.max_unavailable)
    _, needed = percent_of(present, update.min_available)
    by_minimum = present - needed
    return max(1, min(by_maximum, by_minimum))


def _is_returning(members: Members) -> Mask:
    return members.where(Member.progress, Progress.RETURNING) & members.was_granted
