"""Samples side by side: a batch as arrays, as the fold takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.columns import UNSAID, Floats, Rows
from orchestrator.telemetry.sample import Sample
from schemas.ids import is_name

NUMBERS: Final = (
    "requests_total", "errors_total", "restarts_total", "log_errors_total", "throttle_events_total",
    "memory_bytes", "disk_free_bytes", "temperature_celsius", "cpu_ratio",
    "latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "healthy", "endpoint_up",
)  # fmt: skip
"""What a batch holds of each sample as a number; yes is 1, no is 0, what is not known NaN."""

VERSIONS_MAX: Final = 30_000
"""Versions that are told apart; a device that names one more is taken for one that names none."""

_NEVER_SEEN: Final = -2

_take_numbers = attrgetter(*NUMBERS)


class Versions:
    """Versions by number, so that a device that invents some cannot fill the memory."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, version: str | None) -> int:
        """Return a version's number, a new one where it is new; ``UNSAID`` for none, and for what is no version."""
        if version is None:
            return UNSAID
        code = self._codes.get(version)
        if code is None:
            if len(self.names) >= VERSIONS_MAX or not is_name(version):
                return UNSAID
            code = self._codes[version] = len(self.names)
            self.names.append(version)
        return code

    def find(self, version: str) -> int:
        """Return a version's number, which no device has for one that was never seen."""
        return self._codes.get(version, _NEVER_SEEN)

    def name(self, code: int) -> str | None:
        """Return a version by its number."""
        return None if code == UNSAID else self.names[code]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one cell of time, a column each.

    Attributes:
        rows: Of the devices that sent them.
        places: Where those devices belong, by number.
        at: When each was received, in seconds.
        boots: Fingerprints of their boots, never 0.
        versions: Their numbers.
        numbers: A row for each of ``NUMBERS``, a column for each sample.
        samples: The samples themselves, for what is no number.
    """

    rows: Rows
    places: NDArray[np.int32]
    at: Floats
    seq: NDArray[np.int64]
    boots: NDArray[np.uint32]
    versions: NDArray[np.int16]
    numbers: Floats
    samples: NDArray[Any]

    @classmethod
    def of(
        cls, rows: Rows, places: NDArray[np.int32], at: Floats, samples: Sequence[Sample], versions: Versions
    ) -> Self:
        """Put samples side by side."""
        count = len(samples)
        held = np.empty(count, dtype=object)
        held[:] = samples
        return cls(
            rows,
            places,
            at,
            np.fromiter((each.seq for each in samples), dtype=np.int64, count=count),
            np.fromiter((hash(each.boot_id) & 0xFFFFFFFF or 1 for each in samples), dtype=np.uint32, count=count),
            np.fromiter((versions.code(each.version) for each in samples), dtype=np.int16, count=count),
            _numbers(samples),
            held,
        )

    def take(self, which: NDArray[Any]) -> Self:
        """Return some of the samples."""
        return type(self)(*(getattr(self, each.name)[..., which] for each in fields(self)))

    def number(self, name: str) -> Floats:
        """Return one of ``NUMBERS``."""
        found: Floats = self.numbers[NUMBERS.index(name)]
        return found

    def one_by_one(self) -> Iterator[Self]:
        """Yield parts in which each device stands once, in the order in which its samples came."""
        order = np.argsort(self.rows, kind="stable")
        in_order = self.rows[order]
        starts = np.flatnonzero(np.diff(in_order, prepend=-1))
        if len(starts) == len(order):
            yield self
            return
        turns = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        for turn in range(int(turns.max()) + 1):
            yield self.take(np.sort(order[turns == turn]))


def _numbers(samples: Sequence[Sample]) -> Floats:
    count = len(samples) * len(NUMBERS)
    flat = chain.from_iterable(map(_take_numbers, samples))
    try:
        table = np.fromiter(flat, dtype=np.float64, count=count)
    except TypeError:  # A device said null.
        every = chain.from_iterable(map(_take_numbers, samples))
        table = np.array(list(every), dtype=np.float64)
    return table.reshape(len(samples), len(NUMBERS)).T
