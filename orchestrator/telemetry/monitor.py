"""The fleet as its health samples show it: the one fold that gates, triggers and summaries ask."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.history import GroupHistory
from orchestrator.telemetry.levels import Levels, Signal
from orchestrator.telemetry.series import SampleOutcome, Series, Sums
from orchestrator.telemetry.sketch import Sketch, merge
from orchestrator.telemetry.trends import Slope
from schemas.messages import HealthSample

_STALE_INTERVALS: Final = 3
_STALE_SECONDS_MIN: Final = 1.0


@dataclass(frozen=True)
class Window:
    """What some devices did over a window while they ran one version.

    Attributes:
        device_count: Devices that were asked about.
        fresh_device_count: Devices with a fresh good sample of that version.
        silent: The others, sorted. What is known of them within the window is still counted.
        sample_count: Good samples.
        request_count: Requests whose errors were counted as well.
        crash_count: Restarts of the application and of the device.
        healthy_count: Fresh devices that are healthy.
        unhealthy: Fresh devices that are not, sorted.
        undecided: Fresh devices that do not say, sorted.
        without_traffic: Fresh devices that count no requests or no errors, sorted.
        without_restarts: Fresh devices that count no restarts, sorted; log errors and throttle events likewise.
        sketches: Latencies, one of each sample.
    """

    device_count: int
    fresh_device_count: int
    silent: tuple[str, ...]
    sample_count: int
    request_count: int
    error_count: int
    crash_count: int
    healthy_count: int
    unhealthy: tuple[str, ...]
    undecided: tuple[str, ...]
    without_traffic: tuple[str, ...]
    without_restarts: tuple[str, ...]
    sketches: tuple[Sketch, ...]
    log_error_count: int = 0
    throttle_count: int = 0
    without_log_errors: tuple[str, ...] = ()
    without_throttles: tuple[str, ...] = ()

    @property
    def error_rate(self) -> float | None:
        """Errors per request, 0..1; None without requests."""
        return min(self.error_count / self.request_count, 1.0) if self.request_count else None

    @cached_property
    def latency(self) -> Sketch:
        """All latencies, merged when first asked for: most questions are not about them."""
        return merge(*self.sketches)


class Monitor:
    """Folds health samples; mutable, and bounded by the devices and groups that the caller lets in.

    A window of ``seconds`` holds the samples received later than ``now - seconds``; ``None`` all that are kept (at most
    256 of a device) since the device runs its version.

    Args:
        history_seconds: How far back a baseline can reach.
        stale_after_seconds: The age at which a device's last good sample is no longer fresh. None: three times the
            device's own usual interval, at least a second. A window that is shorter makes it shorter.
    """

    def __init__(self, history_seconds: float = 24 * 3600, stale_after_seconds: float | None = None) -> None:
        self._history_seconds = history_seconds
        self._stale_after_seconds = stale_after_seconds
        self._series: dict[str, Series] = {}
        self._group_of: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._free_numbers: list[int] = []
        self._histories: dict[str, GroupHistory] = {}

    def observe(
        self, device: str, group: str, sample: HealthSample, received_at: float, *, counts_for_baseline: bool = True
    ) -> SampleOutcome:
        """Fold one sample in; the rules are in ``series``.

        ``counts_for_baseline`` is False while the device is out of normal operation: in a rollout, in maintenance, in
        quarantine.
        """
        series = self._series.get(device)
        if series is None:
            series = self._series[device] = Series()
            self._numbers[device] = self._free_numbers.pop() if self._free_numbers else len(self._numbers)
        self._group_of[device] = group
        outcome, difference, latency, levels = series.observe(sample, received_at)
        if counts_for_baseline and outcome is SampleOutcome.ACCEPTED and sample.version is not None:
            self._history(group, received_at).add(
                sample.version,
                self._numbers[device],
                requests=difference.requests,
                errors=difference.errors,
                latency=latency,
                levels=levels,
                at=received_at,
            )
        return outcome

    def _history(self, group: str, now: float) -> GroupHistory:
        history = self._histories.get(group)
        if history is None:
            oldest = now - self._history_seconds
            self._histories = {name: kept for name, kept in self._histories.items() if not kept.is_older_than(oldest)}
            history = self._histories[group] = GroupHistory(self._history_seconds)
        return history

    def window(self, devices: Collection[str], *, version: str | None, seconds: float | None, now: float) -> Window:
        """Return what ``devices`` did over the last ``seconds`` while they ran ``version``.

        A ``version`` of None takes each device with the version it runs.
        """
        moment = -inf if seconds is None else now - seconds
        names = sorted(set(devices))
        found = {name: series for name in names if (series := self._running(name, version)) is not None}
        fresh = {name: series for name, series in found.items() if self._is_fresh(series, seconds, now)}
        sums = [series.sums_after(moment) for series in found.values()]
        return Window(
            device_count=len(names),
            fresh_device_count=len(fresh),
            silent=tuple(name for name in names if name not in fresh),
            sample_count=sum(total.good for total in sums),
            request_count=sum(total.requests for total in sums),
            error_count=sum(total.errors for total in sums),
            crash_count=sum(total.crashes for total in sums),
            healthy_count=sum(series.is_healthy is True for series in fresh.values()),
            unhealthy=tuple(name for name, series in fresh.items() if series.is_healthy is False),
            undecided=tuple(name for name, series in fresh.items() if series.is_healthy is None),
            without_traffic=tuple(name for name, series in fresh.items() if not series.reports_traffic),
            without_restarts=tuple(name for name, series in fresh.items() if not series.reports_restarts),
            sketches=tuple(_latencies(found.values(), moment)),
            log_error_count=sum(total.log_errors for total in sums),
            throttle_count=sum(total.throttles for total in sums),
            without_log_errors=tuple(name for name, series in fresh.items() if not series.reports_log_errors),
            without_throttles=tuple(name for name, series in fresh.items() if not series.reports_throttles),
        )

    def levels(
        self, devices: Collection[str], *, version: str | None, seconds: float | None, now: float
    ) -> dict[str, list[Levels]]:
        """Return what each device measured over the last ``seconds`` while it ran ``version``, by device."""
        moment = -inf if seconds is None else now - seconds
        found = {name: self._running(name, version) for name in sorted(set(devices))}
        return {name: [each for _, each in its.levels_after(moment)] for name, its in found.items() if its is not None}

    def slope(self, device: str, signal: Signal, *, version: str | None, seconds: float) -> Slope | None:
        """Return the line through a signal over the ``seconds`` before the device's last sample of ``version``."""
        series = self._running(device, version)
        return None if series is None else series.slope(signal, seconds)

    def signals(self, device: str) -> frozenset[str]:
        """Name what the device shows of the version it runs, in the words of its ``info``; none where it is unknown."""
        series = self._series.get(device)
        return frozenset() if series is None else series.signals()

    def traffic(
        self, devices: Collection[str], moments: Sequence[float], *, version: str | None
    ) -> dict[str, list[tuple[int, int]]]:
        """Return (requests, errors) of each device that runs ``version`` between each moment and the next."""
        found = {name: self._running(name, version) for name in devices}
        return {name: series.traffic_between(moments) for name, series in found.items() if series is not None}

    def kept_since(self, device: str, *, version: str | None) -> float:
        """Return when the oldest sample of ``version`` came that is kept of a device; infinite where there is none."""
        series = self._running(device, version)
        return inf if series is None else series.kept_since

    def _running(self, device: str, version: str | None) -> Series | None:
        series = self._series.get(device)
        return series if series is not None and version in (None, series.version) else None

    def _is_fresh(self, series: Series, seconds: float | None, now: float) -> bool:
        stale_after = self._stale_after_seconds
        if stale_after is None:
            stale_after = max(_STALE_INTERVALS * series.interval_seconds(), _STALE_SECONDS_MIN)
        return series.is_fresh(now, stale_after if seconds is None else min(stale_after, seconds))

    def sums(self, device: str, seconds: float | None, now: float) -> Sums:
        """Return what the device counted of the version it runs; zeros also where that is not known."""
        series = self._series.get(device)
        return Sums() if series is None else series.sums_after(-inf if seconds is None else now - seconds)

    def endpoint_down_seconds(self, device: str, now: float) -> float:
        """Return how long the health endpoint has been seen down; 0 when it is up, and when the device is silent.

        It is what samples show, up to the last good one: silence proves no outage.
        """
        series = self._series.get(device)
        return series.down_seconds if series is not None and self._is_fresh(series, None, now) else 0.0

    def last_seen(self, device: str) -> float | None:
        """Return when the device's last sample came that was neither late nor a duplicate."""
        series = self._series.get(device)
        return None if series is None else series.last_seen

    def version_of(self, device: str) -> str | None:
        """Return the version that the device named last; None when it is not known."""
        series = self._series.get(device)
        return None if series is None else series.version

    def group_of(self, device: str) -> str | None:
        """Return the group of the device's last sample; None for a device without samples."""
        return self._group_of.get(device)

    def forget(self, device: str) -> None:
        """Drop what is known of a device; what it gave to its group's history stays until it is too old."""
        if self._series.pop(device, None) is not None:
            del self._group_of[device]
            # Reused, so that the history's masks stay short; two devices with one number are counted as one.
            self._free_numbers.append(self._numbers.pop(device))

    def baseline(
        self, group: str, *, now: float, seconds: float, excluding_version: str, min_samples: int
    ) -> Baseline | None:
        """Return what is normal for a group, from the samples of versions other than ``excluding_version``.

        The window's start is rounded to whole intervals (1/288 of the history). Samples without a version never count,
        because they might be of the excluded one.

        Returns:
            None when there are fewer than ``min_samples`` requests or fewer than ``min_samples`` samples.
        """
        history = self._histories.get(group)
        if history is None:
            return None
        return history.baseline(
            group, now=now, seconds=seconds, excluding_version=excluding_version, min_samples=min_samples
        )


def _latencies(all_series: Iterable[Series], moment: float) -> Iterable[Sketch]:
    return (sketch for series in all_series for sketch in series.latencies_after(moment))
