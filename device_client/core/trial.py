"""Watching what serves.

A trial is committed or turned back, a rollback is confirmed, and a committed version that dies later is left for the
one before it. All of it happens without a network. Before the first health the deadline and the crash count speak;
after it, every row of failures does. What is committed is left only for the version that it replaced, only while the
order that installed it stands, and only if the old version is still verified.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import EventKind
from device_client.core.events import Probed, Step
from device_client.core.machine import Phase, Signal
from device_client.core.probe import (
    CRASHES_MAX,
    Health,
    has_relapsed,
    interrupt,
    is_crash_loop,
    is_proven,
    is_unreachable,
    observe,
)
from device_client.core.record import SlotContent, Trial
from device_client.core.state import NOTHING, Device, Outcome, keep, move, tell
from device_client.core.switching import GATE_WAIT_SECONDS_MAX, commit, turn_back

_NOT_WELL: Final = "the old version does not get healthy either"


def on_probed(device: Device, event: Probed, now: float) -> Outcome:
    """Fold in a probe and draw the conclusions."""
    serving = device.record.serving
    if serving is None:
        return device, NOTHING
    ok = event.ok and event.version == serving.version
    device = replace(device, health=observe(device.health, serving.health_check, now, ok=ok))
    trial = device.record.trial
    if device.phase is Phase.ROLLING_BACK:
        return _confirm_return(device, serving)
    if trial is None or device.phase is Phase.DRAINING or device.phase is Phase.SWITCHING:
        return _watch_committed(device, serving, now)
    if event.ok and event.version is not None and event.version != serving.version:
        return turn_back(device, ErrorCode.WRONG_VERSION, f"it says it is {event.version}")
    return _watch_trial(device, trial, serving, now)


def on_exit(device: Device, now: float) -> Outcome:
    """Count an exit; the fourth within the window is one too many."""
    serving = device.record.serving
    if serving is None:
        return device, NOTHING
    exits = (*device.exits, now)[-(CRASHES_MAX + 1) :]
    device = replace(device, exits=exits, health=interrupt(device.health))
    crash = (tell(device, EventKind.CRASH, "the application ended by itself"),)
    if not is_crash_loop(exits, serving.health_check, now):
        return device, crash
    device, effects = _leave(device, ErrorCode.CRASH_LOOP, f"it ended by itself {len(exits)} times in a row")
    return device, (*crash, *effects)


def on_time(device: Device, now: float) -> Outcome:
    """Turn back a trial whose time is over, and give up on a return that does not get well."""
    record = device.record
    if record.phase is Phase.ROLLING_BACK:
        going_back = record.going_back
        if going_back is None or going_back.deadline_at is None or now < going_back.deadline_at:
            return device, NOTHING
        is_hidden = device.step is Step.ROUTE
        reason = "the router does not lead to the old version" if is_hidden else _NOT_WELL
        error = describe(ErrorCode.ROLLBACK_FAILED, "rolling_back", reason)
        return move(device, Signal.GAVE_UP, going_back=None, error=error)
    if record.trial is None or not is_on_trial(device) or now < record.trial.deadline_at:
        return device, NOTHING
    if device.step is Step.AFTER_SWITCH:
        return turn_back(device, ErrorCode.HOOK_FAILED, "after_switch did not end by the deadline")
    if device.step is Step.ROUTE:
        return turn_back(device, ErrorCode.ROUTER_FAILED, "the router did not lead to it by the deadline")
    waited_for = "a permission to commit" if device.health.was_healthy else "health"
    return turn_back(device, ErrorCode.DEADLINE_EXCEEDED, f"no {waited_for} by the deadline")


def _watch_trial(device: Device, trial: Trial, serving: SlotContent, now: float) -> Outcome:
    if has_relapsed(device.health, serving.health_check):
        return turn_back(device, ErrorCode.UNHEALTHY, f"{device.health.failures} failed checks in a row")
    proven = is_proven(device.health, serving.health_check, trial.min_ready_seconds)
    if not proven or device.phase is not Phase.TRIAL or device.step is not None:
        return device, NOTHING
    if trial.commit_on == "local_health":
        return commit(device)
    if trial.commit_on == "gate" and not trial.healthy:
        patient = trial.model_copy(update={"healthy": True, "deadline_at": now + GATE_WAIT_SECONDS_MAX})
        return keep(device, trial=patient)
    return device, NOTHING


def _watch_committed(device: Device, serving: SlotContent, now: float) -> Outcome:
    if not is_unreachable(device.health, serving.health_check, now):
        return device, NOTHING
    return _leave(device, ErrorCode.UNHEALTHY, "it has not been well for too long")


def _leave(device: Device, code: ErrorCode, message: str) -> Outcome:
    """Turn back from a trial, or from a committed version if the order that installed it still stands."""
    record = device.record
    if is_on_trial(device):
        return turn_back(device, code, message)
    is_ours = record.phase is Phase.IDLE and record.installed_generation == record.order_number
    if is_ours and record.content(record.previous) is not None:
        return turn_back(device, code, message)
    return device, NOTHING


def is_on_trial(device: Device) -> bool:
    """Say whether what serves is uncommitted and nothing is being changed."""
    on_trial = device.phase in (Phase.TRIAL, Phase.READY, Phase.WAITING)
    return device.record.trial is not None and on_trial


def _confirm_return(device: Device, serving: SlotContent) -> Outcome:
    going_back = device.record.going_back
    if going_back is None or going_back.deadline_at is None:
        return device, NOTHING  # not there yet: it is still the new version that answers
    if device.health.successes < serving.health_check.success_threshold or device.step is not None:
        return device, NOTHING
    device, told = move(device, Signal.RESTORED, going_back=None, attempts=0)
    event = tell(device, EventKind.ROLLED_BACK, f"{serving.version} serves again", going_back.error)
    return replace(device, health=Health(was_healthy=True)), (*told, event)
