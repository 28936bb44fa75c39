"""Devices that share a name: a copied card, a certificate that was handed on.

Each start of a device has a boot id of its own. One that comes back after another has taken its place belongs to a
device that had never gone away, and both then take the connection from each other. A message that is delivered late
looks the same once or twice, so it takes more than that; a boot id that is new begins the count again.
"""

from typing import Final
from zlib import crc32

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.state import State
from schemas.messages import Info

RETURNS_MAX: Final = 5
"""How often two boot ids may change places before it is two devices."""
REASON: Final = "two devices use this name and take the connection from each other; give one of them another"


def decide_cloned(state: State, name: str, info: Info) -> list[e.AnyEvent]:
    """Keep a name out of all waves that more than one device answers to. Called before ``note_boot``."""
    device = state.devices.get(name)
    if device is None or device.quarantine or not _returns(device, info):
        return []
    if device.boot_returns < RETURNS_MAX:
        return []
    return [e.DeviceQuarantined(device=name, by=ORCHESTRATOR, reason=REASON)]


def note_boot(device: Device, info: Info) -> None:
    """Remember which of its starts a device spoke from last, and before that."""
    boot = _boot(info)
    if boot == device.boot:
        return
    device.boot_returns = device.boot_returns + 1 if _returns(device, info) else 0
    device.boot_before, device.boot = device.boot, boot


def _returns(device: Device, info: Info) -> bool:
    return _boot(info) == device.boot_before


def _boot(info: Info) -> int:
    """Return a number for a boot id; a fleet's ids would fill the memory over the years."""
    return crc32(info.boot_id.encode())
