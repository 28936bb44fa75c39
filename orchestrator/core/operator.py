"""What people and tools command: each verb answered, refused with what would be allowed, and audited.

Commands are idempotent: said twice, the second answers ``ok`` with ``already_applied``; see also ``repeating``.

Source:
    Wire contract, "Ops commands".
"""

from typing import Any

from orchestrator.core import events as e
from orchestrator.core.answers import Outcome, accept, unknown
from orchestrator.core.asking import decide_get, decide_list
from orchestrator.core.context import Context
from orchestrator.core.deciding import decide_rollout_command
from orchestrator.core.importing import decide_import
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.repeating import done_before
from orchestrator.core.starting import decide_start
from orchestrator.core.state import State
from schemas.commands import DeviceCommand, ImportCommand, ListCommand, QueryCommand, RolloutCommand, StartCommand
from schemas.documents import Reply


def decide_command(state: State, received: CommandReceived, context: Context, now: float) -> Outcome:
    """Answer one command; a refused one changes nothing and is audited all the same."""
    before = done_before(state.done, received, now)
    outcome = _repeated(state, received, before) or _decide(state, received, context, now)
    reply = outcome.reply.model_copy(update={"transaction": received.command.transaction})
    return Outcome([*outcome.events, *_answered(received, reply)], reply, outcome.about)


def _decide(state: State, received: CommandReceived, context: Context, now: float) -> Outcome:
    command = received.command
    match command:
        case StartCommand():
            return decide_start(state, received, command, context, now)
        case DeviceCommand():
            return _decide_device(state, received, command)
        case QueryCommand():
            return decide_get(state, command, now)
        case ListCommand():
            return decide_list(state, command, context, now)
        case ImportCommand():
            return decide_import(state, received, command)
        case RolloutCommand():
            return decide_rollout_command(state, received, command, context, now)


def _repeated(state: State, received: CommandReceived, rollout: str | None) -> Outcome | None:
    """Answer what was done before, unless a start wants another release by now."""
    command = received.command
    if rollout is None:
        return None
    if isinstance(command, StartCommand) and state.rollouts[rollout].release.release != command.release:
        return None
    data = {"by": received.actor, "already_applied": True}
    return Outcome([], Reply(status="ok", data=data), about=rollout)


def _answered(received: CommandReceived, reply: Reply) -> list[e.AnyEvent]:
    command = received.command
    match command:
        case RolloutCommand():
            subject, reason = command.rollout, command.reason
        case StartCommand():
            subject, reason = command.rollout or (reply.data or {}).get("rollout", ""), command.reason
        case DeviceCommand():
            subject, reason = command.device, command.reason
        case ImportCommand():
            subject, reason = command.import_id, command.reason
        case QueryCommand() | ListCommand():
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


def _decide_device(state: State, received: CommandReceived, command: DeviceCommand) -> Outcome:
    device = state.devices.get(command.device)
    if device is None:
        return unknown("device", command.device, state.devices)
    keep_out = received.verb == "quarantine"
    data: dict[str, Any] = {"device": device.id, "quarantined": keep_out}
    if bool(device.quarantine) is keep_out:
        return accept({**data, "already_applied": True})
    reason = command.reason or f"by {received.actor}"
    event: e.AnyEvent
    if keep_out:
        event = e.DeviceQuarantined(device=device.id, by=received.actor, reason=reason)
    else:
        event = e.DeviceReleased(device=device.id, by=received.actor, reason=reason)
    return accept(data, [event])
