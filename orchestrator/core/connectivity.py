"""Which devices lost their connection lately: kept over a restart, because a canary should be well connected.

Source:
    Reference, "Canary Selection Algorithm" (stable connectivity over the last 24 hours).
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.state import State

NOTED_SECONDS: Final = 3600.0
"""How often a device's lost connections are written down at most."""


def decide_lost(state: State, now: float) -> list[e.AnyEvent]:
    """Write down the devices whose connection was lost since it was last written down of them."""
    lost_at = state.devices.column(Device.lost_at)
    due = (state.devices.column(Device.trouble_at) > lost_at) & (now - lost_at >= NOTED_SECONDS)
    return [e.ConnectionsLost(devices=tuple(state.devices.named(due)))] if due.any() else []
