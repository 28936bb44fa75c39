"""What the trust root takes back of what stands in the slots."""

from device_client.core.record import SlotContent
from device_client.core.state import Device


def is_revoked(device: Device, content: SlotContent | None) -> bool:
    """Say whether ``content`` is not to be installed, or gone back to by an order, any more."""
    if device.root is None or content is None:
        return False
    return device.root.revokes(content.release, content.release_counter)


def is_outdated(device: Device, prepared: SlotContent) -> bool:
    """Say whether what was ``prepared`` must be proven again, since keys or revocations may have changed.

    What served here before was permitted once, and it is revoked by name or not at all.
    """
    if device.root is None or device.record.previous == device.record.standby:
        return False
    return prepared.root_version < device.root.version
