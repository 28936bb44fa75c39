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
from orchestrator.core.state import DEPLOYED, Device, Member, Phase, Progress, Rollout, State
from schemas.conditions import percent_of
from schemas.messages import Ready


class WaitReason(StrEnum):
    """Why a device may not go yet."""

    UNKNOWN_DEVICE = "unknown_device"
    NOTHING_ORDERED = "nothing_ordered"
    STALE_GENERATION = "stale_generation"
    SETTLING = "settling"
    HOLD = "hold"
    PAUSED = "paused"
    ROLLOUT_STOPPED = "rollout_stopped"
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
    """Not yet, and why."""

    reason: WaitReason


_OPEN: Final = frozenset({Phase.DEPLOYING, Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.COMPLETED})
"""Phases in which a late member may still install: the rollout is good so far as anybody knows."""


def decide_grant(state: State, name: str, ready: Ready, *, is_settling: bool = False) -> GrantIssued | Wait:
    """Answer one ``ready`` of the device ``name``.

    Args:
        state: As far as the fleet has spoken.
        name: The sender.
        ready: Its question.
        is_settling: Just after a connect, when a hold and who is there may not have been heard of: no install begins.
    """
    device = state.devices.get(name)
    if device is None:
        return Wait(WaitReason.UNKNOWN_DEVICE)
    if device.rollout is None:
        return Wait(WaitReason.NOTHING_ORDERED)
    rollout = state.rollouts[device.rollout]
    refusal = _refusal(state, device, rollout, ready, is_settling=is_settling)
    if refusal is not None:
        return Wait(refusal)
    return GrantIssued(
        rollout=rollout.id,
        device=name,
        generation=ready.generation,
        step=ready.step,
        nonce=ready.nonce,
        seq=state.grant_seq + 1,
    )


def _refusal(state: State, device: Device, rollout: Rollout, ready: Ready, *, is_settling: bool) -> WaitReason | None:
    member = rollout.members[device.id]
    if ready.generation != device.generation:
        return WaitReason.STALE_GENERATION
    if ready.nonce == member.nonce:
        return WaitReason.REPEATED
    if device.action == "rollback":
        return _refuse_return(rollout, member)
    if ready.step == "commit":
        return _refuse_commit(rollout, member)
    return WaitReason.SETTLING if is_settling else _refuse_install(state, device, rollout, member)


def _refuse_return(rollout: Rollout, member: Member) -> WaitReason | None:
    """A rollback never waits for a gate, an approval, a pause or a hold."""
    if member.progress is Progress.RETURNING and member.granted_at is None:
        in_flight = sum(1 for each in rollout.members.values() if _is_returning(each))
        return WaitReason.CAPACITY if in_flight >= rollout.policy.rollout.global_.max_parallel_deploys else None
    return None


def _refuse_commit(rollout: Rollout, member: Member) -> WaitReason | None:
    if member.progress not in DEPLOYED | {Progress.GRANTED}:
        return WaitReason.NOT_ELIGIBLE
    if rollout.policy.commit_on == "gate":
        gate = rollout.gates.get(member.wave)
        if gate is None or gate.verdict != "pass" or gate.decision == "watch":
            return WaitReason.GATE_PENDING
    return None


def _refuse_install(state: State, device: Device, rollout: Rollout, member: Member) -> WaitReason | None:
    if device.action != "install" or member.progress not in {Progress.ORDERED, Progress.GRANTED}:
        return WaitReason.NOT_ELIGIBLE
    if state.is_held:
        return WaitReason.HOLD
    if rollout.paused:
        return WaitReason.PAUSED
    if rollout.phase not in _OPEN:
        return WaitReason.ROLLOUT_STOPPED
    if device.quarantine:
        return WaitReason.QUARANTINED
    if member.wave > rollout.wave:
        return WaitReason.WAVE_NOT_OPEN
    if member.progress is Progress.GRANTED:
        return None  # It holds its place already: the answer was lost.
    return _refuse_capacity(state, rollout)


def _refuse_capacity(state: State, rollout: Rollout) -> WaitReason | None:
    in_flight = sum(1 for each in rollout.members.values() if _is_in_flight(each))
    if in_flight >= rollout.policy.rollout.global_.max_parallel_deploys:
        return WaitReason.CAPACITY
    unavailable, serving = _availability(state, rollout)
    if unavailable >= unavailable_max(rollout, unavailable + serving):
        return WaitReason.AVAILABILITY
    return None


def unavailable_max(rollout: Rollout, present: int) -> int:
    """Return how many of ``present`` devices may be out of service at once: the stricter limit, and at least 1."""
    update = rollout.policy.rolling_update
    by_maximum, _ = percent_of(present, update.max_unavailable)
    _, needed = percent_of(present, update.min_available)
    by_minimum = present - needed
    return max(1, min(by_maximum, by_minimum))


def _availability(state: State, rollout: Rollout) -> tuple[int, int]:
    """Count targets that are out of service because of the rollout, and those that serve."""
    unavailable = serving = 0
    for name, member in rollout.members.items():
        if _is_in_flight(member) or member.is_lost or member.progress is Progress.STRANDED:
            unavailable += 1
        elif state.devices[name].is_online:
            serving += 1
    return unavailable, serving


def _is_returning(member: Member) -> bool:
    return member.progress is Progress.RETURNING and member.granted_at is not None


def _is_in_flight(member: Member) -> bool:
    """Granted, and nobody knows yet how it ended: it counts as out of service, also when it falls silent."""
    return member.progress is Progress.GRANTED or _is_returning(member)
