"""Asking for permission, and what the answers do.

A device asks with a fresh nonce, and only the last question may be answered. Without an answer it asks again, ever more
slowly and never in step with the others; an answer of "wait" says when. An order from a medium is its own permission:
what the device itself insists on (brake, consent, hook, window) holds for it too, and then nobody is asked.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import WAITED_FOR, ErrorCode, describe
from device_client.core.effects import ClearStaging, DrawNonce, LogRefusal, PublishReady
from device_client.core.events import ConsentGiven, GrantReceived, NonceDrawn, Step, StepFailed, StepSucceeded
from device_client.core.grant import Question, judge_grant
from device_client.core.hooks import pause_seconds, refusal_of, run_hook, says_later
from device_client.core.machine import ASKING, CHANGING, Phase, Signal
from device_client.core.probe import is_proven
from device_client.core.state import NOTHING, Device, Outcome, keep, move, note, spread
from device_client.core.switching import activate, commit, roll_back_as_ordered
from schemas.messages import Desired, ErrorReport, Grant, Ready
from schemas.messages import Step as GrantedStep
from schemas.times import parse_timestamp
from schemas.windows import opens_in_seconds

PATIENCE_SECONDS: Final = 15.0
PATIENCE_SECONDS_MAX: Final = 300.0
WAIT_SECONDS: Final = 30.0
"""When a "wait" does not say for how long."""
_AGREE: Final = "somebody at the device must agree: tidegate-agent consent"
WAIT_SECONDS_MIN: Final = 1.0
WAIT_SECONDS_MAX: Final = 3600.0
HOLD_SPREAD_SECONDS: Final = 5.0


def wanted(device: Device) -> GrantedStep | None:
    """Return the step for which the device wants permission now."""
    record = device.record
    if record.phase in ASKING:
        is_prepared = device.retry_at is None or record.trial is not None
        return "activate" if is_prepared and not is_braked(device) else None
    if record.phase is Phase.TRIAL and record.trial is not None and record.trial.commit_on != "local_health":
        serving = record.serving
        assert serving is not None, "a trial serves"
        proven = is_proven(device.health, serving.health_check, record.trial.min_ready_seconds)
        return "commit" if proven and device.step is None else None
    return None


def is_braked(device: Device) -> bool:
    """Say whether the fleet's brake forbids the order at hand; it never keeps a device on a bad version."""
    is_on = device.hold or (device.record.held and is_granted_beforehand(device))
    return is_on and is_install(device)


def lacks_consent(device: Device) -> bool:
    """Say whether somebody at the device has yet to agree to the order at hand."""
    return device.setup.needs_consent and device.record.consent != device.record.order_number


def closed_for(device: Device, clock: float) -> float:
    """Return how long the device's own window stays closed, in seconds; 0 while it is open or there is none."""
    window = device.setup.window
    return 0.0 if window is None else opens_in_seconds(window, None, clock)


def is_install(device: Device) -> bool:
    """Say whether the order at hand is to install; what leads back waits for nobody."""
    desired = device.record.desired
    return desired is not None and desired.action == "install"


def is_granted_beforehand(device: Device) -> bool:
    """Say whether the order at hand came with its permission, from a medium; there may be nobody to ask."""
    return device.record.media is not None


def ask_if_due(device: Device, now: float) -> Outcome:
    """Ask for what is wanted when it is time; a question about what is not wanted any more is void."""
    step = wanted(device)
    if step is None or not (device.connected or is_granted_beforehand(device)):
        is_void = device.question is None and device.ask_at is None
        return device if is_void else replace(device, question=None, ask_at=None), NOTHING
    if device.question is not None and device.question.step != step:
        device = replace(device, question=None, ask_at=None)
    if device.step is Step.BEFORE_SWITCH or (device.ask_at is not None and now < device.ask_at):
        return device, NOTHING
    if step == "activate" and is_install(device) and lacks_consent(device):
        device = replace(device, question=None, ask_at=now + WAIT_SECONDS_MAX)
        if device.record.error is not None and device.record.error.code == ErrorCode.CONSENT_MISSING:
            return device, NOTHING
        return _wait_for(device, describe(ErrorCode.CONSENT_MISSING, "activate", _AGREE, retryable=True))
    if step == "activate" and is_install(device) and Step.BEFORE_SWITCH in device.setup.hooks:
        return run_hook(replace(device, question=None), Step.BEFORE_SWITCH)
    return _draw(device, step, now)


def on_hook(device: Device, event: StepSucceeded | StepFailed, now: float) -> Outcome:
    """Hear what the hook before the question says: ask, ask it again later, or give up."""
    device = replace(device, step=None)
    if wanted(device) != "activate" or not is_install(device):
        return device, NOTHING
    if isinstance(event, StepSucceeded):
        return _draw(device, "activate", now)
    if says_later(device, event):
        device = replace(device, ask_at=now + pause_seconds(device))
        error = describe(event.code, event.step.value, event.message, retryable=True)
        return _wait_for(device, error, waits=device.record.waits + 1)
    event = refusal_of(event)
    device, told = move(device, Signal.GAVE_UP, error=describe(event.code, event.step.value, event.message))
    return device, (*told, ClearStaging())


def on_consent(device: Device, event: ConsentGiven) -> Outcome:
    """Remember that somebody at the device agrees, and ask at once if that was what it waited for."""
    if event.generation == device.record.consent:
        return device, NOTHING
    if device.phase in ASKING and event.generation == device.record.order_number:
        device = replace(device, ask_at=None)
    return keep(device, consent=event.generation)


def on_nonce(device: Device, event: NonceDrawn, now: float) -> Outcome:
    """Publish the question if it is still wanted, and not outside of the window, as far as the device can know."""
    is_granted = is_granted_beforehand(device)
    if event.step != wanted(device) or not (device.connected or is_granted):
        return device, NOTHING
    ahead = device.server_ahead_seconds
    clock = event.clock if ahead is None else now + ahead
    if event.step == "activate" and is_install(device) and clock is not None:
        closed_seconds = closed_for(device, clock)
        if closed_seconds > 0:
            return _await_window(device, closed_seconds, now)
    error = device.record.error
    waited = device.phase in ASKING and error is not None and error.code in WAITED_FOR
    device, told = note(device, error=None, waits=0) if waited else (device, NOTHING)
    desired = device.record.desired
    assert desired is not None, "only an order makes a device ask"
    if is_granted:
        device, effects = activate(replace(device, question=None, ask_at=None, asked_count=0), desired, now)
        return device, (*told, *effects)
    count = device.asked_count
    patience_seconds = min(PATIENCE_SECONDS * 2 ** min(count, 8), PATIENCE_SECONDS_MAX)
    device = replace(
        device,
        question=Question(event.step, event.nonce, now),
        ask_at=now + patience_seconds * (0.75 + 0.5 * spread(device, count)),
        asked_count=count + 1,
    )
    ready = Ready(
        generation=desired.generation,
        step=event.step,
        nonce=event.nonce,
        manifest_sha256=desired.manifest.sha256 if desired.manifest is not None else None,
    )
    return device, (*told, PublishReady(ready))


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
    ahead = _ahead(grant, now)
    device = device if ahead is None else replace(device, server_ahead_seconds=ahead)
    generation = max(record.marks.generation, grant.generation)
    marks = record.marks.model_copy(update={"epoch": grant.epoch, "seq": grant.seq, "generation": generation})
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
    device, kept = keep(device, held=hold) if device.record.held != hold else (device, NOTHING)
    if device.phase not in ASKING or is_braked(device) == was_braked:
        return device, kept
    if not hold:
        return replace(device, ask_at=now + HOLD_SPREAD_SECONDS * spread(device, 0)), kept
    if device.phase is not Phase.READY:
        return device, kept
    device, told = move(device, Signal.TOLD_TO_WAIT)
    return device, (*kept, *told)


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
    closed_seconds = closed_for(device, server_time)
    if closed_seconds > 0:
        return _await_window(device, closed_seconds, now)
    return activate(device, desired, now)


def _give_up(device: Device, code: ErrorCode, message: str) -> Outcome:
    device, told = move(device, Signal.GAVE_UP, error=describe(code, "activate", message))
    return device, (*told, ClearStaging())


def _ahead(grant: Grant, now: float) -> float | None:
    try:
        return parse_timestamp(grant.server_time) - now
    except ValueError:
        return None


def _await_window(device: Device, closed_seconds: float, now: float) -> Outcome:
    """Wait until the window opens; a clock may be set meanwhile, so look again every hour."""
    seconds = min(closed_seconds, WAIT_SECONDS_MAX)
    device = replace(device, question=None, ask_at=now + seconds)
    if device.record.error is not None and device.record.error.code == ErrorCode.OUTSIDE_WINDOW:
        return keep(device)
    window = device.setup.window
    assert window is not None, "only a window is outside of"
    words = f"this device is updated from {window.start} to {window.end} ({window.time_zone})"
    return _wait_for(device, describe(ErrorCode.OUTSIDE_WINDOW, "activate", words, retryable=True))


def _draw(device: Device, step: GrantedStep, now: float) -> Outcome:
    return replace(device, question=None, ask_at=now + PATIENCE_SECONDS), (DrawNonce(step),)


def _wait_for(device: Device, error: ErrorReport | None, **changes: object) -> Outcome:
    """Wait, and say what for."""
    if device.phase is Phase.READY and error is not None:
        return move(device, Signal.TOLD_TO_WAIT, error=error, **changes)
    return note(device, error=error, **changes)


def _wait(device: Device, now: float, retry_after_seconds: float | None) -> Outcome:
    wanted_seconds = WAIT_SECONDS if retry_after_seconds is None else retry_after_seconds
    seconds = max(WAIT_SECONDS_MIN, min(wanted_seconds, WAIT_SECONDS_MAX))
    if not is_braked(device):
        device = replace(device, ask_at=now + seconds * (1 + 0.1 * spread(device, device.record.marks.seq)))
    if device.phase is Phase.READY:
        return move(device, Signal.TOLD_TO_WAIT)
    return keep(device)
