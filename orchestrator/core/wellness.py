"""Which devices are seen to be healthy, as far as a grant must know: a column that is filled once a tick.

What a device said last counts until it says something else, however old it is, if it was bad; good news counts only
while they are fresh. Who need not have been heard yet, because it or we have only just connected, is taken to be well.

Source:
    DECISIONS.md, 86.
"""

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.members import Mask
from orchestrator.core.silence import UNKNOWN_SECONDS, patience_seconds
from orchestrator.core.state import State
from orchestrator.telemetry.monitor import Monitor


def observe_health(state: State, monitor: Monitor, now: float) -> None:
    """Note which devices are not seen to be healthy; volatile."""
    devices = state.devices
    devices.column(Device.is_ill)[:] = monitor.ill(np.arange(len(devices)))
    devices.column(Device.is_unheard)[:] = _is_overdue(state, now)


def _is_overdue(state: State, now: float) -> Mask:
    """Say which devices have sent no sample though they should."""
    devices = state.devices
    patience = patience_seconds(state)
    patience[np.isnan(patience)] = UNKNOWN_SECONDS
    since = np.maximum(devices.column(Device.sampled_at), devices.column(Device.online_since))
    overdue: Mask = now - np.maximum(since, state.listening_since) > patience
    return overdue
