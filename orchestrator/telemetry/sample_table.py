"""Samples side by side: a column for each of their fields, and nothing yet of whose they are."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, starmap
from operator import itemgetter
from struct import Struct
from typing import Any, Final, Self

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from orchestrator.telemetry.columns import Floats
from orchestrator.telemetry.sample import Sample

NUMBERS: Final = (
    "requests_total", "errors_total", "restarts_total", "log_errors_total", "throttle_events_total",
    "memory_bytes", "disk_free_bytes", "temperature_celsius", "cpu_ratio",
    "latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "healthy", "endpoint_up",
    "seq",
)  # fmt: skip
"""What a table holds of each sample as a number; yes is 1, no is 0, what is not known NaN. A float holds ``seq``
exactly."""

_FIELDS: Final = Sample.__struct_fields__
_FIRST, _BEHIND = _FIELDS.index(NUMBERS[0]), _FIELDS.index(NUMBERS[-2]) + 1
assert (*_FIELDS[_FIRST:_BEHIND], "seq") == NUMBERS, "numbers stand side by side in a sample, in this order"

_take_numbers = itemgetter(slice(_FIRST, _BEHIND))
_take_seq, _take_boot, _take_version, _take_latency, _take_quality = (
    itemgetter(_FIELDS.index(name)) for name in ("seq", "boot_id", "version", "latency", "quality")
)
_pack = Struct(f"={_BEHIND - _FIRST}d").pack


@dataclass(frozen=True, slots=True)
class SampleTable:
    """Samples in the order in which they came.

    Attributes:
        numbers: A row for each of ``NUMBERS``, a column for each sample.
        wordy: What has each sample's ``latency`` and ``quality``, where any of them has one; else None.
    """

    numbers: Floats
    boots: Sequence[str]
    versions: Sequence[str | None]
    wordy: NDArray[Any] | None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Put samples side by side."""
        fields = list(map(astuple, samples))
        wordy = None
        if any(map(_take_latency, fields)) or any(map(_take_quality, fields)):
            wordy = np.empty(len(samples), dtype=object)
            wordy[:] = samples
        return cls(_numbers(fields), list(map(_take_boot, fields)), list(map(_take_version, fields)), wordy)

    @classmethod
    def joined(cls, tables: Sequence[Self]) -> Self:
        """Return one table of several, in their order."""
        if len(tables) == 1:
            return tables[0]
        wordy = None
        if any(each.wordy is not None for each in tables):
            wordy = np.concatenate([_filled(each) for each in tables])
        return cls(
            np.concatenate([each.numbers for each in tables], axis=1),
            list(chain.from_iterable(each.boots for each in tables)),
            list(chain.from_iterable(each.versions for each in tables)),
            wordy,
        )

    def take(self, which: NDArray[np.intp]) -> Self:
        """Return some of the samples."""
        places = which.tolist()
        return type(self)(
            self.numbers[:, which],
            [self.boots[place] for place in places],
            [self.versions[place] for place in places],
            None if self.wordy is None else self.wordy[which],
        )

    def __len__(self) -> int:
        return len(self.boots)


class Wordless:
    """What stands in a table for a sample that has no latency sketch and no quality."""

    latency = None
    quality = None


WORDLESS: Final = Wordless()


def _filled(table: SampleTable) -> NDArray[Any]:
    if table.wordy is not None:
        return table.wordy
    held = np.empty(len(table), dtype=object)
    held[:] = WORDLESS
    return held


def _numbers(samples: Sequence[tuple[Any, ...]]) -> Floats:
    count, width = len(samples), _BEHIND - _FIRST
    table = np.empty((width + 1, count))
    try:
        rows = np.frombuffer(b"".join(starmap(_pack, map(_take_numbers, samples))), dtype=np.float64)
    except struct.error:  # A device said null.
        rows = np.array(list(map(_take_numbers, samples)), dtype=np.float64)
    table[:width] = rows.reshape(count, width).T
    table[width] = np.fromiter(map(_take_seq, samples), dtype=np.float64, count=count)
    return table
