"""The steps of a change, as data. Forwards and back it is the same walk; how many versions run at once differs.

* **One by one**: what serves is stopped before the next is started. It is what ``rolling`` means, and what a device
  without a router can do.
* **Side by side**: the next version runs and answers on its own port before the router leads to it, and what served is
  stopped only after clients were seen to reach the next. What stands in the target's place before that is stopped
  first: it may have been told to drain.

Source:
    Reference, "Blue-Green Deployment for Edge", steps 1 to 3; "Rolling Update Pattern", steps 1 to 4.
"""

from dataclasses import replace
from typing import Final

from device_client.core.effects import (
    AwaitAnswer,
    CheckSlot,
    Drain,
    Effect,
    Route,
    StartApplication,
    StopApplication,
    SwitchSlot,
)
from device_client.core.events import Step
from device_client.core.hooks import hook_effect
from device_client.core.machine import Phase
from device_client.core.state import NOTHING, Device, Outcome, begin
from schemas.messages import SlotName

ONE_BY_ONE: Final = (
    Step.BEFORE_ROLLBACK, Step.CHECK, Step.DRAIN, Step.STOP, Step.SWITCH, Step.START, Step.ROUTE, Step.AFTER_SWITCH,
)  # fmt: skip
SIDE_BY_SIDE: Final = (
    Step.BEFORE_ROLLBACK, Step.CHECK, Step.STOP, Step.START, Step.ANSWER, Step.SWITCH, Step.ROUTE, Step.AFTER_SWITCH,
    Step.DRAIN, Step.STOP,
)  # fmt: skip


def set_out(device: Device) -> Outcome:
    """Begin the walk to where the record says."""
    steps = SIDE_BY_SIDE if is_side_by_side(device) else ONE_BY_ONE
    return proceed(replace(device, walk=tuple(step for step in steps if _concerns(device, step))))


def proceed(device: Device) -> Outcome:
    """Take the next step of the walk; after the last one nothing is under way."""
    if not device.walk:
        return replace(device, step=None), NOTHING
    step, *rest = device.walk
    device = begin(device, step, walk=tuple(rest))
    return device, (_effect(device, step),)


def repeat(device: Device) -> Outcome:
    """Take the step under way again."""
    assert device.step is not None, "only a step is repeated"
    return proceed(replace(device, walk=(device.step, *device.walk)))


def hooks_after_start(device: Device) -> tuple[Step, ...]:
    """Return what a power cut may have kept from being run; running it twice is harmless."""
    is_changing = device.record.trial is not None or device.record.going_back is not None
    return (Step.AFTER_SWITCH,) if is_changing and Step.AFTER_SWITCH in device.setup.hooks else ()


def is_side_by_side(device: Device) -> bool:
    """Say whether the change under way lets both versions run at once; so does one without an end of its own."""
    terms = device.record.going_back or device.record.trial
    return device.setup.has_router and (terms is None or terms.strategy == "blue_green")


def target_of(device: Device) -> SlotName:
    """Return where the change under way leads."""
    record = device.record
    terms = record.going_back or record.trial
    assert terms is not None, "a change leads somewhere"
    return terms.slot


def _concerns(device: Device, step: Step) -> bool:
    match step:
        case Step.ROUTE:
            return device.setup.has_router
        case Step.DRAIN:
            return device.setup.drains and device.record.active is not None
        case Step.BEFORE_ROLLBACK:
            return step in device.setup.hooks and device.record.going_back is not None
        case Step.AFTER_SWITCH:
            return step in device.setup.hooks
        case _:
            return True


def _effect(device: Device, step: Step) -> Effect:
    record, ticket = device.record, device.ticket
    match step:
        case Step.CHECK:
            return CheckSlot(ticket, target_of(device))
        case Step.DRAIN:
            return Drain(ticket, _left(device))
        case Step.STOP:
            return StopApplication(ticket, record.active if is_side_by_side(device) else None)
        case Step.START:
            return StartApplication(ticket, target_of(device))
        case Step.ANSWER:
            return AwaitAnswer(ticket, target_of(device))
        case Step.SWITCH:
            return SwitchSlot(ticket, target_of(device))
        case Step.ROUTE:
            return Route(ticket, target_of(device) if record.phase is Phase.SWITCHING else _active(device))
        case Step.BEFORE_ROLLBACK | Step.AFTER_SWITCH:
            return hook_effect(device, step)
        case _:
            raise AssertionError(f"{step} is no step of a walk")


def _left(device: Device) -> SlotName:
    """Return the slot whose application ends: side by side it is left when the other serves already."""
    return device.record.standby if is_side_by_side(device) else _active(device)


def _active(device: Device) -> SlotName:
    active = device.record.active
    assert active is not None, "something serves"
    return active
