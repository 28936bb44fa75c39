"""What a device group did over the last hours, in intervals, by version: what its baseline is taken from."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from orchestrator.telemetry.baseline import Baseline, deviation, trend
from orchestrator.telemetry.sketch import Sketch, merge

INTERVALS: Final = 288
"""Intervals over the whole history: five minutes each over 24 hours."""

_VERSIONS_MAX: Final = 16
_UNMERGED_MAX: Final = 256


@dataclass(slots=True)
class _Totals:
    """What the devices of one version did in one interval; ``devices`` is a bit mask of their numbers."""

    requests: int = 0
    errors: int = 0
    samples: int = 0
    devices: int = 0
    sketches: list[Sketch] = field(default_factory=list)

    def add_latency(self, sketch: Sketch) -> None:
        self.sketches.append(sketch)
        # Merging many at once costs a fraction of merging each as it comes.
        if len(self.sketches) >= _UNMERGED_MAX:
            self.sketches = [merge(*self.sketches)]


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
        self, version: str, device_number: int, *, requests: int, errors: int, latency: Sketch | None, at: float
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
            totals.add_latency(latency)

    def _close(self) -> None:
        for totals in self._intervals[-1].versions.values() if self._intervals else ():
            totals.sketches = [merge(*totals.sketches)]

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
            total.requests += requests
            total.errors += errors
            for totals in kept:
                total.samples += totals.samples
                total.devices |= totals.devices
                total.sketches += totals.sketches
        if min(total.requests, total.samples) < max(min_samples, 1):
            return None
        latency = merge(*total.sketches)
        return Baseline(
            group=group,
            error_rate=min(total.errors / total.requests, 1.0),
            error_rate_deviation=deviation([rate for _, rate in rates]),
            error_rate_trend=trend(rates),
            latency_p50_seconds=latency.quantile(0.50),
            latency_p95_seconds=latency.quantile(0.95),
            latency_p99_seconds=latency.quantile(0.99),
            request_count=total.requests,
            sample_count=total.samples,
            device_count=total.devices.bit_count(),
            window_seconds=seconds,
        )
