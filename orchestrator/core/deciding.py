"""Commands about one rollout, verb by verb. What names a wave or a plan is bound to it.

Source:
    Wire contract, "Ops commands"; DECISIONS.md, 7 (abort, reject, rollback and resume).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.core import events as e
from orchestrator.core.allowed import SKIPPABLE, TRIED, allowed_verbs, may_resume
from orchestrator.core.answers import Outcome, refuse, unknown
from orchestrator.core.concluding import next_wave
from orchestrator.core.context import Context
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.judging import coverage, current_gate, judge_now
from orchestrator.core.members import Member, Progress
from orchestrator.core.orders import may_run_it, order, order_back, order_hold, taken_by
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.staging import activate
from orchestrator.core.state import State
from orchestrator.core.stopping import failing_wave
from schemas.commands import RolloutCommand
from schemas.documents import Reply
from schemas.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class _Order:
    """A command on a rollout, with all it may look at."""

    state: State
    rollout: Rollout
    actor: str
    command: RolloutCommand
    context: Context
    now: float

    def ok(self, events: list[e.AnyEvent]) -> Outcome:
        data: dict[str, Any] = {"by": self.actor, "reason": self.command.reason}
        if not events:
            data["already_applied"] = True
        return Outcome(events, Reply(status="ok", data=data), about=self.rollout.id)

    def wrong_phase(self, message: str) -> Outcome:
        allowed = allowed_verbs(self.state, self.rollout)
        return refuse("wrong_phase", message, phase=self.rollout.phase.value, allowed=allowed)


def decide_rollout_command(
    state: State, received: CommandReceived, command: RolloutCommand, context: Context, now: float
) -> Outcome:
    """Answer a command about one rollout; what it names (wave, plan, devices) must be what is there."""
    rollout = state.rollouts.get(command.rollout)
    if rollout is None:
        return unknown("rollout", command.rollout, state.rollouts)
    if command.plan is not None and command.plan != rollout.plan.digest:
        return refuse("conflict", f"the plan of {rollout.id} is {rollout.plan.digest}, not the one named")
    waves = [wave.name for wave in rollout.plan.waves]
    if command.wave is not None and command.wave not in waves:
        return unknown(f"wave of {rollout.id}", command.wave, waves)
    if command.wave not in {None, rollout.wave_name} and received.verb != "approve":
        return refuse("conflict", f"{rollout.id} is at {rollout.wave_name!r}, not at {command.wave!r}")
    strangers = [name for name in command.devices if name not in rollout.members]
    if strangers:
        return unknown(f"member of {rollout.id}", strangers[0], rollout.members)
    return _VERBS[received.verb](_Order(state, rollout, received.actor, command, context, now))


def _activate(given: _Order) -> Outcome:
    """Let a staged rollout begin, whether all have it or not: who has not fetches with its wave, as ever."""
    rollout = given.rollout
    if rollout.activated_at is not None:
        return given.ok([])
    if rollout.phase is not Phase.STAGING:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, there is nothing to activate")
    if rollout.paused:
        return given.wrong_phase(f"{rollout.id} is paused; resume it first")
    failing = failing_wave(rollout)
    if failing is not None:  # since the last tick, and before the one that stops the rollout for it
        return refuse("conflict", failing[1])
    return given.ok(activate(rollout, by=given.actor, reason=given.command.reason))


def _approve(given: _Order) -> Outcome:
    rollout, wave = given.rollout, given.command.wave
    approved = {rollout.plan.waves[number].name for number in rollout.approvals}
    if wave in approved or (wave is None and approved and rollout.phase is not Phase.AWAITING_APPROVAL):
        return given.ok([])
    if rollout.phase is not Phase.AWAITING_APPROVAL:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, there is nothing to approve")
    if wave not in {None, rollout.wave_name}:
        return refuse("conflict", f"{rollout.id} awaits approval after {rollout.wave_name!r}, not {wave!r}")
    if rollout.policy.four_eyes and given.actor == rollout.by:
        return refuse("four_eyes", f"{given.actor} started {rollout.id}; another person must approve it")
    if rollout.paused:
        return given.wrong_phase(f"{rollout.id} is paused; resume it first")
    if given.state.unheard:
        return refuse("conflict", given.state.unheard)
    failing = failing_wave(rollout)
    if failing is not None:  # since the gate was judged, and before the tick that stops the rollout for it
        return refuse("conflict", failing[1])
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(given.state, rollout, gate, given.context, given.now)
    if verdict is not Verdict.PASS:
        why = "; ".join(check.why for check in checks if check.verdict != "pass")
        return refuse("conflict", f"{name} is {verdict.word} on fresh data: {why}")
    approval = e.RolloutApproved(
        rollout=rollout.id,
        wave=rollout.wave,
        by=given.actor,
        reason=given.command.reason,
        plan_digest=rollout.plan.digest,
        checks=checks,
    )
    return given.ok([approval, next_wave(rollout)])


def _reject(given: _Order) -> Outcome:
    if given.rollout.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return given.ok([])
    if given.rollout.phase is not Phase.AWAITING_APPROVAL:
        return given.wrong_phase(f"{given.rollout.id} is {given.rollout.phase.value}, there is nothing to reject")
    return given.ok(_all_back(given, "rejected"))


def _pause(given: _Order) -> Outcome:
    rollout = given.rollout
    if rollout.paused:
        return given.ok([])
    if rollout.phase in {*TERMINAL, Phase.ROLLING_BACK, Phase.HALTED}:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, there is nothing to pause")
    return given.ok([e.RolloutPaused(rollout=rollout.id, by=given.actor, reason=given.command.reason)])


def _resume(given: _Order) -> Outcome:
    rollout = given.rollout
    thawed: list[e.AnyEvent] = []
    if given.state.frozen:
        thawed = [e.FleetThawed(by=given.actor, reason=given.command.reason or f"resumed by {given.actor}")]
    if rollout.phase in TERMINAL or (rollout.phase is Phase.ROLLING_BACK and not thawed):
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, it cannot go on")
    if not rollout.paused and rollout.phase is not Phase.HALTED:
        return given.ok(thawed)
    if rollout.phase is Phase.HALTED and not may_resume(rollout):
        if thawed:
            return given.ok(thawed)
        return given.wrong_phase(f"nothing runs {rollout.release.version}: retry its devices, or abort it")
    excused: tuple[str, ...] = ()
    if rollout.phase is Phase.HALTED:
        members = rollout.members
        excused = tuple(members.named(members.column(Member.failed) & ~members.column(Member.excused)))
    resumed = e.RolloutResumed(rollout=rollout.id, by=given.actor, reason=given.command.reason, excused=excused)
    return given.ok([*thawed, resumed])


def _abort(given: _Order) -> Outcome:
    rollout = given.rollout
    if rollout.phase is Phase.ABORTED:
        return given.ok([])
    if rollout.phase in TERMINAL or rollout.phase is Phase.ROLLING_BACK:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, there is nothing to abort")
    ended = e.RolloutEnded(rollout=rollout.id, outcome="aborted", by=given.actor, reason=given.command.reason)
    return given.ok([ended, *order_hold(given.state, rollout)])


def _rollback(given: _Order) -> Outcome:
    rollout = given.rollout
    if rollout.phase in {*TERMINAL, Phase.ROLLING_BACK} and not may_run_it(rollout).any():
        return given.ok([])
    newer = taken_by(given.state, rollout)
    if newer is not None:
        instead = "roll that back" if may_run_it(newer).any() else "start a rollout of the version that they shall run"
        return refuse("conflict", f"devices of {rollout.id} are in {newer.id} by now: {instead}")
    return given.ok(_all_back(given, "operator"))


def _finish(given: _Order) -> Outcome:
    """End a rollout that waits for devices which may never come; those that do still follow."""
    rollout = given.rollout
    if rollout.phase is Phase.COMPLETED:
        return given.ok([])
    if rollout.phase is not Phase.AWAITING_DEVICES or rollout.paused:
        return given.wrong_phase(f"{rollout.id} is {_where(rollout)}: only one that waits for devices can be finished")
    reached, total = coverage(rollout)
    reason = given.command.reason or f"finished by {given.actor}"
    text = f"{reason} ({reached} of {total} devices reached)"
    return given.ok([e.RolloutEnded(rollout=rollout.id, outcome="completed", by=given.actor, reason=text)])


def _retry(given: _Order) -> Outcome:
    """Order devices again that failed or were brought back; what kept them out is lifted."""
    rollout, state = given.rollout, given.state
    if rollout.phase in TERMINAL or rollout.phase is Phase.ROLLING_BACK:
        return given.wrong_phase(f"{rollout.id} is {_where(rollout)}, nothing can be tried again")
    candidates = rollout.having(*TRIED)
    named = given.command.devices or tuple(candidates)
    running = [name for name in named if rollout.members[name].is_lost]
    if running and given.command.devices:
        return refuse("conflict", f"nobody knows what {running[0]} runs: let it speak first, or roll it back")
    events: list[e.AnyEvent] = []
    for name in named:
        member = rollout.members[name]
        if name not in candidates or member.is_lost:
            continue
        reason = given.command.reason or f"retried by {given.actor}"
        if state.devices[name].quarantine:
            events.append(e.DeviceReleased(device=name, by=given.actor, reason=reason))
        events.append(
            e.DeviceRetried(
                rollout=rollout.id, device=name, code=member.error, attempt=0, not_before=given.now, by=given.actor,
                reason=reason,
            )
        )  # fmt: skip
    return given.ok(events)


def _skip(given: _Order) -> Outcome:
    """Leave devices out of a rollout that have not been let go yet; they count as not reached."""
    rollout = given.rollout
    if rollout.phase in TERMINAL or rollout.phase is Phase.ROLLING_BACK:
        return given.wrong_phase(f"{rollout.id} is {_where(rollout)}, nobody can be skipped")
    if not given.command.devices:
        return refuse("invalid_payload", "devices: name those to leave out", field="devices")
    progress = {name: rollout.members[name].progress for name in given.command.devices}
    begun = [name for name, its in progress.items() if its not in {*SKIPPABLE, Progress.SKIPPED}]
    if begun:
        where = progress[begun[0]].value
        return refuse("conflict", f"{begun[0]} is {where}: only a device that has not been let go can be skipped")
    lost = [name for name in given.command.devices if rollout.members[name].is_lost]
    if lost:
        return refuse("conflict", f"nobody knows what {lost[0]} runs: let it speak first, or roll it back")
    names = [name for name, its in progress.items() if its in SKIPPABLE]
    held = order(given.state, rollout, "hold", [name for name in names if progress[name] is Progress.ORDERED])
    reason = given.command.reason or f"skipped by {given.actor}"
    skipped = [e.DeviceSkipped(rollout=rollout.id, device=name, by=given.actor, reason=reason) for name in names]
    return given.ok([*held, *skipped])


def _where(rollout: Rollout) -> str:
    return "paused" if rollout.paused else rollout.phase.value


def _all_back(given: _Order, trigger: str) -> list[e.AnyEvent]:
    reason = given.command.reason or f"{trigger} by {given.actor}"
    return order_back(
        given.state, given.rollout, "fleet", given.rollout.members.names,
        trigger=trigger, action="rollback_all", by=given.actor, reason=reason,
    )  # fmt: skip


_VERBS: Final[Mapping[str, Callable[[_Order], Outcome]]] = {
    "activate": _activate,
    "approve": _approve,
    "reject": _reject,
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "rollback": _rollback,
    "finish": _finish,
    "retry": _retry,
    "skip": _skip,
}
