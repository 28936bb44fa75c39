"""Which devices are bad neighbours on the bus: those that lost their connection lately, and those that flood it.

It is written down, because it counts for the choice of a canary after a restart as well.

Source:
    Reference, "Canary Selection Algorithm" (stable connectivity over the last 24 hours).
"""

from collections.abc import Iterable
from typing import Final

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.state import State

NOTED_SECONDS: Final = 3600.0
"""How often a device's lost connections are written down at most."""


def decide_lost(state: State, now: float) -> list[e.AnyEvent]:
    """Write down the devices whose connection was lost since it was last written down of them."""
    lost_at = state.devices.column(Device.lost_at)
    due = (state.devices.column(Device.trouble_at) > lost_at) & (now - lost_at >= NOTED_SECONDS)
    return [e.ConnectionsLost(devices=tuple(state.devices.named(due)))] if due.any() else []


def decide_kept_out(state: State, devices: Iterable[str]) -> list[e.AnyEvent]:
    """Keep devices out of all waves that have sent floods, or what is no sample, for a minute and more."""
    reason = "sends more than allowed, or samples that are none, for more than a minute"
    return [
        e.DeviceQuarantined(device=name, by=ORCHESTRATOR, reason=reason)
        for name in devices
        if not state.devices[name].quarantine
    ]
