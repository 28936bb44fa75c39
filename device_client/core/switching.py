"""Changing what serves, step by step as ``walk`` lays them out. Forwards and back it is the same walk.

On the way forwards a step that fails ends the walk at the old version. On the way back nothing may keep the device at
the version that it leaves: what does not answer, drain or follow is gone past, and the router is tried until the time
of the return is over.

The commit wait
===============

How long an uncommitted version may serve depends on what committing takes:

* ``local_health`` and ``round_trip``: ``progress_deadline_seconds`` since the switch, answer included. A device that
  cannot ask any more has perhaps been cut off by the new version, so it goes back; the wave bounds how many can.
* ``gate``: that deadline only until it is locally healthy. Then it waits for the wave's soak, at most
  ``GATE_WAIT_SECONDS_MAX``: long enough for a weekend without an orchestrator, short enough that no device is on trial
  for ever. ``not_after`` limits when an install may be activated; going back at that moment would be a change that
  nobody asked for.

A reboot starts the deadline again, since the boot clock does, and uses up one of ``BOOTS_PER_TRIAL``.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import (
    CancelStep,
    ClearStaging,
    Effect,
    EventKind,
    Restart,
    Route,
    StartApplication,
    SwitchSlot,
)
from device_client.core.events import HOOKS, Step, StepFailed
from device_client.core.hooks import pause_seconds, refusal_of, run_hook, says_later, tell_ignored
from device_client.core.machine import CHANGING, Phase, Signal
from device_client.core.probe import Health
from device_client.core.record import Return, Trial, at_pace_of
from device_client.core.state import NOTHING, Device, Outcome, begin, move, note, tell
from device_client.core.walk import is_side_by_side, proceed, set_out, target_of
from schemas.messages import Desired, ErrorReport

GATE_WAIT_SECONDS_MAX: Final = 7 * 86400.0
RETRY_SECONDS: Final = 5.0
RETURN_ATTEMPTS_MAX: Final = 2


def activate(device: Device, desired: Desired, now: float) -> Outcome:
    """Begin the change to what was installed; the permission for it is used up."""
    record = device.record
    assert desired.manifest is not None, "an install without a manifest is refused when it is accepted"
    trial = Trial(
        slot=record.standby,
        previous=record.active,
        generation=record.order_number,
        manifest_sha256=desired.manifest.sha256,
        commit_on=desired.commit_on,
        min_ready_seconds=desired.min_ready_seconds,
        progress_deadline_seconds=desired.progress_deadline_seconds,
        deadline_at=now + desired.progress_deadline_seconds,
        check=desired.health_check,
        strategy=desired.strategy,
    )
    beside = device.setup.has_router and trial.strategy == "blue_green"
    signal = Signal.GRANTED_SIDE_BY_SIDE if beside else Signal.GRANTED
    device, told = move(device, signal, trial=trial, error=None, waits=0)
    device, effects = set_out(device)
    return device, (*told, *effects)


def roll_back_as_ordered(device: Device) -> Outcome:
    """Begin the ordered change to the slot that holds the ordered version."""
    record = device.record
    desired = record.desired
    assert desired is not None, "only an order makes a device ask"
    slot = record.slot_holding(desired.version)
    assert slot not in (None, record.active), "a device asks only for what it can do"
    going_back = Return(
        slot=slot,
        error=None,
        patience_seconds=desired.progress_deadline_seconds,
        check=at_pace_of(desired.health_check, record.content(slot)),
        strategy=desired.strategy,
    )
    return _go_back(device, Signal.ROLLBACK_GRANTED, going_back, error=None)


def turn_back(device: Device, code: ErrorCode, message: str) -> Outcome:
    """Leave what serves for the version before it, without asking anybody.

    Without a verified version to go back to the device stays where it is and says so.
    """
    record = device.record
    trial = record.trial
    serving = record.serving
    assert serving is not None, "only what serves is left"
    previous = record.previous if trial is None else trial.previous
    generation = record.order_number if trial is None else trial.generation
    refused = record.refusing(generation, serving.manifest_sha256)
    if previous is None or record.content(previous) is None:
        stays = describe(ErrorCode.NO_SAFE_ROLLBACK, "trial", f"{code}: {message}; there is no verified version before")
        return move(device, Signal.GAVE_UP, trial=None, installed_generation=None, refused=refused, error=stays)
    error = describe(code, "trial", message)
    terms = trial or record.desired
    assert terms is not None, "only an order installs"
    going_back = Return(
        slot=previous,
        error=error,
        patience_seconds=terms.progress_deadline_seconds,
        check=at_pace_of(serving.health_check, record.content(previous)),
        strategy=terms.strategy,
    )
    return _go_back(device, Signal.TURNED_BACK, going_back, error=error, refused=refused)


def resume_return(device: Device) -> Outcome:
    """Go on with a rollback that a power cut or a failed step interrupted."""
    return set_out(device)


def commit(device: Device) -> Outcome:
    """Accept what is on trial."""
    record = device.record
    trial = record.trial
    assert trial is not None, "only a trial is committed"
    device, told = move(
        device, Signal.COMMITTED, trial=None, installed_generation=trial.generation, error=None, waits=0
    )
    if Step.AFTER_COMMIT not in device.setup.hooks:
        return device, (*told, ClearStaging())
    device, effects = run_hook(device, Step.AFTER_COMMIT)
    return device, (*told, ClearStaging(), *effects)


def on_changed(device: Device, step: Step, now: float) -> Outcome:
    """Take the next step of the walk after ``step``."""
    told = NOTHING
    if device.phase is Phase.DRAINING and step is Step.STOP:
        device, told = move(device, Signal.STOPPED)
    elif device.phase in CHANGING and step is _arrival(device):
        device, told = _arrive(device, now)
    device, effects = proceed(device)
    return device, (*told, *effects)


def on_change_failed(device: Device, event: StepFailed, now: float) -> Outcome:
    """Stop the walk where something serves: forwards at the old version, back at what there is."""
    if _may_be_passed(device, event.step):
        ignored = (tell_ignored(device, event),) if event.step in HOOKS else NOTHING
        device, effects = proceed(device)
        return device, (*ignored, *effects)
    if device.phase is Phase.TRIAL and says_later(device, event):
        waiting = replace(device, retry_at=now + pause_seconds(device))
        return note(waiting, waits=device.record.waits + 1, error=_error(event))
    event = refusal_of(event)
    if event.step is Step.ROUTE and device.phase is not Phase.SWITCHING:
        return device, NOTHING  # it goes on trying, and whoever needs it waits for this step
    device = replace(device, step=None, walk=())
    match device.phase:
        case Phase.DRAINING | Phase.SWITCHING:
            return _stay(device, event)
        case Phase.ROLLING_BACK:
            return _return_failed(device, event, now)
        case Phase.TRIAL:
            return turn_back(device, event.code, event.message)
        case _:
            return device, ()  # the supervisor keeps trying, and every exit is counted


def _go_back(device: Device, signal: Signal, going_back: Return, **changes: object) -> Outcome:
    cancelled = (CancelStep(),) if device.step is not None else NOTHING  # the way back waits for no drain and no hook
    device, told = move(
        device, signal, going_back=going_back, trial=None, installed_generation=None, attempts=0, **changes
    )
    device, effects = resume_return(device)
    return device, (*cancelled, *told, *effects)


def _arrival(device: Device) -> Step:
    """Return the step after which the target serves: where something else still does, clients must have been seen."""
    is_beside = device.phase is Phase.SWITCHING and is_side_by_side(device) and device.record.active is not None
    return Step.ROUTE if is_beside else Step.SWITCH


def _may_be_passed(device: Device, step: Step) -> bool:
    """Say whether the walk goes on although ``step`` failed."""
    is_return = device.phase is Phase.ROLLING_BACK
    has_arrived = device.record.active == target_of(device) if is_return else device.phase is Phase.TRIAL
    match step:
        case Step.DRAIN | Step.AFTER_COMMIT:
            return True
        case Step.ANSWER | Step.BEFORE_ROLLBACK:
            return is_return
        case Step.AFTER_SWITCH:
            return device.phase is not Phase.TRIAL
        case Step.STOP:
            return has_arrived and is_side_by_side(device)
        case _:
            return False


def _arrive(device: Device, now: float) -> Outcome:
    """The target serves from now on: remember that before anything follows from it."""
    record, target = device.record, target_of(device)
    trial, going_back = record.trial, record.going_back
    if record.phase is Phase.ROLLING_BACK:
        assert going_back is not None, "a return has somewhere to go"
        going_back = going_back.model_copy(update={"deadline_at": now + going_back.patience_seconds})
    else:
        assert trial is not None, "a switch has a trial"
        trial = trial.model_copy(update={"deadline_at": now + trial.progress_deadline_seconds})
    device = replace(device, health=Health(), exits=())
    device, told = move(
        device,
        Signal.SWITCHED,
        active=target,
        linked=None,
        previous=trial.previous if trial is not None else None,
        check=going_back.check if going_back is not None else trial.check if trial is not None else None,
        trial=trial,
        going_back=going_back,
        attempts=0,
    )
    return device, (*told, tell(device, EventKind.SLOT_SWITCHED, f"{target} serves"))


def _stay(device: Device, event: StepFailed) -> Outcome:
    """Give up on the way forwards and let the old version serve again."""
    trial = device.record.trial
    assert trial is not None, "a switch has a trial"
    was_switching, has_ended = device.phase is Phase.SWITCHING, _may_have_ended_it(device, event.step)
    changes: dict[str, object] = {"trial": None, "error": _error(event)}
    is_damaged = event.code is ErrorCode.INTEGRITY_FAILED
    if is_damaged:
        changes[trial.slot] = None
    device, told = move(device, Signal.GAVE_UP, **changes)
    effects: tuple[Effect, ...] = (*told, ClearStaging())
    if is_damaged:
        effects = (*effects, tell(device, EventKind.INTEGRITY_FAILED, event.message, device.record.error))
    return _serve(device, effects, relink=was_switching, has_ended=has_ended)


def _return_failed(device: Device, event: StepFailed, now: float) -> Outcome:
    """Try a failed return once more; a damaged slot is never switched to."""
    going_back, attempts = _going_back(device), device.record.attempts + 1
    if event.code is ErrorCode.INTEGRITY_FAILED:
        error = describe(ErrorCode.NO_SAFE_ROLLBACK, "rolling_back", event.message)
        changes: dict[str, object] = {going_back.slot: None, "previous": None}
        device, told = move(device, Signal.GAVE_UP, going_back=None, error=error, **changes)
        damaged = tell(device, EventKind.INTEGRITY_FAILED, event.message, error)
        return device, (*told, damaged)
    if event.step is not Step.START and attempts < RETURN_ATTEMPTS_MAX:
        device, told = note(device, attempts=attempts, error=_error(event))
        return replace(device, retry_at=now + RETRY_SECONDS), told
    error = describe(ErrorCode.ROLLBACK_FAILED, "rolling_back", event.message)
    has_ended = _may_have_ended_it(device, event.step)
    device, told = move(device, Signal.GAVE_UP, going_back=None, error=error)
    return _serve(device, told, relink=event.step is Step.SWITCH, has_ended=has_ended)


def _may_have_ended_it(device: Device, step: Step) -> bool:
    """Say whether what served may run no more, after ``step`` has failed."""
    return step in (Step.STOP, Step.SWITCH) and not is_side_by_side(device)


def _serve(device: Device, effects: tuple[Effect, ...], *, relink: bool, has_ended: bool) -> Outcome:
    """Let what the record calls active serve, whatever a failed step has left behind.

    What has ended was read long ago and may be damaged since: it is started as after a power cut, by an agent that has
    read it again.
    """
    active = device.record.active
    if active is None:
        return device, effects
    if relink:  # before the record says that the change is over: a link elsewhere would be the truth after a power cut
        device = begin(device, Step.SWITCH)
        effects = (SwitchSlot(device.ticket, active, must_succeed=True), *effects)
    if has_ended:
        return device, (*effects, Restart("what served has ended; its slot is read again before it is started"))
    device = begin(device, Step.START)
    effects = (*effects, StartApplication(device.ticket, active))
    if not (relink and device.setup.has_router):
        return device, effects
    device = begin(device, Step.ROUTE, walk=(Step.STOP,))
    return device, (*effects, Route(device.ticket, active))


def _going_back(device: Device) -> Return:
    going_back = device.record.going_back
    assert going_back is not None, "a return has somewhere to go"
    return going_back


def _error(event: StepFailed) -> ErrorReport:
    return describe(event.code, event.step.value, event.message, retryable=event.retryable)
