"""When so many devices fall silent at once that the fault is more likely here or at the broker than in all of them.

Then nothing is decided until they are heard again or a person takes the silence for what it is: half a fleet that
stops talking is no evidence against a version.

Source:
    DECISIONS.md, 24.
"""

from math import inf, nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.state import State
from schemas.conditions import exceeds_percent

SILENT_INTERVALS: Final = 3
SILENT_SECONDS_MIN: Final = 5.0
DEVICES_MIN: Final = 3
"""Fewer silent devices are never taken for a fault of ours."""


def patience_seconds(state: State) -> NDArray[np.float64]:
    """Return after what time each device is missed; NaN while it has sent fewer than two samples."""
    seconds: NDArray[np.float64] = SILENT_INTERVALS * state.devices.column(Device.interval_seconds)
    return np.maximum(seconds, SILENT_SECONDS_MIN)


def observe_silence(state: State, now: float) -> None:
    """Note which devices have fallen silent and which are heard again; volatile."""
    devices = state.devices
    patience = patience_seconds(state)
    since = np.maximum(devices.column(Device.heard_at), state.listening_since)
    is_fresh = ~(now - since > patience)  # NaN: it sends no samples, and its presence counts.
    alive = devices.column(Device.is_online) & is_fresh
    silent_since = devices.column(Device.silent_since)
    was_heard = devices.column(Device.heard_at) > -inf
    silent_since[alive] = nan
    silent_since[~alive & was_heard & np.isnan(silent_since)] = now


def decide_frozen(state: State, now: float) -> list[e.AnyEvent]:
    """Freeze when a large part of the fleet fell silent within the window, thaw when it is heard again."""
    if not state.active:
        return [e.FleetThawed(by=ORCHESTRATOR, reason="no rollout is active")] if state.frozen else []
    limits = [rollout.policy.mass_silence for rollout in state.active]
    percent = min(each.percent for each in limits)
    window_seconds = max(each.window_seconds for each in limits)
    devices = state.devices
    asleep = devices.column(Device.sleeps_until) > now
    since = devices.column(Device.silent_since)
    horizon = (state.frozen_at if state.frozen else now) - window_seconds
    newly = (since > max(horizon, state.thawed_at)) & ~asleep
    silent, heard = int(newly.sum()), int((np.isnan(since) & devices.column(Device.is_online)).sum())
    is_mass = silent >= DEVICES_MIN and exceeds_percent(silent, silent + heard, percent)
    if is_mass and not state.frozen:
        reason = (
            f"{silent} of {silent + heard} devices fell silent within {window_seconds:g} s: the broker or this "
            "orchestrator is suspected; nothing is decided until they are heard again, or a person resumes"
        )
        return [e.FleetFrozen(silent=silent, of=silent + heard, reason=reason)]
    if state.frozen and not is_mass:
        return [e.FleetThawed(by=ORCHESTRATOR, reason=f"{heard} of {silent + heard} devices are heard again")]
    return []
