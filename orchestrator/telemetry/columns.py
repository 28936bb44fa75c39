"""What is known of each device, in arrays: the state of every window of the reference in some 450 bytes a device.

Time is cut into **cells**. A ring holds one number for each device and cell, the newest ``CELLS`` of them, cell after
cell, so that a new cell is one stretch of memory to clear for the whole fleet. What is counted lies in the cell in
which it arrived, by the receiver's clock.
"""

from collections.abc import Iterable
from math import inf, nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.compact import packed, unpacked

CELLS: Final = 31
"""Cells that are kept: a window of the longest kind touches so many."""

BOOTS: Final = 4
"""Boots of a device that are told apart; a sample of an earlier one is late."""

GAPS: Final = 5
"""Times between samples from which the usual one is taken."""

UNSAID: Final = -1
"""The version of a device that names none."""

NIBBLE: Final = 15
"""The most that half a byte holds; what is counted in one stops there."""

HEALTHY, SAYS_HEALTH, TRAFFIC, RESTARTS, LOG_ERRORS, THROTTLES, CPU, MEMORY, DISK, TEMPERATURE = (
    np.uint16(1 << bit) for bit in range(10)
)
"""What a device says of its version, as bits of ``flags``."""

FEW: Final = 1 << 14
"""So many cells of devices are read in one go; of more of them one cell after the other, which moves less memory."""

_GROWTH: Final = 1.25
_CAPACITY_MIN: Final = 64

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_COLUMNS: Final[dict[str, tuple[Any, float, int]]] = {
    "boots": (np.uint32, 0, BOOTS),
    "seq": (np.int64, -1, 0),
    "version": (np.int16, UNSAID, 0),
    "place": (np.int32, 0, 0),
    "flags": (np.uint16, 0, 0),
    "qualities": (np.uint16, 0, 0),
    "last_at": (np.float64, -inf, 0),
    "good_at": (np.float64, -inf, 0),
    "first_at": (np.float64, nan, 0),
    "down_since": (np.float64, nan, 0),
    "gaps": (np.float16, nan, GAPS),
    "stale_after": (np.float32, nan, 0),
    "requests": (np.float64, nan, 0),
    "errors": (np.float64, nan, 0),
    "restarts": (np.float64, nan, 0),
    "log_errors": (np.float64, nan, 0),
    "throttles": (np.float64, nan, 0),
    "open_requests": (np.float32, 0, 0),
    "open_errors": (np.float32, 0, 0),
    "request_ring": (np.uint16, 0, CELLS),
    "error_ring": (np.uint16, 0, CELLS),
    "sample_ring": (np.uint8, 0, CELLS),
    "event_ring": (np.uint8, 0, CELLS),
    "log_ring": (np.uint8, 0, CELLS),
    "memory_ring": (np.uint16, 0, CELLS),
    "disk_ring": (np.uint16, 0, CELLS),
    "temperature_ring": (np.uint8, 0, CELLS),
}
"""Each column's type, what it holds of a device never seen, and how many numbers of each device; 0 for one."""

_OPTIONAL: Final = frozenset({"qualities", "log_errors", "throttles", "log_ring", "disk_ring", "temperature_ring"})
"""Columns that take no memory before a device reports what is in them."""


class Columns:
    """The arrays, by name. Grows with ``reserve``; every index below is a row that was reserved.

    Attributes:
        cell: The number of the cell that is open: time divided by ``cell_seconds``.
        requests: The counter as last known in this boot, NaN if it is not; ``errors``, ``restarts``, ``log_errors`` and
            ``throttles`` likewise.
        open_requests: What was counted in the open cell, exactly; ``open_errors`` likewise.
        request_ring: The same of the cells before, packed; ``error_ring`` likewise.
        sample_ring: Good samples in the low half of a byte, bad ones in the high half.
        event_ring: Restarts in the low half, times throttled in the high half.
        log_ring: Errors in the log, at most 255 in a cell.
        memory_ring: KiB at the cell's last sample, packed, 0 for none; ``disk_ring`` likewise what is free.
        temperature_ring: Degrees Celsius at the cell's last sample, packed.
        first_at: When the first sample of the version came.
        stale_after: The age in seconds at which a device's last good sample is no longer fresh.
    """

    boots: NDArray[np.uint32]
    seq: NDArray[np.int64]
    version: NDArray[np.int16]
    place: NDArray[np.int32]
    flags: NDArray[np.uint16]
    qualities: NDArray[np.uint16]
    last_at: Floats
    good_at: Floats
    first_at: Floats
    down_since: Floats
    gaps: NDArray[np.float16]
    stale_after: NDArray[np.float32]
    requests: Floats
    errors: Floats
    restarts: Floats
    log_errors: Floats
    throttles: Floats
    open_requests: NDArray[np.float32]
    open_errors: NDArray[np.float32]
    request_ring: NDArray[np.uint16]
    error_ring: NDArray[np.uint16]
    sample_ring: NDArray[np.uint8]
    event_ring: NDArray[np.uint8]
    log_ring: NDArray[np.uint8]
    memory_ring: NDArray[np.uint16]
    disk_ring: NDArray[np.uint16]
    temperature_ring: NDArray[np.uint8]

    def __init__(self, cell_seconds: float) -> None:
        self.cell_seconds = cell_seconds
        self.cell = 0
        self.capacity = 0
        self.nbytes = 0
        for name in _COLUMNS.keys() - _OPTIONAL:
            self._make(name)
        self.reserve(_CAPACITY_MIN)

    def has(self, name: str) -> bool:
        """Say whether a column takes memory: whether any device has reported what is in it."""
        return hasattr(self, name)

    def need(self, *names: str) -> None:
        """Make columns that take no memory yet."""
        for name in names:
            if not self.has(name):
                self._make(name)

    def _make(self, name: str) -> None:
        dtype, start, width = _COLUMNS[name]
        shape = (width, self.capacity) if width else self.capacity
        made = np.full(shape, start, dtype=dtype) if start else np.zeros(shape, dtype=dtype)  # untouched, it is free
        setattr(self, name, made)
        self.nbytes += made.nbytes

    def _made(self) -> list[str]:
        return [name for name in _COLUMNS if self.has(name)]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` devices."""
        if count <= self.capacity:
            return
        before, self.capacity = self.capacity, max(count, int(_GROWTH * self.capacity))
        self.nbytes = 0
        for name in self._made():
            old = getattr(self, name)
            self._make(name)
            getattr(self, name)[..., :before] = old

    def count_bad(self, rows: Rows, counts: NDArray[np.int64]) -> None:
        """Count bad samples of devices in the open cell."""
        held = self.sample_ring[self.cell % CELLS]
        high = np.minimum((held[rows] >> 4) + counts, NIBBLE).astype(np.uint8)
        held[rows] = held[rows] & NIBBLE | high << 4

    def restart(self, rows: Rows) -> None:
        """Forget what devices did on another version."""
        kept = {"boots", "seq", "version", "place", "last_at", "gaps", "stale_after"}
        for name in self._made():
            if name not in kept:
                getattr(self, name)[..., rows] = _COLUMNS[name][1]

    def turn(self, cell: int) -> None:
        """Open ``cell`` and let the oldest ones go; nothing if it is open already, or was."""
        if cell > self.cell:
            self._close(self.cell)
            self._clear(range(max(self.cell, cell - CELLS) + 1, cell + 1))
            self.cell = cell

    def _close(self, cell: int) -> None:
        place = cell % CELLS
        self.request_ring[place] = packed(self.open_requests)
        self.error_ring[place] = packed(self.open_errors)
        self.open_requests[:] = 0
        self.open_errors[:] = 0

    def _clear(self, cells: Iterable[int]) -> None:
        rings = [getattr(self, name) for name in self._made() if _COLUMNS[name][2] == CELLS]
        for cell in cells:
            for ring in rings:
                ring[cell % CELLS] = 0

    def places(self, since: float | None) -> NDArray[np.intp]:
        """Return where the cells lie, oldest first, that hold what came at ``since`` or later; None: all."""
        first = self.cell - CELLS + 1
        if since is not None:
            first = min(max(first, self.cell_of(since)), self.cell + 1)
        return np.arange(first, self.cell + 1) % CELLS

    def start_of(self, since: float | None) -> float:
        """Return when the first of the cells began that hold what came at ``since`` or later; None: all."""
        first = self.cell - CELLS + 1
        return (first if since is None else max(first, self.cell_of(since))) * self.cell_seconds

    def cell_of(self, at: float) -> int:
        """Return the number of the cell in which a moment lies."""
        return int(at // self.cell_seconds)

    def traffic(self, rows: Rows, places: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return the requests and errors of devices, a row for each of ``places`` and a column for each device."""
        requests = unpacked(self.request_ring[places[:, None], rows]).astype(np.float64)
        errors = unpacked(self.error_ring[places[:, None], rows]).astype(np.float64)
        if len(places) and places[-1] == self.cell % CELLS:
            requests[-1], errors[-1] = self.open_requests[rows], self.open_errors[rows]
        return requests, errors

    def each_traffic(self, rows: Rows, places: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return the requests and errors of each device in all of ``places`` together."""
        if len(rows) * len(places) <= FEW:
            requests, errors = self.traffic(rows, places)
            return np.add.reduce(requests), np.add.reduce(errors)
        found = np.zeros((2, len(rows)))
        rings, opened = (self.request_ring, self.error_ring), (self.open_requests, self.open_errors)
        for which, ring in enumerate(rings):
            for place in places.tolist():
                is_open = place == self.cell % CELLS
                found[which] += opened[which].take(rows) if is_open else unpacked(ring[place].take(rows))
        return found[0], found[1]

    def halves(
        self, ring: NDArray[np.uint8], rows: Rows, places: NDArray[np.intp]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return the sums of the low and the high halves of ``sample_ring`` or ``event_ring``, for each device."""
        if len(rows) * len(places) <= FEW:
            cells = ring[places[:, None], rows]
            return np.add.reduce(cells & NIBBLE, dtype=np.uint16), np.add.reduce(cells >> 4, dtype=np.uint16)
        low, high = np.zeros(len(rows), dtype=np.uint16), np.zeros(len(rows), dtype=np.uint16)
        for place in places.tolist():
            if ring[place].any():  # Most cells of most fleets hold no event.
                cell = ring[place].take(rows)
                low += cell & NIBBLE
                high += cell >> 4
        return low, high

    def gauge(self, cell_seconds: float, now: float) -> None:
        """Cut time into cells of another length, each old cell's contents into the one in which it ended.

        The open cell ends ``now``, which lies in it; what it holds goes into the one that is open then.
        """
        old_cell, old_seconds = self.cell, self.cell_seconds
        self._close(old_cell)
        rings = {name: getattr(self, name).copy() for name in self._made() if _COLUMNS[name][2] == CELLS}
        for name in rings:
            getattr(self, name)[:] = 0
        self.cell_seconds = cell_seconds
        self.cell = self.cell_of(now)
        for cell in range(old_cell - CELLS + 1, old_cell + 1):
            ended = (cell + 1) * old_seconds - min(old_seconds, cell_seconds) / 2
            into = self.cell if cell == old_cell else min(self.cell_of(ended), self.cell)
            if self.cell - CELLS < into <= self.cell:
                for name, ring in rings.items():
                    _add(name, getattr(self, name), into % CELLS, ring[cell % CELLS])
        place = self.cell % CELLS
        self.open_requests[:] = unpacked(self.request_ring[place])
        self.open_errors[:] = unpacked(self.error_ring[place])


def _add(name: str, ring: NDArray[Any], place: int, more: NDArray[Any]) -> None:
    """Add one cell's contents to another's, as the column is held."""
    held = ring[place]
    match name:
        case "request_ring" | "error_ring":
            held[:] = packed(unpacked(held) + unpacked(more))
        case "sample_ring" | "event_ring":
            low = np.minimum((held & NIBBLE) + (more & NIBBLE), NIBBLE)
            high = np.minimum((held >> 4) + (more >> 4), NIBBLE)
            held[:] = low | high << 4
        case "log_ring":
            held[:] = np.minimum(held.astype(np.uint16) + more, 255)
        case _:  # a level: the later one
            np.copyto(held, more, where=more != 0)
