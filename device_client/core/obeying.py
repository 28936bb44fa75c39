"""Obeying a newer trust root: nothing revoked is prepared, activated or committed, and what serves goes on serving.

The rule looks at the state only. So it does not matter whether the root came before the order, while it was prepared,
in the middle of the switch or while the agent was not there.
"""

from dataclasses import replace
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.events import RootChanged
from device_client.core.installing import PREPARING
from device_client.core.machine import ASKING, Phase
from device_client.core.orders import pursue
from device_client.core.revoking import is_outdated, is_revoked
from device_client.core.state import NOTHING, Device, Outcome, note, spread
from device_client.core.switching import turn_back
from device_client.core.trial import is_on_trial

SPREAD_SECONDS: Final = 10.0


def on_root(device: Device, event: RootChanged, now: float) -> Outcome:
    """Put a newer root in force, and say so at a moment of our own: all devices hear of it at once."""
    return replace(device, root=event.root, report_at=now + SPREAD_SECONDS * spread(device, 0)), NOTHING


def obey_root(device: Device) -> Outcome:
    """Leave what the root does not let stand; a committed version that is revoked serves on and says so."""
    if device.root is None:
        return device, NOTHING
    serving = device.record.serving
    if is_on_trial(device) and serving is not None and is_revoked(device, serving):
        return turn_back(device, ErrorCode.REVOKED, f"{serving.release} is revoked by root {device.root.version}")
    if device.phase in PREPARING | ASKING and _is_forbidden(device):
        return pursue(device)
    return _tell(device) if device.phase is Phase.IDLE else (device, NOTHING)


def _is_forbidden(device: Device) -> bool:
    """Say whether the order at hand cannot be followed as it was begun."""
    record, root = device.record, device.root
    if record.desired is None or root is None:
        return False
    if record.desired.action == "rollback":
        return is_revoked(device, record.content(record.slot_holding(record.desired.version)))
    if record.desired.release in root.revoked:
        return True
    prepared = record.content(record.standby)
    if device.phase in PREPARING or prepared is None:
        return False
    return is_revoked(device, prepared) or is_outdated(device, prepared)


def _tell(device: Device) -> Outcome:
    record, serving = device.record, device.record.serving
    is_told = record.error is not None and record.error.code == ErrorCode.REVOKED
    if is_told == is_revoked(device, serving):
        return device, NOTHING
    if is_told or serving is None:
        return note(device, error=None)
    return note(device, error=describe(ErrorCode.REVOKED, "serving", f"{serving.release} is revoked and serves on"))
