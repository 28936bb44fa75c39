"""What single devices measured of themselves, cell by cell: what a trend is taken from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.columns import CELLS, NIBBLE, Columns, Floats
from orchestrator.telemetry.compact import unpacked, unpacked_celsius
from orchestrator.telemetry.devices import Devices


class Signal(StrEnum):
    """A level whose trend is judged; each is worse when it rises."""

    MEMORY = "memory"
    """KiB."""
    DISK = "disk"
    """Free KiB, negative, so that it rises when the disk fills up."""
    TEMPERATURE = "temperature"
    """Degrees Celsius."""


@dataclass(frozen=True, slots=True)
class Readings:
    """One level of some devices.

    Attributes:
        devices: Those that run the version.
        times: When each cell ended, in seconds; oldest first, without the open one.
        values: A row for each cell and a column for each device; NaN where it measured nothing.
        samples: How many good samples of each device came in the cells.
    """

    devices: Devices
    times: Floats
    values: NDArray[np.float32]
    samples: NDArray[np.int64]


def _known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(values == 0, np.float32(np.nan), values)


_RINGS: Final[Mapping[Signal, tuple[str, Callable[[NDArray[Any]], NDArray[np.float32]]]]] = {
    Signal.MEMORY: ("memory_ring", lambda codes: _known(unpacked(codes))),
    Signal.DISK: ("disk_ring", lambda codes: -_known(unpacked(codes))),
    Signal.TEMPERATURE: ("temperature_ring", unpacked_celsius),
}


def read_levels(columns: Columns, devices: Devices, signal: Signal, since: float) -> Readings:
    """Read a signal of devices in the cells that hold what came at ``since`` or later, without the open one."""
    rows = devices.rows
    first = max(columns.cell - CELLS + 1, columns.cell_of(since))
    cells = np.arange(first, columns.cell)
    places = cells[:, None] % CELLS
    samples = (columns.sample_ring[places, rows] & NIBBLE).sum(axis=0, dtype=np.int64)
    ring, read = _RINGS[signal]
    if columns.has(ring):
        values = read(getattr(columns, ring)[places, rows])
    else:
        values = np.full((len(cells), len(rows)), np.nan, dtype=np.float32)
    times = np.asarray((cells + 1) * columns.cell_seconds, dtype=np.float64)
    return Readings(devices, times, values, samples)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and errors of some devices in consecutive stretches of time, each cut into cells.

    Attributes:
        devices: Those that ran the version all the time.
        requests: Stretches by cells by devices, oldest first; ``errors`` likewise.
    """

    devices: Devices
    requests: Floats
    errors: Floats


def read_traffic(columns: Columns, devices: Devices, seconds: float, count: int) -> Traffic:
    """Read the newest ``count`` stretches of ``seconds``, rounded to whole cells, without the open one."""
    each = max(min(round(seconds / columns.cell_seconds), (CELLS - 1) // count), 1)
    first = columns.cell - count * each
    which = np.flatnonzero(columns.first_at[devices.rows] <= first * columns.cell_seconds)
    places = np.arange(first, columns.cell) % CELLS
    there = devices.take(which)
    requests, errors = columns.traffic(there.rows, places)
    shape = (count, each, len(which))
    return Traffic(there, requests.reshape(shape), errors.reshape(shape))
