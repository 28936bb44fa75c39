"""How a rollout changes with each fact about it; no rule, so that an old journal always replays."""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.members import Member, Progress
from orchestrator.core.rollout import Phase, Rollout

_PHASE_AFTER: Final = {
    "await_approval": Phase.AWAITING_APPROVAL,
    "await_devices": Phase.AWAITING_DEVICES,
}
"""Where a gate's decision leads by itself; the others come with a fact of their own."""


def evolve_rollout(rollout: Rollout, event: e.AnyEvent, at: float) -> None:
    """Apply one fact about ``rollout`` that happened at ``at``."""
    match event:
        case e.StagingStarted():
            rollout.phase = Phase.STAGING
        case e.RolloutActivated():
            rollout.activated_at = at
        case e.WaveStarted():
            _start_wave(rollout, event, at)
        case e.SoakStarted():
            rollout.phase, rollout.soak_since = Phase.SOAKING, at
        case e.SoakProgressed():
            rollout.soaked_seconds, rollout.soak_since = event.soaked_seconds, at
        case e.SoakExtended():
            rollout.extensions, rollout.soak_until_seconds = event.extension, event.until_seconds
            rollout.reason, rollout.reason_by = event.reason, ""
        case e.CanaryPhaseStarted():
            rollout.canary_phase, rollout.phase_since_seconds = event.phase, event.soaked_seconds
            rollout.soaked_seconds, rollout.soak_since, rollout.soak_until_seconds = event.soaked_seconds, at, None
            rollout.inconclusive = {}
            rollout.reason = rollout.reason_by = ""
        case e.GateJudged():
            rollout.gates[event.wave], rollout.gates_at[event.wave] = event, at
            rollout.phase = _PHASE_AFTER.get(event.decision, rollout.phase)
            if event.decision == "extend":
                in_doubt = [each.check for each in event.checks if each.verdict == "inconclusive"]
                rollout.inconclusive = {check: rollout.inconclusive.get(check, 0) + 1 for check in in_doubt}
        case e.RolloutApproved():
            rollout.approvals[event.wave] = event
        case e.RolloutPaused():
            rollout.paused, rollout.reason, rollout.reason_by = True, event.reason, event.by
        case e.RolloutResumed():
            _resume(rollout, event, at)
        case e.RolloutHalted():
            if rollout.phase is not Phase.HALTED:
                rollout.halted_from = rollout.phase
            rollout.phase, rollout.reason, rollout.reason_by = Phase.HALTED, event.reason, "orchestrator"
        case e.RollbackOrdered():
            _order_back(rollout, event, at)
        case e.RollbackVerified():
            rollout.verified = event
        case e.RolloutEnded():
            rollout.phase, rollout.ended_at = Phase(event.outcome), at
            rollout.reason, rollout.reason_by = event.reason, event.by
        case e.DevicesJoined():
            rollout.members.join(event.devices, len(rollout.plan.waves) - 1)
        case (
            e.DeviceStaged()
            | e.GrantIssued()
            | e.DeviceProven()
            | e.DeviceCommitted()
            | e.DeviceFailed()
            | e.DeviceRetried()
            | e.DeviceSkipped()
            | e.DeviceReturned()
        ):
            _evolve_member(rollout.members[event.device], event, at)
        case _:
            raise AssertionError(f"{event.kind} is applied to the state, not to a rollout")


def _start_wave(rollout: Rollout, event: e.WaveStarted, at: float) -> None:
    if event.wave:
        rollout.soaks[event.wave - 1] = rollout.soaked_seconds
    rollout.phase, rollout.wave, rollout.wave_started_at = Phase.DEPLOYING, event.wave, at
    rollout.soaked_seconds, rollout.extensions, rollout.soak_until_seconds = 0.0, 0, None
    rollout.phase_since_seconds, rollout.inconclusive = 0.0, {}
    rollout.reason = rollout.reason_by = ""


_MemberEvent = (
    e.DeviceStaged
    | e.GrantIssued
    | e.DeviceProven
    | e.DeviceCommitted
    | e.DeviceFailed
    | e.DeviceRetried
    | e.DeviceSkipped
    | e.DeviceReturned
)


def _evolve_member(member: Member, event: _MemberEvent, at: float) -> None:
    match event:
        case e.DeviceStaged():
            fetched = event.fetched or {}
            member.staged_bytes = sum(count for origin, count in fetched.items() if origin != "slots")
        case e.GrantIssued():
            member.note_answered(event.nonce)
            if event.step == "activate":
                member.granted = at if member.granted_at is None else member.granted
                if member.progress is Progress.ORDERED:
                    member.progress = Progress.GRANTED
        case e.DeviceProven():
            member.progress, member.settled_at = Progress.PROVEN, at
        case e.DeviceCommitted():
            _settle(member, Progress.COMMITTED, at)
        case e.DeviceReturned():
            _settle(member, Progress.RETURNED, at)
        case e.DeviceSkipped():
            _settle(member, Progress.SKIPPED, at)
        case e.DeviceRetried():
            _settle(member, Progress.PENDING, at)
            member.failed, member.error = False, ""
            member.attempts, member.retry_at = event.attempt, event.not_before
        case e.DeviceFailed():
            stranded = member.progress is Progress.RETURNING
            was_granted = member.granted_at is not None
            _settle(member, Progress.STRANDED if stranded else Progress.FAILED, at)
            member.failed, member.error = True, event.code
            member.is_lost = event.version is None and was_granted


def _settle(member: Member, progress: Progress, at: float) -> None:
    member.progress, member.is_lost, member.settled_at = progress, False, at


def _resume(rollout: Rollout, event: e.RolloutResumed, at: float) -> None:
    rollout.members.fill(rollout.members.rows(event.excused), Member.excused, value=True)
    if rollout.phase is Phase.HALTED:
        was = rollout.halted_from
        # A rollback that ended is not taken up again: who goes on after it goes on with the wave.
        rollout.phase = Phase.DEPLOYING if was in {None, Phase.ROLLING_BACK} else was
        rollout.extensions, rollout.soak_until_seconds, rollout.inconclusive = 0, None, {}
        rollout.soaked_seconds, rollout.phase_since_seconds, rollout.soak_since = 0.0, 0.0, at
    rollout.paused, rollout.halted_from = False, None
    rollout.reason = rollout.reason_by = ""


def _order_back(rollout: Rollout, event: e.RollbackOrdered, at: float) -> None:
    if event.scope == "device":
        rollout.members.fill(rollout.members.rows(event.devices), Member.failed, value=True)
        return
    rollout.phase, rollout.rollback, rollout.rollback_at = Phase.ROLLING_BACK, event, at
    rollout.reason, rollout.reason_by = event.reason, event.by
    rollout.paused, rollout.verified = False, None
