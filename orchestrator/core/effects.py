"""What the shell must do after a fact: a mapping without rules.

Every effect is idempotent, so performing one twice after a crash is harmless. Documents are levels: an effect names the
document, and what is published is its state at that moment, so ten facts in one turn publish it once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.members import Member
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.documents import GateResult, RollbackOrder, RolloutEvent
from schemas.messages import Grant, Message
from schemas.times import format_timestamp
from schemas.topics import Kind

DEVICES_SHOWN_MAX: Final = 200
_MESSAGE_MAX: Final = 1024  # what the wire's text holds
_TOLD: Final = {"by", "reason", "code", "message", "device", "trigger", "extension", "attempt", "verdict", "healthy"}


@dataclass(frozen=True, slots=True)
class PublishDesired:
    """Write a device's desired state."""

    device: str


@dataclass(frozen=True, slots=True)
class PublishStatus:
    """Write a rollout's status and the wave documents that changed."""

    rollout: str
    waves: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteProgress:
    """Write a rollout's status and these wave documents with the next tick: devices come in crowds."""

    rollout: str
    waves: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """Write a rollout's accepted plan."""

    rollout: str


@dataclass(frozen=True, slots=True)
class PublishMessage:
    """Publish one message once."""

    kind: Kind
    ids: Mapping[str, str] = field(hash=False)
    message: Message


@dataclass(frozen=True, slots=True)
class SendGrant:
    """Sign a grant and send it to its device."""

    grant: Grant


Effect = PublishDesired | PublishStatus | NoteProgress | PublishPlan | PublishMessage | SendGrant


def react(state: State, event: e.AnyEvent, at: float) -> list[Effect]:
    """Name the effects of ``event``, which has been applied to ``state``."""
    match event:
        case e.DevicesOrdered(rollout=name, devices=devices):
            return [*(PublishDesired(device) for device in devices), NoteProgress(name, _waves(state, name, devices))]
        case e.GrantIssued(rollout=name, device=device, step="activate"):  # The answer is made where it is asked for.
            return [NoteProgress(name, (state.rollouts[name].members[device].wave,))]
        case e.RolloutStarted(rollout=name, plan=plan):
            return [
                PublishPlan(name),
                PublishStatus(name, tuple(range(len(plan.waves)))),
                _notice(event, at, "started"),
            ]
        case e.GateJudged(rollout=name, wave=wave):
            ids = {"rollout": name, "wave": state.rollouts[name].plan.waves[wave].name}
            status = PublishStatus(name) if event.decision == "watch" else PublishStatus(name, (wave,))
            return [PublishMessage(Kind.GATE, ids, _gate(event, at)), status]
        case e.RollbackOrdered(rollout=name, scope=scope):
            order = PublishMessage(Kind.ROLLBACK, {"rollout": name, "scope": scope}, _order(event, at))
            return [order, PublishStatus(name, (state.rollouts[name].wave,)), _notice(event, at, "rollback_ordered")]
        case (
            e.DeviceStaged(rollout=name, device=device)
            | e.DeviceProven(rollout=name, device=device)
            | e.DeviceCommitted(rollout=name, device=device)
            | e.DeviceReturned(rollout=name, device=device)
            | e.DeviceSkipped(rollout=name, device=device)
        ):
            return [NoteProgress(name, _waves(state, name, [device]))]
        case e.DeviceFailed(rollout=name, device=device) | e.DeviceRetried(rollout=name, device=device):
            return [NoteProgress(name, _waves(state, name, [device])), _notice(event, at, event.kind)]
        case e.DevicesJoined(rollout=name, devices=devices):
            return [NoteProgress(name, _waves(state, name, devices)), _notice(event, at, event.kind)]
        case e.RollbackVerified(rollout=name):
            return [PublishStatus(name), _notice(event, at, event.kind)]
        case e.FleetFrozen() | e.FleetThawed():
            return [each for it in state.active for each in _everywhere(it, event, at)]
        case e.WaveStarted(rollout=name, wave=wave):
            waves = tuple(sorted({max(wave - 1, 0), wave}))
            return [PublishStatus(name, waves), _notice(event, at, "wave_started", wave=_wave_name(state, name, wave))]
        case e.StagingStarted(rollout=name):
            return [PublishStatus(name), _notice(event, at, event.kind)]
        case (
            e.RolloutActivated()
            | e.RolloutApproved()
            | e.RolloutPaused()
            | e.RolloutResumed()
            | e.RolloutHalted()
            | e.RolloutEnded()
        ):
            rollout = state.rollouts[event.rollout]
            notice = _notice(event, at, event.kind.removeprefix("rollout_"))
            return [PublishStatus(rollout.id, (rollout.wave,)), notice]
        case e.SoakStarted(rollout=name, wave=wave) | e.SoakExtended(rollout=name, wave=wave):
            notice = _notice(event, at, event.kind, wave=_wave_name(state, name, wave))
            return [PublishStatus(name, (wave,)), notice]
        case e.CanaryPhaseStarted(rollout=name):
            return [PublishStatus(name, (0,)), _notice(event, at, event.kind)]
        case _:
            return []


def reassert(state: State) -> list[Effect]:
    """Name the effects that write the documents of rollouts again: after each connect the broker may have lost them."""
    rollouts: list[Effect] = []
    for rollout in state.rollouts.values():
        rollouts += [PublishPlan(rollout.id), PublishStatus(rollout.id, tuple(range(len(rollout.plan.waves))))]
        rollouts += [_gate_again(rollout, judged) for judged in rollout.gates.values()]
    return rollouts


def ordered_devices(state: State) -> list[str]:
    """Name the devices whose desired state is on the broker, and may have been lost like the other documents."""
    return state.devices.named(~state.devices.where(Device.rollout, None))


def merge(effects: Iterable[Effect]) -> list[Effect]:
    """Fold repeated documents into one, each at the place of its last mention; messages stay as they are."""
    waves: dict[str, set[int]] = {}
    last: dict[object, Effect] = {}
    for number, effect in enumerate(effects):
        match effect:
            case PublishStatus(rollout=rollout, waves=changed):
                waves.setdefault(rollout, set()).update(changed)
                key: object = ("status", rollout)
                effect = PublishStatus(rollout, tuple(sorted(waves[rollout])))  # noqa: PLW2901 - the merged one
            case PublishDesired() | PublishPlan():
                key = effect
            case _:
                key = number
        last.pop(key, None)
        last[key] = effect
    return list(last.values())


def _everywhere(rollout: Rollout, event: e.FleetFrozen | e.FleetThawed, at: float) -> list[Effect]:
    """Tell every active rollout what concerns all of them."""
    reason = event.reason[:_MESSAGE_MAX]
    notice = RolloutEvent(rollout=rollout.id, message=reason, detail={"reason": reason}, ts=format_timestamp(at))
    ids = {"rollout": rollout.id, "kind": event.kind}
    return [PublishMessage(Kind.ROLLOUT_EVENT, ids, notice), PublishStatus(rollout.id)]


def _waves(state: State, rollout: str, devices: Iterable[str]) -> tuple[int, ...]:
    members = state.rollouts[rollout].members
    waves = np.unique(members.column(Member.wave)[members.rows(devices)])
    return tuple(int(wave) for wave in waves)


def _gate_again(rollout: Rollout, judged: e.GateJudged) -> Effect:
    ids = {"rollout": rollout.id, "wave": rollout.plan.waves[judged.wave].name}
    return PublishMessage(Kind.GATE, ids, _gate(judged, rollout.gates_at[judged.wave]))


def _gate(event: e.GateJudged, at: float) -> GateResult:
    return GateResult(
        gate=event.gate,
        verdict=event.verdict,
        decision=event.decision,
        evaluated_at=format_timestamp(at),
        devices=event.devices,
        checks=event.checks,
        phase=event.phase,
        not_judged=event.not_judged,
    )


def _order(event: e.RollbackOrdered, at: float) -> RollbackOrder:
    return RollbackOrder(
        trigger=event.trigger,
        scope=event.scope,
        action=event.action,
        devices=event.devices[:DEVICES_SHOWN_MAX],
        device_count=len(event.devices),
        evidence=event.evidence,
        ts=format_timestamp(at),
    )


def _wave_name(state: State, rollout: str, wave: int) -> str:
    return state.rollouts[rollout].plan.waves[wave].name


def _notice(event: e.Event, at: float, kind: str, *, wave: str | None = None) -> PublishMessage:
    """Tell the fact to whoever listens; the whole of it stands in the audit."""
    body = event.model_dump(mode="json", include=_TOLD)
    rollout = str(getattr(event, "rollout", ""))
    notice = RolloutEvent(
        rollout=rollout,
        wave=wave,
        device=body.pop("device", None),
        message=_message(event, body)[:_MESSAGE_MAX],
        detail=body,
        ts=format_timestamp(at),
    )
    return PublishMessage(Kind.ROLLOUT_EVENT, {"rollout": rollout, "kind": kind}, notice)


def _message(event: e.Event, body: Mapping[str, Any]) -> str:
    """Say the fact in a few words, where its kind alone does not."""
    match event:
        case e.CanaryPhaseStarted(phase=phase):
            return phase.replace("_", "-")
        case e.RollbackVerified(verdict=verdict, healthy=healthy):
            return f"{verdict}, {healthy} healthy"
        case e.DevicesJoined(devices=devices):
            return f"{len(devices)} devices"
        case _:
            return str(body.get("reason") or body.get("message") or "")
