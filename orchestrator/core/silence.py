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
UNKNOWN_SECONDS: Final = 300.0
"""How long a device may say nothing of which nobody knows yet how often it speaks."""
RETAINED_SECONDS: Final = 30.0
"""So long after a connection presence may be what the broker had kept."""


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


def _has_spoken(state: State, now: float) -> NDArray[np.bool_]:
    """Say whose presence is not all that there is of them since we listen.

    After a restart or a new connection the broker says again who was there, and whoever is behind a fault of ours is
    "online" by that: such a word ends no silence. A sample does, and so does a connection that was seen to begin.
    """
    devices = state.devices
    patience = patience_seconds(state)
    patience[np.isnan(patience)] = UNKNOWN_SECONDS
    sampled: NDArray[np.bool_] = now - devices.column(Device.sampled_at) <= patience
    returned = devices.column(Device.online_since) > max(state.frozen_at, state.listening_since + RETAINED_SECONDS)
    was_listening = np.isinf(devices.column(Device.sampled_at)) & (state.listening_since <= state.frozen_at)
    spoken: NDArray[np.bool_] = sampled | returned | was_listening
    return spoken


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
    is_silent = (since > max(horizon, state.thawed_at)) & ~asleep
    is_heard = np.isnan(since) & devices.column(Device.is_online)
    if state.frozen:
        mute = is_heard & ~_has_spoken(state, now)
        is_heard, is_silent = is_heard & ~mute, is_silent | (mute & ~asleep)
    silent, heard = int(is_silent.sum()), int(is_heard.sum())
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
