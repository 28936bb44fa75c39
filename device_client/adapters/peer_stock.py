"""What this device can give to others: the chunks that stand in its verified slots, by their names."""

import threading

from device_client.adapters.chunk_slots import SlotChunks
from device_client.adapters.layout import MARKER
from device_client.adapters.slots import SLOT_NAMES, Slots
from schemas.chunks import Chunk
from schemas.messages import SlotName


class Stock:
    """The chunks that the verified slots have, found by their names.

    Args:
        slots: Where they are.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._guard = threading.Lock()
        self._known: dict[SlotName, tuple[tuple[int, ...], SlotChunks, dict[str, Chunk]]] = {}

    def get(self, sha256: str) -> bytes | None:
        """Return the chunk or the chunk list of that name, proven; None if no verified slot has it."""
        for slot in SLOT_NAMES:
            found = self._look(slot)
            if found is None:
                continue
            chunks, named = found
            chunk = named.get(sha256)
            data = chunks.get(chunk) if chunk is not None else chunks.get_list(sha256)
            if data is not None:
                return data
        return None

    def _look(self, slot: SlotName) -> tuple[SlotChunks, dict[str, Chunk]] | None:
        """Return what a slot's lists say, read again when it was sealed anew; None while it is not verified."""
        folder = self._slots.folder(slot)
        try:
            seen = (folder / MARKER).stat()
        except OSError:
            return None
        seal = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        with self._guard:
            known = self._known.get(slot)
            if known is None or known[0] != seal:
                chunks = SlotChunks(folder)
                known = self._known[slot] = (seal, chunks, {each.sha256: each for each in chunks.chunks})
        return known[1], known[2]
