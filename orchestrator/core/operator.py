"""What people and tools command: each verb answered, refused with what would be allowed, and audited.

Commands are idempotent: said twice, the second answers ``ok`` with ``already_applied``. A command that names a wave or
a plan is bound to it.

Source:
    Wire contract, "Ops commands"; DECISIONS.md, 7 (abort, reject and rollback).
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.judging import current_gate, judge_now
from orchestrator.core.orders import may_run_it, order_back, order_hold
from orchestrator.core.progress import next_wave
from orchestrator.core.state import TERMINAL, Phase, Rollout, State
from orchestrator.core.status import plan_summary, rollout_summary
from orchestrator.core.targets import Refusal, make_plan, take_baselines
from schemas.commands import DeviceCommand, QueryCommand, RolloutCommand, StartCommand
from schemas.errors import PolicyError
from schemas.messages import Reply, ReplyError
from schemas.policy import Policy
from schemas.verdicts import Verdict

LISTED_MAX: Final = 50
"""Rollouts that ``list`` names, the newest; an answer must fit into one message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leads to: facts, and the answer.

    Attributes:
        about: The rollout whose state after the facts belongs into the answer; see ``complete``.
    """

    events: list[e.AnyEvent]
    reply: Reply
    about: str | None = None


def complete(state: State, outcome: Outcome, now: float) -> Reply:
    """Return the answer with the state that the command led to; its facts have been applied."""
    if outcome.about is None:
        return outcome.reply
    summary = rollout_summary(state.rollouts[outcome.about], now)
    return outcome.reply.model_copy(update={"data": {**summary, **(outcome.reply.data or {})}})


def decide_command(state: State, received: CommandReceived, context: Context, now: float) -> Outcome:
    """Answer one command; a refused one changes nothing and is audited all the same."""
    command = received.command
    match command:
        case StartCommand():
            outcome = _start(state, received, command, context, now)
        case DeviceCommand():
            outcome = _device(state, received, command)
        case QueryCommand():
            outcome = _query(state, command, now)
        case RolloutCommand():
            outcome = _rollout(state, received, command, context, now)
    reply = outcome.reply.model_copy(update={"transaction": command.transaction})
    return Outcome([*outcome.events, *_answered(received, reply)], reply, outcome.about)


def refuse(code: str, message: str, **hints: Any) -> Reply:  # noqa: ANN401 - each hint is a field of ReplyError
    """Build the answer to a command that cannot be done."""
    return Reply(status="error", error=ReplyError.model_validate({"code": code, "message": message[:1024], **hints}))


def _answered(received: CommandReceived, reply: Reply) -> list[e.AnyEvent]:
    command = received.command
    match command:
        case RolloutCommand() | StartCommand():
            subject, reason = command.rollout or "", command.reason
        case DeviceCommand():
            subject, reason = command.device, command.reason
        case QueryCommand():
            return []  # Looking changes nothing, and dashboards look often.
    return [
        e.CommandAnswered(
            actor=received.actor,
            verb=received.verb,
            subject=subject,
            status=reply.status,
            code=reply.error.code if reply.error else "",
            reason=reason,
            transaction=command.transaction,
        )
    ]


def _ok(rollout: Rollout | None, now: float, **data: Any) -> Reply:  # noqa: ANN401 - any JSON value
    summary = rollout_summary(rollout, now) if rollout is not None else {}
    return Reply(status="ok", data={**summary, **data})


def _start(state: State, received: CommandReceived, command: StartCommand, context: Context, now: float) -> Outcome:
    release = context.releases.get(command.release)
    if release is None:
        near = tuple(get_close_matches(command.release, context.releases, n=3))
        return Outcome([], refuse("not_found", f"no release {command.release!r}", did_you_mean=near))
    policy = _policy(command, context)
    if isinstance(policy, Reply):
        return Outcome([], policy)
    name = command.rollout or _next_name(state)
    running = state.rollouts.get(name)
    if running is not None:
        if running.release == release and running.policy == policy:
            return Outcome([], _ok(running, now, already_applied=True))
        return Outcome([], refuse("conflict", f"rollout {name!r} exists with another release or policy"))
    plan = make_plan(state, release, policy, name)
    if isinstance(plan, Refusal):
        return Outcome([], refuse("conflict", plan.message))
    if received.verb == "plan":
        return Outcome([], Reply(status="ok", data=plan_summary(name, plan)))
    baselines = take_baselines(state, plan, release, policy, context=context, now=now)
    if isinstance(baselines, Refusal):
        return Outcome([], refuse("conflict", baselines.message))
    started = e.RolloutStarted(
        rollout=name,
        by=received.actor,
        reason=command.reason,
        release=release,
        registry_url=context.registry_url,
        policy=policy,
        plan=plan,
        baselines=baselines,
    )
    reply = Reply(status="ok", data=plan_summary(name, plan))
    return Outcome([started, e.WaveStarted(rollout=name, wave=0)], reply)


def _next_name(state: State) -> str:
    numbers = itertools.count(len(state.rollouts) + 1)
    return next(name for number in numbers if (name := f"r-{number:03d}") not in state.rollouts)


def _policy(command: StartCommand, context: Context) -> Policy | Reply:
    if isinstance(command.policy, str):
        try:
            policy = context.policies.get(command.policy)
        except PolicyError as error:
            return refuse("invalid_payload", str(error), field="policy")
        if policy is None:
            near = tuple(get_close_matches(command.policy, context.policies, n=3))
            return refuse("not_found", f"no policy {command.policy!r}", did_you_mean=near)
    else:
        try:
            policy = Policy.model_validate(command.policy)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(("policy", *map(str, first["loc"])))
            return refuse("invalid_payload", f"{field}: {first['msg']}", field=field[:128])
    return policy.scaled(command.time_scale)


def _device(state: State, received: CommandReceived, command: DeviceCommand) -> Outcome:
    device = state.devices.get(command.device)
    if device is None:
        near = tuple(get_close_matches(command.device, state.devices, n=3))
        return Outcome([], refuse("not_found", f"no device {command.device!r}", did_you_mean=near))
    keep_out = received.verb == "quarantine"
    data: dict[str, Any] = {"device": device.id, "quarantined": keep_out}
    if bool(device.quarantine) is keep_out:
        return Outcome([], Reply(status="ok", data={**data, "already_applied": True}))
    reason = command.reason or f"by {received.actor}"
    event: e.AnyEvent
    if keep_out:
        event = e.DeviceQuarantined(device=device.id, by=received.actor, reason=reason)
    else:
        event = e.DeviceReleased(device=device.id, by=received.actor, reason=reason)
    return Outcome([event], Reply(status="ok", data=data))


def _query(state: State, command: QueryCommand, now: float) -> Outcome:
    if command.rollout is None:
        rows = [rollout_summary(rollout, now) for rollout in list(state.rollouts.values())[-LISTED_MAX:]]
        return Outcome([], Reply(status="ok", data={"rollouts": rows, "devices": len(state.devices)}))
    rollout = state.rollouts.get(command.rollout)
    return Outcome([], _ok(rollout, now) if rollout is not None else _no_rollout(state, command.rollout))


def _no_rollout(state: State, name: str) -> Reply:
    near = tuple(get_close_matches(name, state.rollouts, n=3, cutoff=0.4))
    return refuse("not_found", f"no rollout {name!r}", did_you_mean=near)


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
        allowed = allowed_verbs(self.rollout)
        return Outcome([], refuse("wrong_phase", message, phase=self.rollout.phase.value, allowed=allowed))


def _rollout(state: State, received: CommandReceived, command: RolloutCommand, context: Context, now: float) -> Outcome:
    rollout = state.rollouts.get(command.rollout)
    if rollout is None:
        return Outcome([], _no_rollout(state, command.rollout))
    if command.plan is not None and command.plan != rollout.plan.digest:
        return Outcome([], refuse("conflict", f"the plan of {rollout.id} is {rollout.plan.digest}, not the one named"))
    waves = [wave.name for wave in rollout.plan.waves]
    if command.wave is not None and command.wave not in waves:
        near = tuple(get_close_matches(command.wave, waves, n=3))
        return Outcome([], refuse("not_found", f"no wave {command.wave!r} in {rollout.id}", did_you_mean=near))
    if command.wave not in {None, rollout.wave_name} and received.verb != "approve":
        return Outcome([], refuse("conflict", f"{rollout.id} is at {rollout.wave_name!r}, not at {command.wave!r}"))
    return _VERBS[received.verb](_Order(state, rollout, received.actor, command, context, now))


def _approve(given: _Order) -> Outcome:
    rollout, wave = given.rollout, given.command.wave
    approved = {rollout.plan.waves[number].name for number in rollout.approvals}
    if wave in approved or (wave is None and approved and rollout.phase is not Phase.AWAITING_APPROVAL):
        return given.ok([])
    if rollout.phase is not Phase.AWAITING_APPROVAL:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, there is nothing to approve")
    if wave not in {None, rollout.wave_name}:
        return Outcome(
            [], refuse("conflict", f"{rollout.id} awaits approval after {rollout.wave_name!r}, not {wave!r}")
        )
    if rollout.policy.four_eyes and given.actor == rollout.by:
        return Outcome([], refuse("four_eyes", f"{given.actor} started {rollout.id}; another person must approve it"))
    if rollout.paused:
        return given.wrong_phase(f"{rollout.id} is paused; resume it first")
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(given.state, rollout, gate, given.context, given.now)
    if verdict is not Verdict.PASS:
        why = "; ".join(check.why for check in checks if check.verdict != "pass")
        return Outcome([], refuse("conflict", f"{name} is {verdict.word} on fresh data: {why}"))
    approval = e.RolloutApproved(
        rollout=rollout.id,
        wave=rollout.wave,
        by=given.actor,
        reason=given.command.reason,
        plan_digest=rollout.plan.digest,
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
    if rollout.phase in {*TERMINAL, Phase.ROLLING_BACK} or rollout.halted_from is Phase.ROLLING_BACK:
        return given.wrong_phase(f"{rollout.id} is {rollout.phase.value}, it cannot go on")
    if not rollout.paused and rollout.phase is not Phase.HALTED:
        return given.ok([])
    excused: tuple[str, ...] = ()
    if rollout.phase is Phase.HALTED:
        excused = tuple(name for name, member in rollout.members.items() if member.failed and not member.excused)
    return given.ok(
        [e.RolloutResumed(rollout=rollout.id, by=given.actor, reason=given.command.reason, excused=excused)]
    )


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
    if rollout.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return given.ok([])
    others = [name for name in rollout.members if given.state.devices[name].rollout not in {None, rollout.id}]
    if others:
        newer = given.state.devices[others[0]].rollout
        return Outcome([], refuse("conflict", f"{len(others)} devices of {rollout.id} are in {newer} by now"))
    return given.ok(_all_back(given, "operator"))


def _all_back(given: _Order, trigger: str) -> list[e.AnyEvent]:
    reason = given.command.reason or f"{trigger} by {given.actor}"
    return order_back(
        given.state, given.rollout, "fleet", given.rollout.plan.targets,
        trigger=trigger, action="rollback_all", by=given.actor, reason=reason,
    )  # fmt: skip


_VERBS: Final[Mapping[str, Callable[[_Order], Outcome]]] = {
    "approve": _approve,
    "reject": _reject,
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "rollback": _rollback,
}


def allowed_verbs(rollout: Rollout) -> tuple[str, ...]:
    """Return the commands that would change something now."""
    deployed = any(map(may_run_it, rollout.members.values()))
    match rollout.phase:
        case Phase.ABORTED | Phase.COMPLETED:
            return ("rollback",) if deployed else ()
        case Phase.ROLLED_BACK | Phase.ROLLING_BACK:
            return ()
        case Phase.HALTED if rollout.halted_from is Phase.ROLLING_BACK:
            return ("rollback", "abort")
        case Phase.HALTED:
            return ("resume", "rollback", "abort")
        case Phase.AWAITING_APPROVAL if not rollout.paused:
            return ("approve", "reject", "pause", "abort", "rollback")
        case _:
            return ("resume" if rollout.paused else "pause", "abort", "rollback")
