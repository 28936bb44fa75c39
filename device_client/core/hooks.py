"""The operator's own commands at the steps of a change, and how long one may say "later".

On the way forwards a hook may keep a device where it is: until later, for a day at the most, or for good. On the way
back it may not, because a hook must never keep a device on a bad version.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import Effect, EventKind, RunHook
from device_client.core.events import Step, StepFailed
from device_client.core.state import Device, Outcome, begin, spread, tell
from schemas.messages import SlotName

_OTHER: Final[Mapping[SlotName, SlotName]] = {"blue": "green", "green": "blue"}
WAIT_SECONDS: Final = 30.0
WAIT_SECONDS_MAX: Final = 300.0
WAITS_MAX: Final = 290
"""At that pace a day."""


def run_hook(device: Device, hook: Step, walk: tuple[Step, ...] = ()) -> Outcome:
    """Begin a hook as the step under way."""
    device = begin(device, hook, walk)
    return device, (hook_effect(device, hook),)


def hook_effect(device: Device, hook: Step) -> Effect:
    """Return the hook with what it may want to know."""
    record, slot = device.record, _place(device, hook)
    other = record.standby if slot == record.active else record.active or _OTHER[slot]
    here, there = record.content(slot), record.content(other)
    version = here.version if here is not None else None
    if hook is Step.BEFORE_INSTALL and record.desired is not None:
        version = record.desired.version
    return RunHook(device.ticket, hook, record.order_number, slot, version, other, there.version if there else None)


def _place(device: Device, hook: Step) -> SlotName:
    """Return the slot to which the change leads or has led."""
    record = device.record
    match hook:
        case Step.BEFORE_INSTALL | Step.BEFORE_SWITCH:
            return record.standby
        case Step.BEFORE_ROLLBACK if record.going_back is not None:
            return record.going_back.slot
        case _:
            return record.active or record.standby


def says_later(device: Device, event: StepFailed) -> bool:
    """Say whether a hook wants to be asked again and still may."""
    return event.code is ErrorCode.HOOK_WAITS and device.record.waits < WAITS_MAX


def pause_seconds(device: Device) -> float:
    """Return after what time a hook that said "later" is asked again."""
    seconds: float = min(WAIT_SECONDS * 2 ** min(device.record.waits, 8), WAIT_SECONDS_MAX)
    return seconds * (1 + 0.1 * spread(device, device.record.waits))


def refusal_of(event: StepFailed) -> StepFailed:
    """Return a failure as it is reported for good; a hook that has said "later" too often has failed."""
    if event.code is not ErrorCode.HOOK_WAITS:
        return event
    return replace(event, code=ErrorCode.HOOK_FAILED, message=f"{event.message}, too often", retryable=False)


def tell_ignored(device: Device, event: StepFailed) -> Effect:
    """Return the event about a hook that failed where that changes nothing."""
    error = describe(ErrorCode.HOOK_FAILED, event.step.value, event.message)
    return tell(device, EventKind.HOOK_FAILED, event.message, error)
