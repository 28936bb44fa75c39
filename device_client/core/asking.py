"""Asking for permission, and what the answers do.

A device asks with a fresh nonce, and only the last question may be answered. Without an answer it asks again, ever more
slowly and never in step with the others; an answer of "wait" says when.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import ClearStaging, DrawNonce, LogRefusal, PublishReady
from device_client.core.events import GrantReceived, NonceDrawn
from device_client.core.grant import Question, judge_grant
from device_client.core.machine import ASKING, CHANGING, Phase, Signal
from device_client.core.probe import is_proven
from device_client.core.record import Marks
from device_client.core.state import NOTHING, Device, Outcome, keep, move, spread
from device_client.core.switching import activate, commit, roll_back_as_ordered
from schemas.messages import Desired, Grant, Ready, Step
from schemas.times import parse_timestamp

PATIENCE_SECONDS: Final = 15.0
PATIENCE_SECONDS_MAX: Final = 300.0
WAIT_SECONDS: Final = 30.0
"""When a "wait" does not say for how long."""
WAIT_SECONDS_MIN: Final = 1.0
WAIT_SECONDS_MAX: Final = 3600.0
HOLD_SPREAD_SECONDS: Final = 5.0


def wanted(device: Device) -> Step | None:
    """Return the step for which the device wants permission now."""
    record = device.record
    if record.phase in ASKING:
        return None if is_braked(device) else "activate"
    if record.phase is Phase.TRIAL and record.trial is not None and record.trial.commit_on != "local_health":
        serving = record.serving
        assert serving is not None, "a trial serves"
        proven = is_proven(device.health, serving.health_check, record.trial.min_ready_seconds)
        return "commit" if proven else None
    return None


def is_braked(device: Device) -> bool:
    """Say whether the fleet's brake forbids the order at hand; it never keeps a device on a bad version."""
    desired = device.record.desired
    return device.hold and desired is not None and desired.action == "install"


def ask_if_due(device: Device, now: float) -> Outcome:
    """Ask for what is wanted when it is time; a question about what is not wanted any more is void."""
    step = wanted(device)
    if step is None or not device.connected:
        return replace(device, question=None, ask_at=None), NOTHING
    if device.question is not None and device.question.step != step:
        device = replace(device, question=None, ask_at=None)
    if device.ask_at is not None and now < device.ask_at:
        return device, NOTHING
    return replace(device, question=None, ask_at=now + PATIENCE_SECONDS), (DrawNonce(step),)


def on_nonce(device: Device, event: NonceDrawn, now: float) -> Outcome:
    """Publish the question if it is still wanted."""
    if event.step != wanted(device) or not device.connected:
        return device, NOTHING
    count = device.asked_count
    patience_seconds = min(PATIENCE_SECONDS * 2 ** min(count, 8), PATIENCE_SECONDS_MAX)
    device = replace(
        device,
        question=Question(event.step, event.nonce, now),
        ask_at=now + patience_seconds * (0.75 + 0.5 * spread(device, count)),
        asked_count=count + 1,
    )
    desired = device.record.desired
    assert desired is not None, "only an order makes a device ask"
    ready = Ready(
        generation=desired.generation,
        step=event.step,
        nonce=event.nonce,
        manifest_sha256=desired.manifest.sha256 if desired.manifest is not None else None,
    )
    return device, (PublishReady(ready),)


def on_grant(device: Device, event: GrantReceived, now: float) -> Outcome:
    """Accept or refuse an answer; an accepted one is durable before it is acted upon."""
    grant, record = event.grant, device.record
    refusal = judge_grant(
        grant,
        device=device.id,
        question=device.question,
        marks=record.marks,
        generation=record.generation,
        desired_sha256=record.desired_sha256,
        busy=record.phase in CHANGING,
        now=now,
    )
    if refusal is not None:
        return device, (LogRefusal(refusal),)
    marks = Marks(epoch=grant.epoch, seq=grant.seq, generation=max(record.marks.generation, grant.generation))
    device = replace(
        device, record=record.model_copy(update={"marks": marks}), question=None, ask_at=None, asked_count=0
    )
    desired = record.desired
    assert desired is not None, "only an order makes a device ask"
    if grant.decision == "wait":
        return _wait(device, now, grant.retry_after_seconds)
    if grant.step == "commit":
        return commit(device)
    if desired.action == "rollback":
        return roll_back_as_ordered(device)
    return _install(device, desired, grant, now)


def on_hold(device: Device, *, hold: bool, now: float) -> Outcome:
    """Obey the brake: a question about an install is void while it is on, and asked again when it is off."""
    was_braked = is_braked(device)
    device = replace(device, hold=hold)
    if device.phase not in ASKING or is_braked(device) == was_braked:
        return device, NOTHING
    if hold:
        return move(device, Signal.TOLD_TO_WAIT) if device.phase is Phase.READY else (device, NOTHING)
    return replace(device, ask_at=now + HOLD_SPREAD_SECONDS * spread(device, 0)), NOTHING


def window_of(desired: Desired) -> tuple[float | None, float | None]:
    """Return when an install may be activated, as seconds since the epoch.

    Raises:
        ValueError: A time that does not exist; the sender's fault.
    """
    not_before = parse_timestamp(desired.not_before) if desired.not_before else None
    not_after = parse_timestamp(desired.not_after) if desired.not_after else None
    return not_before, not_after


def _install(device: Device, desired: Desired, grant: Grant, now: float) -> Outcome:
    """Activate if the time has come by the only clock we trust, the grant's; under the brake nothing was asked."""
    try:
        server_time = parse_timestamp(grant.server_time)
    except ValueError:
        return _wait(device, now, None)
    if device.root is not None and device.root.has_expired(server_time):
        return _give_up(
            device, ErrorCode.ROOT_EXPIRED, f"root {device.root.version} was good until {device.root.expires}"
        )
    not_before, not_after = window_of(desired)
    if not_before is not None and server_time < not_before:
        return _wait(device, now, not_before - server_time)
    if not_after is not None and server_time > not_after:
        return _give_up(device, ErrorCode.EXPIRED, f"it was allowed until {desired.not_after}")
    return activate(device, desired, now)


def _give_up(device: Device, code: ErrorCode, message: str) -> Outcome:
    device, told = move(device, Signal.GAVE_UP, error=describe(code, "activate", message))
    return device, (*told, ClearStaging())


def _wait(device: Device, now: float, retry_after_seconds: float | None) -> Outcome:
    wanted_seconds = WAIT_SECONDS if retry_after_seconds is None else retry_after_seconds
    seconds = max(WAIT_SECONDS_MIN, min(wanted_seconds, WAIT_SECONDS_MAX))
    if not is_braked(device):
        device = replace(device, ask_at=now + seconds * (1 + 0.1 * spread(device, device.record.marks.seq)))
    if device.phase is Phase.READY:
        return move(device, Signal.TOLD_TO_WAIT)
    return keep(device)
