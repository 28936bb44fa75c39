"""Samples side by side: a batch as arrays, as the fold takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.columns import UNSAID, Floats, Rows
from orchestrator.telemetry.sample_table import NUMBERS, SampleTable
from schemas.ids import is_name

VERSIONS_MAX: Final = 30_000
"""Versions that are told apart; a device that names one more is taken for one that names none."""

_NEVER_SEEN: Final = -2
_PLACES: Final = {name: place for place, name in enumerate(NUMBERS)}


class Versions:
    """Versions by number, so that a device that invents some cannot fill the memory."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str | None, int] = {None: UNSAID}

    def codes(self, versions: Sequence[str | None]) -> NDArray[np.int16]:
        """Return each version's number, a new one where it is new; ``UNSAID`` for none, and for what is no version."""
        found = list(map(self._codes.get, versions))
        if None in found:
            found = list(map(self._code, versions))
        return np.array(found, dtype=np.int16)

    def _code(self, version: str | None) -> int:
        code = self._codes.get(version)
        if code is None:
            if version is None or len(self.names) >= VERSIONS_MAX or not is_name(version):
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
        samples: What has their latencies and qualities, where any of them has one; else None.
    """

    rows: Rows
    places: NDArray[np.int32]
    at: Floats
    seq: NDArray[np.int64]
    boots: NDArray[np.uint32]
    versions: NDArray[np.int16]
    numbers: Floats
    samples: NDArray[Any] | None

    @classmethod
    def of(cls, rows: Rows, places: NDArray[np.int32], at: Floats, table: SampleTable, versions: Versions) -> Self:
        """Say whose the samples of a table are, and when they came."""
        return cls(
            rows,
            places,
            at,
            table.numbers[_PLACES["seq"]].astype(np.int64),
            _boots(table.boots),
            versions.codes(table.versions),
            table.numbers,
            table.wordy,
        )

    def take(self, which: NDArray[Any]) -> Self:
        """Return some of the samples."""
        return type(self)(
            self.rows[which],
            self.places[which],
            self.at[which],
            self.seq[which],
            self.boots[which],
            self.versions[which],
            self.numbers[:, which],
            None if self.samples is None else self.samples[which],
        )

    def number(self, name: str) -> Floats:
        """Return one of ``NUMBERS``."""
        found: Floats = self.numbers[_PLACES[name]]
        return found

    def one_by_one(self) -> Iterator[Self]:
        """Yield parts in which each device stands once, in the order in which its samples came."""
        turns = turns_of(self.rows)
        if turns is None:
            yield self
            return
        for turn in range(int(turns.max()) + 1):
            yield self.take(np.flatnonzero(turns == turn))


def turns_of(rows: Rows) -> NDArray[np.intp] | None:
    """Return how often each row stands before each place; None, for never, where each stands once."""
    if len(rows) < 2:  # noqa: PLR2004 - alone
        return None
    ranked = np.sort(rows)
    if (ranked[1:] != ranked[:-1]).all():
        return None
    places = np.arange(len(rows))
    starts = places.copy()
    starts[1:][ranked[1:] == ranked[:-1]] = 0
    turns = np.empty(len(rows), dtype=np.intp)
    turns[np.argsort(rows, kind="stable")] = places - np.maximum.accumulate(starts)
    return turns


def _boots(boots: Sequence[str]) -> NDArray[np.uint32]:
    hashes = np.fromiter(map(hash, boots), dtype=np.int64, count=len(boots))
    return np.maximum(hashes.astype(np.uint32), 1)
