"""What devices did together: latencies, processor use and quality of each cohort, cell by cell.

A **cohort** is the devices of one group, in one wave of a rollout or in none, while they run one version. Latencies
cannot be kept for each of a million devices; merged by cohort they are exact in what they claim, and whatever is judged
is made of cohorts: a group, a wave, all that is deployed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import log
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.batch import Batch
from orchestrator.telemetry.cells import Cell
from orchestrator.telemetry.columns import CELLS, Floats, Rows
from orchestrator.telemetry.fold import Folded
from orchestrator.telemetry.sketch import BUCKETS, LOWEST, Sketch, buckets_of

COHORTS_MAX: Final = 4096
"""Cohorts at a time; what devices of further ones measure together is not kept."""

VERSIONS_MAX: Final = 16
"""Versions of one place at a time, so that a device that invents some takes nothing from other places."""

QUALITIES_MAX: Final = 16
"""Names of the application's own measures; samples of further ones are left out."""

_CAPACITY_MIN: Final = 4

PERCENTILES: Final = ("latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds")


class Cohort(NamedTuple):
    """Devices of one place that run one version, both by their numbers."""

    place: int
    version: int

    @classmethod
    def of_code(cls, code: int) -> Self:
        """Return the cohort of a number that holds both, see ``codes_of``."""
        return cls(code >> 16, (code & 0xFFFF ^ 0x8000) - 0x8000)

    @property
    def code(self) -> int:
        """The number that holds both."""
        return self.place << 16 | self.version & 0xFFFF


def codes_of(places: NDArray[np.int32], versions: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return place and version in one number each."""
    return places.astype(np.int64) << 16 | versions.astype(np.int64) & 0xFFFF


class Cohorts:
    """All cohorts: the open cell as arrays, the cells before it as ``Cell``.

    Attributes:
        start: When the open cell began, in seconds.
        qualities: Names of the application's own measures, by their numbers.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self.qualities: list[str] = []
        self._indexes: dict[int, int] = {}
        """By the numbers of cohorts that hold place and version."""
        self._members: list[Cohort] = []
        self._versions_of: Counter[int] = Counter()
        self._closed: list[deque[Cell]] = []
        self._sums = np.zeros((3, _CAPACITY_MIN))
        self._means = np.zeros((2, QUALITIES_MAX + 1, _CAPACITY_MIN))
        self._latency: NDArray[np.int64] = np.zeros((_CAPACITY_MIN, BUCKETS), dtype=np.int64)
        self._percentiles: NDArray[np.int64] = np.zeros((3, 0, BUCKETS), dtype=np.int64)

    def add(self, folded: Folded) -> tuple[Rows, NDArray[np.uint16]]:
        """Add what samples brought; return the rows that measured their quality, and which ones, a bit for each."""
        batch = folded.batch
        codes = self._codes_of(batch)
        requests, errors = folded.requests, folded.errors
        is_kept = codes >= 0
        if not is_kept.all():
            batch, codes, requests, errors = batch.take(is_kept), codes[is_kept], requests[is_kept], errors[is_kept]
        count = len(self._members)
        self._reserve(count)
        for total, amounts in zip(self._sums, (requests, errors, None), strict=True):
            total[:count] += np.bincount(codes, amounts, count)
        self._add_cpu(codes, batch.number("cpu_ratio"))
        self._add_latencies(codes, batch)
        self._add_percentiles(codes, batch)
        return self._add_qualities(codes, batch)

    def _codes_of(self, batch: Batch) -> NDArray[np.intp]:
        both = codes_of(batch.places, batch.versions).tolist()
        found = list(map(self._indexes.get, both))
        if None in found:
            found = list(map(self._index, both))
        return np.array(found, dtype=np.intp)

    def _index(self, code: int) -> int:
        index = self._indexes.get(code)
        if index is None:
            cohort = Cohort.of_code(code)
            if len(self._members) >= COHORTS_MAX or self._versions_of[cohort.place] >= VERSIONS_MAX:
                return -1
            index = self._indexes[code] = len(self._members)
            self._members.append(cohort)
            self._versions_of[cohort.place] += 1
            self._closed.append(deque(maxlen=CELLS - 1))
        return index

    def _reserve(self, count: int) -> None:
        have = self._sums.shape[-1]
        if count <= have:
            return
        more = max(count, 2 * have) - have
        self._sums = np.pad(self._sums, ((0, 0), (0, more)))
        self._means = np.pad(self._means, ((0, 0), (0, 0), (0, more)))
        self._latency = np.pad(self._latency, ((0, more), (0, 0)))
        if self._percentiles.shape[1]:
            self._percentiles = np.pad(self._percentiles, ((0, 0), (0, more), (0, 0)))

    def _add_cpu(self, codes: NDArray[np.intp], used: Floats) -> None:
        known = ~np.isnan(used)
        if known.any():
            totals, counts = self._means[:, 0]
            totals += np.bincount(codes[known], used[known], len(totals))
            counts += np.bincount(codes[known], None, len(counts))

    def _add_qualities(self, codes: NDArray[np.intp], batch: Batch) -> tuple[Rows, NDArray[np.uint16]]:
        measured: dict[int, int] = {}
        for place, sample in enumerate(() if batch.samples is None else batch.samples):
            for name, value in (sample.quality or {}).items():
                which = self._quality(name)
                if which is not None:
                    self._means[:, which + 1, codes[place]] += value, 1
                    measured[place] = measured.get(place, 0) | 1 << which
        rows = batch.rows[np.fromiter(measured, dtype=np.intp, count=len(measured))]
        return rows, np.fromiter(measured.values(), dtype=np.uint16, count=len(measured))

    def _quality(self, name: str) -> int | None:
        if name in self.qualities:
            return self.qualities.index(name)
        if len(self.qualities) == QUALITIES_MAX:
            return None
        self.qualities.append(name)
        return len(self.qualities) - 1

    def _add_latencies(self, codes: NDArray[np.intp], batch: Batch) -> None:
        if batch.samples is None:
            return
        told = [(code, each.latency) for code, each in zip(codes.tolist(), batch.samples, strict=True) if each.latency]
        if not told:
            return
        lengths = np.array([len(latency.counts) for _, latency in told])
        total = int(lengths.sum())
        counts = np.fromiter(chain.from_iterable(latency.counts for _, latency in told), np.int64, total)
        offsets = np.array([latency.offset for _, latency in told])
        log_gammas = np.array([log(latency.gamma) for _, latency in told])
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        bounds = (np.repeat(offsets, lengths) + within) * np.repeat(log_gammas, lengths)
        of_code = np.repeat(np.array([code for code, _ in told]), lengths)
        np.add.at(self._latency, (of_code, buckets_of(bounds)), counts)

    def _add_percentiles(self, codes: NDArray[np.intp], batch: Batch) -> None:
        told = np.array([batch.number(name) for name in PERCENTILES])
        if np.isnan(told).all():
            return
        for place, values in enumerate(told):
            known = np.flatnonzero(~np.isnan(values))
            if len(known) and batch.samples is not None:
                known = known[[each.latency is None for each in batch.samples[known]]]
            if not len(known):
                continue
            if not self._percentiles.shape[1]:
                self._percentiles = np.zeros((3, *self._latency.shape), dtype=np.int64)
            with np.errstate(divide="ignore"):  # 0 counts as the shortest that is told apart
                buckets = buckets_of(np.log(values[known]))
            np.add.at(self._percentiles[place], (codes[known], buckets), 1)

    def close(self, end: float, tell: Callable[[Cohort, Cell], None]) -> None:
        """End the open cell, ``tell`` of each cohort that did something in it, and begin the next."""
        for cohort, cell in self.open_cells(end):
            self._closed[self._indexes[cohort.code]].append(cell)
            tell(cohort, cell)
        for array in (self._sums, self._means, self._latency, self._percentiles):
            array[:] = 0
        self.start = end

    def open_cells(self, end: float) -> Iterator[tuple[Cohort, Cell]]:
        """Yield what each cohort has done so far in the open cell, which ends at ``end``."""
        for code in np.flatnonzero(self._sums[2]).tolist():
            yield self._members[code], self._open(code, end)

    def _open(self, code: int, end: float) -> Cell:
        totals, counts = self._means[0, :, code].tolist(), self._means[1, :, code].tolist()
        means = {name: (total, int(n)) for name, total, n in zip(["", *self.qualities], totals, counts) if n}  # noqa: B905 - fewer names than room for them
        requests, errors, samples = self._sums[:, code].tolist()
        percentiles = (Sketch(), Sketch(), Sketch())
        if self._percentiles.shape[1]:
            p50, p95, p99 = (Sketch.packed(LOWEST, each) for each in self._percentiles[:, code])
            percentiles = (p50, p95, p99)
        latency = Sketch.packed(LOWEST, self._latency[code])
        return Cell(self.start, end, requests, errors, int(samples), latency, percentiles, means)

    def cells(self, cohorts: Iterable[Cohort], since: float, end: float) -> Iterator[Cell]:
        """Yield the cells of cohorts that end after ``since``, at last the open one, which ends at ``end``."""
        for code in (self._indexes[each.code] for each in cohorts if each.code in self._indexes):
            yield from (cell for cell in self._closed[code] if cell.end > since)
            if self._sums[2, code]:
                yield self._open(code, end)

    def members(self) -> Sequence[Cohort]:
        """Return all cohorts that are kept."""
        return self._members

    def forget_idle(self, since: float) -> None:
        """Let go of cohorts that have done nothing since, so that those of new rollouts have room."""
        kept = [
            code for code, cells in enumerate(self._closed) if self._sums[2, code] or (cells and cells[-1].end > since)
        ]
        if len(kept) == len(self._members):
            return
        self._members, self._closed = [self._members[code] for code in kept], [self._closed[code] for code in kept]
        self._indexes = {cohort.code: index for index, cohort in enumerate(self._members)}
        self._versions_of = Counter(cohort.place for cohort in self._members)
        self._sums, self._means, self._latency = self._sums[:, kept], self._means[:, :, kept], self._latency[kept]
        if self._percentiles.shape[1]:
            self._percentiles = self._percentiles[:, kept]
