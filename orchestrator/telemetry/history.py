"""What a device group did over the last hours, in intervals, by version: what its baseline is taken from."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from orchestrator.telemetry.baseline import Baseline, deviation, trend
from orchestrator.telemetry.cells import Cell, merged

INTERVALS: Final = 288
"""Intervals over the whole history: five minutes each over 24 hours."""

_VERSIONS_MAX: Final = 16


@dataclass(slots=True)
class Interval:
    """What a group did in one interval, by version."""

    start: float
    versions: dict[str, Cell] = field(default_factory=dict)


class GroupHistory:
    """The last ``INTERVALS`` intervals of one group; older ones are forgotten.

    An interval holds at most 16 versions; samples of further ones are left out, so that a device that invents versions
    cannot fill the memory.
    """

    def __init__(self, history_seconds: float, kept: Iterable[Interval] = ()) -> None:
        self._interval_seconds = history_seconds / INTERVALS
        # One more than asked for, because the window's ends lie within intervals.
        self._intervals: deque[Interval] = deque(kept, maxlen=INTERVALS + 1)

    def intervals(self) -> tuple[Interval, ...]:
        """Return what is held, oldest first; what is counted later does not change it."""
        return tuple(Interval(each.start, dict(each.versions)) for each in self._intervals)

    def add(self, version: str, cell: Cell) -> None:
        """Count what devices of one version did in a cell of time."""
        start = self.start_of(cell.start)
        if not self._intervals or self._intervals[-1].start != start:
            self._intervals.append(Interval(start))
        versions = self._intervals[-1].versions
        if version in versions or len(versions) < _VERSIONS_MAX:
            versions[version] = merged([versions[version], cell]) if version in versions else cell

    def start_of(self, moment: float) -> float:
        """Return when the interval began in which a moment lies."""
        return moment // self._interval_seconds * self._interval_seconds

    def is_older_than(self, moment: float) -> bool:
        """Say whether nothing was counted since ``moment``."""
        return not self._intervals or self._intervals[-1].start + self._interval_seconds <= moment

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield what is held, oldest first, with the version."""
        for interval in self._intervals:
            yield from interval.versions.items()

    def baseline(
        self, group: str, newest: Iterable[tuple[str, Cell]], *, now: float, seconds: float, excluding_version: str,
        min_samples: int, device_count: int,
    ) -> Baseline | None:  # fmt: skip
        """Return the group's baseline over all intervals that touch the last ``seconds``, see ``Monitor.baseline``.

        ``newest`` is what came since the last cell that was added.
        """
        counted: dict[float, list[Cell]] = {}
        for version, cell in (*self.cells(), *newest):
            start = self.start_of(cell.start)
            if version != excluding_version and start + self._interval_seconds > now - seconds:
                counted.setdefault(start, []).append(cell)
        intervals = {start: merged(cells) for start, cells in sorted(counted.items())}
        total = merged(intervals.values())
        if min(total.requests, total.samples) < max(min_samples, 1):
            return None
        rates = [(start, min(each.errors / each.requests, 1.0)) for start, each in intervals.items() if each.requests]
        p50, p95, p99 = (total.latency.quantile(q) for q in (0.50, 0.95, 0.99))
        is_approximate = not total.latency.counts and any(each.counts for each in total.percentiles)
        if is_approximate:
            p50, p95, p99 = (sketch.quantile(0.5) for sketch in total.percentiles)
        means = {name: each / count for name, (each, count) in total.means.items()}
        return Baseline(
            group=group,
            error_rate=min(total.errors / total.requests, 1.0),
            error_rate_deviation=deviation([rate for _, rate in rates]),
            error_rate_trend=trend(rates),
            latency_p50_seconds=p50,
            latency_p95_seconds=p95,
            latency_p99_seconds=p99,
            latency_is_approximate=is_approximate,
            cpu_ratio=means.pop("", None),
            quality=dict(sorted(means.items())),
            request_count=int(total.requests),
            sample_count=total.samples,
            device_count=device_count,
            window_seconds=seconds,
        )
