"""Preparing a new version in the standby slot: fetch, verify, install, smoke test, and what happens when one fails.

Nothing here touches what serves. A failure that may pass is tried again from the fetch on, since whatever lies on disk
may be what is wrong; a download that is complete is not repeated by that. Attempts are bounded and remembered.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import (
    ClearStaging,
    Effect,
    Fetch,
    Install,
    SmokeTest,
    Source,
    StopApplication,
    Verify,
)
from device_client.core.events import Step, StepFailed, StepSucceeded
from device_client.core.hooks import pause_seconds, refusal_of, run_hook, says_later
from device_client.core.machine import Phase, Signal
from device_client.core.record import Record
from device_client.core.state import NOTHING, Device, Outcome, begin, keep, move, note, spread
from schemas.messages import Desired

ATTEMPTS_MAX: Final = 5
BACKOFF_SECONDS: Final = 5.0
BACKOFF_SECONDS_MAX: Final = 300.0
LOOK_AGAIN_SECONDS: Final = 3600.0
WINDOW_SPREAD_SECONDS: Final = 60.0
"""So that the devices of a site do not all begin at the same second."""
MEDIA_SECONDS: Final = 60.0
"""When a medium that lacks something is read again."""
PREPARING: Final = frozenset({Phase.DOWNLOADING, Phase.VERIFYING, Phase.INSTALLING})


def prepare(device: Device, signal: Signal, **changes: object) -> Outcome:
    """Begin (again) with what ``signal`` says: the download, or the test of what already stands in standby."""
    device = replace(device, percentage=None)
    device, told = move(device, signal, **changes)
    if signal is Signal.FOUND_IN_STANDBY:
        device, effects = _test(device)
        return device, (*told, *effects)
    device = begin(device, Step.FETCH)
    return device, (*told, Fetch(device.ticket, source_of(device.record)))


def on_prepared(device: Device, event: StepSucceeded) -> Outcome:
    """Take the next step of the preparation."""
    standby = device.record.standby
    match event.step:
        case Step.FETCH:
            device, told = move(device, Signal.FETCHED, fetched=event.fetched or device.record.fetched)
            device = begin(device, Step.VERIFY)
            return device, (*told, Verify(device.ticket, source_of(device.record)))
        case Step.VERIFY if Step.BEFORE_INSTALL in device.setup.hooks:
            return run_hook(device, Step.BEFORE_INSTALL)
        case Step.VERIFY | Step.BEFORE_INSTALL:
            # From here on standby is no place to go back to, and that must be known before the first byte changes.
            device, told = move(device, Signal.VERIFIED, previous=None, **{standby: None})
            device = begin(device, Step.INSTALL)
            source, check = source_of(device.record), _order(device.record).health_check
            return device, (*told, *_clear(device), Install(device.ticket, source, standby, check))
        case Step.INSTALL:
            device, kept = keep(device, **{standby: event.content})
            device, effects = _test(device)
            return device, (*kept, *effects)
        case _:
            return move(replace(device, step=None), Signal.INSTALLED, attempts=0, waits=0, error=None)


def _test(device: Device) -> Outcome:
    """Try what stands in standby beside what serves, unless the order says that there is never more than one."""
    device = begin(device, Step.SMOKE_TEST)
    if _order(device.record).strategy == "rolling":
        return on_prepared(device, StepSucceeded(Step.SMOKE_TEST, device.ticket))
    return device, (*_clear(device), SmokeTest(device.ticket, device.record.standby))


def _clear(device: Device) -> tuple[Effect, ...]:
    """End what a walk side by side may have left in standby; the answer is nobody's step."""
    return (StopApplication(0, device.record.active),) if device.setup.has_router else NOTHING


def on_preparation_failed(device: Device, event: StepFailed, now: float) -> Outcome:
    """Try again later, or give up and keep what serves."""
    if says_later(device, event):
        error = describe(event.code, event.step.value, event.message, retryable=True)
        device = replace(device, step=None, retry_at=now + pause_seconds(device))
        return move(device, Signal.TOLD_TO_WAIT, waits=device.record.waits + 1, error=error)
    if event.code is ErrorCode.OUTSIDE_WINDOW:
        return _await_window(device, event, now)
    if event.code is ErrorCode.MEDIA_MISSING and device.record.media is not None:
        return _await_medium(device, event, now)
    event = refusal_of(event)
    attempts = device.record.attempts + 1
    device = replace(device, step=None)
    if not event.retryable or attempts >= ATTEMPTS_MAX:
        error = describe(event.code, event.step.value, event.message, retryable=event.retryable)
        device, told = move(device, Signal.GAVE_UP, attempts=attempts, error=error)
        return device, (*told, ClearStaging())
    error = describe(event.code, event.step.value, event.message, retryable=True)
    device, told = note(device, attempts=attempts, error=error)
    seconds = min(BACKOFF_SECONDS * 2 ** (attempts - 1), BACKOFF_SECONDS_MAX)
    return replace(device, retry_at=now + seconds * (1 + 0.5 * spread(device, attempts))), told


def _await_window(device: Device, event: StepFailed, now: float) -> Outcome:
    """Wait until the order lets it fetch, which is no attempt; a clock may be set meanwhile: look again each hour."""
    seconds = LOOK_AGAIN_SECONDS if event.wait_seconds is None else min(event.wait_seconds, LOOK_AGAIN_SECONDS)
    error = describe(event.code, event.step.value, event.message, retryable=True)
    device = replace(device, step=None, retry_at=now + seconds + WINDOW_SPREAD_SECONDS * spread(device, 0))
    return move(device, Signal.TOLD_TO_WAIT, error=error)


def _await_medium(device: Device, event: StepFailed, now: float) -> Outcome:
    """Wait for a medium, without counting: somebody has pulled it out, or it is not copied to its end."""
    media = device.record.media
    assert media is not None, "only an order from a medium waits for one"
    is_there = media.sha256 in device.media_seen
    device = replace(device, step=None, retry_at=now + MEDIA_SECONDS if is_there else None)
    error = describe(event.code, event.step.value, event.message, retryable=True)
    return (device, NOTHING) if device.record.error == error else note(device, error=error)


def on_progress(device: Device, percentage: float) -> Outcome:
    """Report the download in steps of ten."""
    coarse = min(100.0, percentage // 10 * 10)
    if device.phase is not Phase.DOWNLOADING or device.percentage == coarse:
        return device, NOTHING
    return note(replace(device, percentage=coarse))


def is_exhausted(device: Device) -> bool:
    """Say whether the order has used up its attempts."""
    return device.record.attempts >= ATTEMPTS_MAX


def retry(device: Device) -> Outcome:
    """Begin again after a failure, or give up what never comes to an end."""
    if is_exhausted(device):
        error = describe(
            ErrorCode.INTERRUPTED, "installing", "the agent was restarted too often while it installed this"
        )
        device, told = move(device, Signal.GAVE_UP, error=error)
        return device, (*told, ClearStaging())
    return prepare(device, Signal.INSTALL_ORDERED)


def source_of(record: Record) -> Source:
    """Return what the order says to install; the release that serves sets the lowest counter."""
    desired = _order(record)
    assert desired.manifest is not None, "an install without a manifest is refused when it is accepted"
    assert desired.artifact is not None, "an install without an artifact is refused when it is accepted"
    serving = record.serving
    return Source(
        manifest=desired.manifest,
        artifact=desired.artifact,
        release=desired.release,
        version=desired.version,
        release_counter_min=serving.release_counter if serving else 0,
        serving_version=serving.version if serving else None,
        media=record.media,
    )


def _order(record: Record) -> Desired:
    assert record.desired is not None, "only an order makes a device install"
    return record.desired
