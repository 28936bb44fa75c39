"""A device's simulated disk: two slots, the link to the active one, and the record, each with what a power cut leaves.

A slot that is being written holds garbage until it is complete; its marker is removed first and written last. The link
and the record are replaced as a whole. ``write_count`` of a slot grows with every write, so that whoever looks on can
tell that a slot is not the one it was. Bytes may also change by themselves: that shows only to who reads them again.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Final

from device_client.core.codes import ErrorCode
from device_client.core.record import Record, SlotContent
from schemas.messages import SlotName
from schemas.trust import Root

SLOTS: Final[tuple[SlotName, SlotName]] = ("blue", "green")


@dataclass(slots=True)
class Slot:
    """One slot: the version its files make up (None: nothing, or half of something), and its marker.

    Attributes:
        write_count: How often it was written.
        rotten_since: When bytes of it changed by themselves; None if they are as they were written.
    """

    version: str | None = None
    marker: SlotContent | None = None
    write_count: int = 0
    rotten_since: float | None = None

    @property
    def is_verified(self) -> bool:
        """Whether the marker is there and matches the files as they were written."""
        return self.marker is not None and self.marker.version == self.version

    @property
    def is_whole(self) -> bool:
        """Whether the marker matches the files as they are when they are read again."""
        return self.is_verified and self.rotten_since is None


@dataclass(slots=True)
class Disk:
    """What survives a power cut."""

    slots: dict[SlotName, Slot] = field(default_factory=lambda: {name: Slot() for name in SLOTS})
    active: SlotName | None = None
    record: Record = field(default_factory=Record)
    staged: str | None = None
    """The release whose bytes lie in staging, complete."""
    root: Root | None = None
    """The newest trust root that was kept; None where the settings name the keys."""

    def begin_write(self, name: SlotName) -> None:
        """Take the marker away and begin to overwrite the files."""
        slot = self.slots[name]
        slot.version, slot.marker, slot.rotten_since = None, None, None
        slot.write_count += 1

    def end_write(self, name: SlotName, content: SlotContent) -> None:
        """Complete the files and write the marker."""
        slot = self.slots[name]
        slot.version, slot.marker = content.version, content
        slot.write_count += 1

    def verified(self) -> dict[SlotName, SlotContent]:
        """Return what the slots hold whose marker matches their files, read again."""
        return {name: slot.marker for name, slot in self.slots.items() if slot.marker is not None and slot.is_whole}

    def copy(self) -> "Disk":
        """Return another disk with the same on it."""
        slots = {name: replace(slot) for name, slot in self.slots.items()}
        return Disk(slots, self.active, self.record, self.staged, self.root)


@dataclass(slots=True)
class DiskTrouble:
    """A disk that now and then refuses to write: it is full, or broken. ``chance`` is that of each write."""

    chance: float
    rng: random.Random

    def strike(self) -> ErrorCode | None:
        """Say what is wrong with the write at hand; None is nothing."""
        if not self.chance or self.rng.random() >= self.chance:
            return None
        return self.rng.choice((ErrorCode.NO_SPACE, ErrorCode.IO_ERROR))
