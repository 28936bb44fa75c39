"""What must hold of a device's disk, whose contents are known here: what runs was verified; only what may change does.

The first are functions of a slot that is run or switched to; those of a step are among ``DEVICE_INVARIANTS``.
"""

from typing import Final

from device_client.core.installing import ATTEMPTS_MAX
from device_client.core.record import REFUSALS_KEPT
from schemas.messages import SlotName
from simulator.disk import Disk
from simulator.ledger import Ledger
from simulator.truth import DeviceStep, DeviceTruth

_UNREAD_SECONDS_MAX: Final = 300.0
"""From the moment in which a device reads a slot again to the one in which it starts it: it drains, waits and stops."""
_INSTALLS_MAX: Final = ATTEMPTS_MAX + 1
"""Of one order: as often as it is tried, and once when it was cut short by the last of the restarts that count.

Whatever waits in standby is also proven again, from the archive on, under each newer trust root.
"""


def runs_what_was_verified(truth: DeviceTruth, slot: SlotName, disk: Disk) -> str | None:
    """INV-2: what a device runs was complete, made of verified bytes, and not written since."""
    held = disk.slots[slot]
    if not held.is_verified:
        return f"{slot} with {held.version} has no marker"
    if truth.sealed.get(slot) != held.write_count:
        return f"{slot} with {held.version} was never verified as it is"
    return None


def reads_before_it_runs(slot: SlotName, disk: Disk, now: float) -> str | None:
    """INV-2: what changed by itself is not started or switched to, because it is read again before that."""
    rotten_since = disk.slots[slot].rotten_since
    if rotten_since is None or now - rotten_since <= _UNREAD_SECONDS_MAX:
        return None
    return f"{slot} with {disk.slots[slot].version} has been damaged for {now - rotten_since:.0f} s"


def only_standby_changes(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-24: of the slots only the one that does not serve is ever written, by whatever was begun when."""
    active = step.disk.active
    if active is None or truth.writes.get(active, 0) == step.disk.slots[active].write_count:
        return None
    return f"{active} serves and was written"


def disk_is_bounded(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-24: an order writes as many bytes as its release has, so often as it may be tried; the record stays small."""
    generation, count = truth.installs
    root = step.before.root
    most = _INSTALLS_MAX + (0 if root is None else root.version - 1)
    if count > most:
        return f"installed {count} times under generation {generation}, at most {most}"
    kept = len(step.now.refused)
    return f"remembers {kept} refusals" if kept > REFUSALS_KEPT else None
