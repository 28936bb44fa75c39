"""The whole device as one pure function: what it is, what it observed and when, to what it becomes and what to do.

Every event goes the same way: first time itself speaks (a deadline that has passed counts before the news that came too
late), then the event, then whatever the new state still calls for: to leave what the trust root forbids, an order that
had to wait, a step to try again, a question to ask. The last part looks at the state only and not at the event, so
nothing is forgotten when an event is.
"""

from dataclasses import replace
from typing import assert_never

from device_client.core.asking import (
    HOLD_SPREAD_SECONDS,
    ask_if_due,
    is_granted_beforehand,
    on_consent,
    on_grant,
    on_hold,
    on_hook,
    on_nonce,
)
from device_client.core.effects import (
    Effect,
    EventKind,
    Persist,
    PublishAvailability,
    PublishInfo,
    PublishReported,
    Route,
    StartApplication,
    StopApplication,
    SwitchSlot,
)
from device_client.core.events import (
    ApplicationExited,
    AvailabilityEchoed,
    Connected,
    ConsentGiven,
    DesiredReceived,
    Disconnected,
    Event,
    GrantReceived,
    HoldCleared,
    HoldReceived,
    MediaRejected,
    MediaSeen,
    NonceDrawn,
    PeerDistrusted,
    Probed,
    Progressed,
    RootChanged,
    Started,
    Step,
    StepFailed,
    StepSucceeded,
    SyncReceived,
    Throttled,
    Tick,
)
from device_client.core.installing import (
    PREPARING,
    is_exhausted,
    on_preparation_failed,
    on_prepared,
    on_progress,
    retry,
)
from device_client.core.machine import ASKING, Phase
from device_client.core.media import on_media_rejected, on_media_seen
from device_client.core.obeying import obey_root, on_root
from device_client.core.orders import on_desired, pursue, pursue_if_deferred
from device_client.core.recovery import recover
from device_client.core.state import NOTHING, Device, Outcome, begin, keep, report, spread, tell
from device_client.core.switching import on_change_failed, on_changed, resume_return
from device_client.core.trial import on_exit, on_probed, on_time
from device_client.core.walk import hooks_after_start, repeat

__all__ = ["Device", "Outcome", "advance", "next_wake"]

_PREPARATION = frozenset({Step.FETCH, Step.VERIFY, Step.BEFORE_INSTALL, Step.INSTALL, Step.SMOKE_TEST})


def advance(device: Device, event: Event, now: float) -> Outcome:
    """Return the device after ``event`` and what its shell shall do, in order.

    Args:
        device: As the last call returned it; ``Device(id)`` before the first, whose event is ``Started``.
        event: What was observed.
        now: Seconds on a clock that never falls and goes on during sleep, the boot clock.
    """
    if isinstance(event, Started):
        device, effects = _start(device, event, now)
    else:
        device, timed = on_time(device, now)
        device, effects = _handle(device, event, now)
        effects = (*timed, *effects)
    device, obeyed = obey_root(device)
    device, pursued = pursue_if_deferred(device)
    device, retried = _retry_if_due(device, now)
    device, asked = ask_if_due(device, now)
    return device, (*effects, *obeyed, *pursued, *retried, *asked)


def next_wake(device: Device) -> float | None:
    """Return when the device wants a ``Tick`` at the latest; None if nothing is due by itself."""
    trial, going_back = device.record.trial, device.record.going_back
    moments = (
        device.ask_at,
        device.retry_at,
        device.report_at,
        trial.deadline_at if trial is not None else None,
        going_back.deadline_at if going_back is not None else None,
    )
    return min((moment for moment in moments if moment is not None), default=None)


def _handle(device: Device, event: Event, now: float) -> Outcome:
    match event:
        case Started():
            raise AssertionError("a start is no event among others")
        case Connected():
            return _connect(device, now)
        case Disconnected():
            # The brake is retained, so it is heard again on the next connect, unless it was lifted meanwhile.
            away_since = device.away_since if device.away_since is not None else now
            return replace(device, connected=False, hold=False, away_since=away_since), NOTHING
        case DesiredReceived():
            return on_desired(device, event)
        case GrantReceived():
            return on_grant(device, event, now)
        case HoldReceived():
            return on_hold(device, hold=True, now=now)
        case HoldCleared():
            return on_hold(device, hold=False, now=now)
        case RootChanged():
            return on_root(device, event, now)
        case SyncReceived():
            return replace(device, report_at=now + event.spread_seconds * spread(device, 0)), NOTHING
        case AvailabilityEchoed():
            stale = device.connected and event.text != "online"
            return device, (PublishAvailability("online"),) if stale else NOTHING
        case Progressed():
            return on_progress(device, event.percentage)
        case StepSucceeded() | StepFailed():
            return _answer(device, event, now)
        case NonceDrawn():
            return on_nonce(device, event, now)
        case ConsentGiven():
            return on_consent(device, event)
        case Probed():
            return on_probed(device, event, now)
        case ApplicationExited():
            return on_exit(device, now)
        case Throttled():
            heat = "" if event.celsius is None else f", at {event.celsius:.0f} °C"
            text = f"the processor was slowed down {event.count} times{heat}"
            return device, (tell(device, EventKind.THERMAL_THROTTLE, text),)
        case PeerDistrusted():
            return device, (tell(device, EventKind.PEER_DISTRUSTED, f"{event.url}: {event.reason}"),)
        case MediaSeen():
            return on_media_seen(device, event, now)
        case MediaRejected():
            return on_media_rejected(device, event)
        case Tick():
            return _report_if_due(device, now)
        case _:
            assert_never(event)


def _start(device: Device, event: Started, now: float) -> Outcome:
    """Take up what was going on, on top of whatever a power cut left."""
    facts = event.facts
    record = recover(event.record, facts, now)
    device = Device(device.id, record, device.setup, root=facts.root, away_since=now)
    effects: tuple[Effect, ...] = (Persist(record),)
    going_back = record.going_back
    if going_back is not None and (going_back.deadline_at is None or record.active != going_back.slot):
        device, resumed = resume_return(device)
        return device, (*effects, *resumed)
    if record.active is not None and facts.active != record.active:  # first: what runs serves on if the link stays
        device = begin(device, Step.SWITCH)
        effects = (*effects, SwitchSlot(device.ticket, record.active, must_succeed=True))
    if facts.running is not None and facts.running != record.active and not device.setup.has_router:
        device = begin(device, Step.STOP)
        effects = (*effects, StopApplication(device.ticket))
    if record.active is not None:
        device = begin(device, Step.START, walk=hooks_after_start(device))
        effects = (*effects, StartApplication(device.ticket, record.active))
        if device.setup.has_router:  # nobody knows which slot it leads to, and clients may still be served by the other
            device = begin(device, Step.ROUTE, walk=(*hooks_after_start(device), Step.STOP))
            effects = (*effects, Route(device.ticket, record.active))
    device, resumed = _resume(device)
    return device, (*effects, *resumed)


def _resume(device: Device) -> Outcome:
    if device.phase is Phase.INSTALLING and is_exhausted(device):
        return retry(device)
    return pursue(device) if device.phase in PREPARING | ASKING else (device, NOTHING)


def _connect(device: Device, now: float) -> Outcome:
    serving = device.record.serving
    device = replace(device, connected=True, away_since=None, question=None, asked_count=0)
    device, kept = keep(device, held=False) if device.record.held else (device, NOTHING)
    # Who need not ask for permission would be quicker than the brake, which is heard only now.
    device = replace(device, ask_at=now + HOLD_SPREAD_SECONDS if is_granted_beforehand(device) else None)
    info = PublishInfo(device.record.session, serving.version if serving else None)
    return device, (*kept, PublishAvailability("online"), info, PublishReported(report(device)))


def _report_if_due(device: Device, now: float) -> Outcome:
    if device.report_at is None or now < device.report_at:
        return device, NOTHING
    serving = device.record.serving
    info = PublishInfo(device.record.session, serving.version if serving else None)
    return replace(device, report_at=None), (info, PublishReported(report(device)))


def _answer(device: Device, event: StepSucceeded | StepFailed, now: float) -> Outcome:
    """Hear the answer to the step under way; every other answer is late and means nothing."""
    if event.ticket != device.ticket or event.step is not device.step:
        return device, NOTHING
    if event.step is Step.BEFORE_SWITCH:
        return on_hook(device, event, now)
    prepares = event.step in _PREPARATION
    match event:
        case StepSucceeded():
            return on_prepared(device, event) if prepares else on_changed(device, event.step, now)
        case StepFailed():
            return on_preparation_failed(device, event, now) if prepares else on_change_failed(device, event, now)


def _retry_if_due(device: Device, now: float) -> Outcome:
    if device.retry_at is None or now < device.retry_at:
        return device, NOTHING
    device = replace(device, retry_at=None)
    match device.phase:
        case Phase.ROLLING_BACK:
            return resume_return(device)
        case Phase.TRIAL if device.step is not None:
            return repeat(device)
        case phase if phase in PREPARING or (phase is Phase.WAITING and device.record.trial is None):
            return retry(device)
        case _:
            return device, NOTHING
