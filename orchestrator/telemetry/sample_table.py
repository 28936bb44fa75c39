"""Samples side by side: a column for each of their fields, and nothing yet of whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final, Self

import numpy as np
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

_take_numbers = attrgetter(*NUMBERS)
_take_boot = attrgetter("boot_id")
_take_version = attrgetter("version")
_take_latency = attrgetter("latency")
_take_quality = attrgetter("quality")


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
        return cls(
            _numbers(samples), list(map(_take_boot, samples)), list(map(_take_version, samples)), _wordy(samples)
        )

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


def _numbers(samples: Sequence[Sample]) -> Floats:
    width = len(NUMBERS)
    try:
        table = np.fromiter(
            chain.from_iterable(map(_take_numbers, samples)), dtype=np.float64, count=len(samples) * width
        )
    except TypeError:  # A device said null.
        table = np.array(list(chain.from_iterable(map(_take_numbers, samples))), dtype=np.float64)
    return np.ascontiguousarray(table.reshape(len(samples), width).T)


def _wordy(samples: Sequence[Sample]) -> NDArray[Any] | None:
    if not any(map(_take_latency, samples)) and not any(map(_take_quality, samples)):
        return None
    held = np.empty(len(samples), dtype=object)
    held[:] = samples
    return held
