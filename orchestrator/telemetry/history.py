"""What a device group did over the last hours, in intervals, by version: what its baseline is taken from."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from orchestrator.telemetry.baseline import Baseline, deviation, trend
from orchestrator.telemetry.levels import Levels
from orchestrator.telemetry.sketch import Sketch, merge

INTERVALS: Final = 288
"""Intervals over the whole history: five minutes each over 24 hours."""

_VERSIONS_MAX: Final = 16
_UNMERGED_MAX: Final = 256
_MEANS_MAX: Final = 17


@dataclass(slots=True)
class _Totals:
    """What the devices of one version did in one interval; ``devices`` is a bit mask of their numbers."""

    requests: int = 0
    errors: int = 0
    samples: int = 0
    devices: int = 0
    sketches: list[Sketch] = field(default_factory=list)
    percentiles: tuple[list[Sketch], list[Sketch], list[Sketch]] = field(default_factory=lambda: ([], [], []))
    means: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add_levels(self, levels: Levels) -> None:
        """Count a sample's processor use (named by the empty string), quality and percentiles."""
        named = levels.quality if levels.cpu_ratio is None else (("", levels.cpu_ratio), *levels.quality)
        for name, value in named:
            if name in self.means or len(self.means) < _MEANS_MAX:
                self.add_mean(name, value, 1)
        for sketches, seconds in zip(self.percentiles, levels.percentiles, strict=True):
            if seconds is not None:
                append_merged(sketches, Sketch.of_one(seconds))

    def add_mean(self, name: str, total: float, count: int) -> None:
        """Add to the sum and the count behind a mean."""
        before, counted = self.means.get(name, (0.0, 0))
        self.means[name] = (before + total, counted + count)

    def merge_all(self) -> None:
        """Merge what was kept apart."""
        for sketches in (self.sketches, *self.percentiles):
            sketches[:] = [merge(*sketches)] if sketches else []

    def add_all(self, other: "_Totals") -> None:
        """Add what another interval or version counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.samples += other.samples
        self.devices |= other.devices
        self.sketches += other.sketches
        for mine, its in zip(self.percentiles, other.percentiles, strict=True):
            mine.extend(its)
        for name, (total, count) in other.means.items():
            self.add_mean(name, total, count)


def append_merged(sketches: list[Sketch], sketch: Sketch) -> None:
    """Append a sketch; merging many at once costs a fraction of merging each as it comes."""
    sketches.append(sketch)
    if len(sketches) >= _UNMERGED_MAX:
        sketches[:] = [merge(*sketches)]


@dataclass(slots=True)
class _Interval:
    start: float
    versions: dict[str, _Totals] = field(default_factory=dict)


class GroupHistory:
    """The last ``INTERVALS`` intervals of one group; older ones are forgotten.

    An interval holds at most 16 versions; samples of further ones are left out, so that a device that invents versions
    cannot fill the memory.
    """

    def __init__(self, history_seconds: float) -> None:
        self._interval_seconds = history_seconds / INTERVALS
        # One more than asked for, because the window's ends lie within intervals.
        self._intervals: deque[_Interval] = deque(maxlen=INTERVALS + 1)

    def add(
        self,
        version: str,
        device_number: int,
        *,
        requests: int,
        errors: int,
        latency: Sketch | None,
        levels: Levels | None,
        at: float,
    ) -> None:
        """Count what one sample brought."""
        start = at // self._interval_seconds * self._interval_seconds
        if not self._intervals or self._intervals[-1].start != start:
            self._close()
            self._intervals.append(_Interval(start))
        versions = self._intervals[-1].versions
        totals = versions.get(version)
        if totals is None:
            if len(versions) >= _VERSIONS_MAX:
                return
            totals = versions[version] = _Totals()
        totals.requests += requests
        totals.errors += errors
        totals.samples += 1
        totals.devices |= 1 << device_number
        if latency is not None:
            append_merged(totals.sketches, latency)
        if levels is not None:
            totals.add_levels(levels)

    def _close(self) -> None:
        for totals in self._intervals[-1].versions.values() if self._intervals else ():
            totals.merge_all()

    def is_older_than(self, moment: float) -> bool:
        """Say whether nothing was counted since ``moment``."""
        return not self._intervals or self._intervals[-1].start + self._interval_seconds <= moment

    def baseline(
        self, group: str, *, now: float, seconds: float, excluding_version: str, min_samples: int
    ) -> Baseline | None:
        """Return the group's baseline over all intervals that touch the last ``seconds``, see ``Monitor.baseline``."""
        total = _Totals()
        rates: list[tuple[float, float]] = []
        for interval in self._intervals:
            if interval.start + self._interval_seconds <= now - seconds:
                continue
            kept = [totals for version, totals in interval.versions.items() if version != excluding_version]
            requests, errors = sum(totals.requests for totals in kept), sum(totals.errors for totals in kept)
            if requests:
                rates.append((interval.start, min(errors / requests, 1.0)))
            for totals in kept:
                total.add_all(totals)
        if min(total.requests, total.samples) < max(min_samples, 1):
            return None
        latency = merge(*total.sketches)
        p50, p95, p99 = (latency.quantile(q) for q in (0.50, 0.95, 0.99))
        is_approximate = not latency.count and any(total.percentiles)
        if is_approximate:
            p50, p95, p99 = (merge(*sketches).quantile(0.5) for sketches in total.percentiles)
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
            request_count=total.requests,
            sample_count=total.samples,
            device_count=total.devices.bit_count(),
            window_seconds=seconds,
        )
