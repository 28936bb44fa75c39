"""One device's samples: counters since boot turned into sums over any window, in bounded memory.

Rules of the fold, in the order in which they apply:

* A sample of an earlier boot, or with a lower ``seq`` in this boot, is late; the same ``seq`` is a duplicate. Neither
  changes anything.
* Another ``version`` starts all anew. Its first sample says how the device is, but brings no differences: its counters
  and its latencies may hold what the version before did.
* A sample without a version, after one with, is of an application that may be down, or of another one. Only its bad
  news is believed: restarts, ill health, an endpoint that is down. Nothing good, no traffic, no latencies.
* Inside one boot, the differences to the sample before are counted when the sample arrives.
* The first sample of a new boot of the same version is compared with zero: counters are since boot, and that boot began
  after the last sample we know. The boot itself is one restart, because a device that goes down with its software has
  crashed as well. The very first sample of a device brings no differences: its boot may be days old.
* What a device measures at a moment (memory, processors, free disk, temperature, quality) is kept of good samples that
  name the version. Processor use, quality and latencies are of the interval before: a version's first sample has none.
* Requests and errors count only together; requests whose errors nobody counted would dilute the rate. Where counters
  are missing, the next ones are compared with the last known in this boot.
* A counter that falls inside one boot makes a bad sample: it is counted, its restarts are counted if they rose, nothing
  else of it is believed, and its counters are what the next sample is compared with.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import islice, pairwise
from math import inf
from operator import add, itemgetter, sub
from statistics import median
from typing import Final, NamedTuple

from orchestrator.telemetry.levels import Levels, Signal
from orchestrator.telemetry.sketch import Sketch
from orchestrator.telemetry.trends import Slope, fit
from schemas.messages import HealthSample

SAMPLES_MAX: Final = 256
"""Samples kept of one device. A window that reaches further back holds the last 256."""

INTERVAL_SECONDS: Final = 30.0
"""What is taken for the time between two samples while fewer than two have been seen: the wire's default."""

_BOOTS_MAX: Final = 8
_GAPS: Final = 8


class SampleOutcome(StrEnum):
    """What became of a sample."""

    ACCEPTED = "accepted"
    RESET = "reset"
    """The first of the device or of a version: nothing to compare it with."""
    DUPLICATE = "duplicate"
    LATE = "late"
    BAD = "bad"


class Sums(NamedTuple):
    """Sums since the version was first seen, or the difference of two such sums."""

    requests: int = 0
    errors: int = 0
    crashes: int = 0
    good: int = 0
    bad: int = 0
    log_errors: int = 0
    throttles: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Add up, field by field."""
        return Sums(*map(add, self, other))

    def minus(self, other: "Sums") -> "Sums":
        """Take away, field by field."""
        return Sums(*map(sub, self, other))


class Step(NamedTuple):
    """What one sample brought: nothing when it was late or a duplicate."""

    outcome: SampleOutcome
    difference: Sums = Sums()
    latency: Sketch | None = None
    levels: Levels | None = None


class _Counters(NamedTuple):
    """Counters as last known in this boot, requests and errors together; None: not known."""

    traffic: tuple[int, int] | None = None
    restarts: int | None = None
    log_errors: int | None = None
    throttles: int | None = None

    def or_else(self, other: "_Counters") -> "_Counters":
        """Return these, and the other's where one is not known."""
        return _Counters(
            other.traffic if self.traffic is None else self.traffic,
            other.restarts if self.restarts is None else self.restarts,
            other.log_errors if self.log_errors is None else self.log_errors,
            other.throttles if self.throttles is None else self.throttles,
        )


class Series:
    """The samples of one device, of the version it runs.

    Attributes:
        version: The version of the last sample that named one; None: not known.
        last_seen: When the last sample came that was neither late nor a duplicate.
        reports_traffic: Whether the last good sample counts requests and errors.
        reports_restarts: Whether it counts restarts; ``reports_log_errors`` and ``reports_throttles`` likewise.
    """

    __slots__ = (
        "_base", "_boots", "_counters", "_down_since", "_good_at", "_healthy", "_latencies", "_levels", "_seq",
        "_slopes", "_sums", "_times", "last_seen", "reports_log_errors", "reports_restarts", "reports_throttles",
        "reports_traffic", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self._boots: deque[str] = deque(maxlen=_BOOTS_MAX)
        self._seq = -1
        self.last_seen = -inf
        self._start(None)

    def _start(self, version: str | None) -> None:
        """Forget what another version did."""
        self.version = version
        self._counters = _Counters()
        self.reports_traffic = False
        self.reports_restarts = self.reports_log_errors = self.reports_throttles = False
        self._healthy: bool | None = None
        self._down_since: float | None = None
        self._good_at = -inf
        self._base = Sums()
        self._times: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._sums: deque[Sums] = deque(maxlen=SAMPLES_MAX)
        self._latencies: deque[tuple[float, Sketch]] = deque(maxlen=SAMPLES_MAX)
        self._levels: deque[tuple[float, Levels]] = deque(maxlen=SAMPLES_MAX)
        self._slopes: dict[tuple[Signal, float], Slope | None] = {}

    def observe(self, sample: HealthSample, at: float) -> Step:
        """Fold one sample in."""
        is_new_boot = not self._boots or sample.boot_id != self._boots[-1]
        if is_new_boot:
            if sample.boot_id in self._boots:
                return Step(SampleOutcome.LATE)
            self._boots.append(sample.boot_id)
        elif sample.seq <= self._seq:
            return Step(SampleOutcome.DUPLICATE if sample.seq == self._seq else SampleOutcome.LATE)
        self._seq = sample.seq
        self.last_seen = at
        if sample.version not in (None, self.version):
            self._start(sample.version)
        step = self._compare(sample, is_new_boot=is_new_boot)
        self._record(step, at)
        if step.difference.good:
            self._believe(sample, at)
        return step

    def _compare(self, sample: HealthSample, *, is_new_boot: bool) -> Step:
        """Take the differences to the sample before and make this one's counters the next ones' start."""
        is_first = not self._times
        if is_new_boot and not is_first:
            self._counters = _Counters((0, 0), 0, 0, 0)
        is_attributed = sample.version == self.version
        before, now = self._counters, _counters(sample, with_traffic=is_attributed)
        self._counters = now.or_else(before)
        if is_first:
            levels = Levels.of(sample, of_the_moment_only=True) if is_attributed else None
            return Step(SampleOutcome.RESET, Sums(good=1), levels=levels)
        requests = errors = 0
        if before.traffic is not None and now.traffic is not None:
            requests, errors = now.traffic[0] - before.traffic[0], now.traffic[1] - before.traffic[1]
        restarts = _rise(before.restarts, now.restarts)
        log_errors = _rise(before.log_errors, now.log_errors)
        throttles = _rise(before.throttles, now.throttles)
        crashes = max(restarts, 0) + is_new_boot
        if min(requests, errors, restarts, log_errors, throttles) < 0:
            return Step(SampleOutcome.BAD, Sums(crashes=crashes, bad=1))
        is_believed = is_attributed or sample.healthy is False or sample.endpoint_up is False
        difference = Sums(requests, errors, crashes, int(is_believed), 0, log_errors, throttles)
        if not is_attributed:
            return Step(SampleOutcome.ACCEPTED, difference)
        latency = Sketch.from_wire(sample.latency) if sample.latency is not None else None
        return Step(SampleOutcome.ACCEPTED, difference, latency, Levels.of(sample))

    def _record(self, step: Step, at: float) -> None:
        if len(self._sums) == SAMPLES_MAX:
            self._base = self._sums[0]
        total = self._sums[-1] if self._sums else self._base
        self._times.append(at)
        self._sums.append(total.plus(step.difference))
        if step.latency is not None:
            self._latencies.append((at, step.latency))
        if step.levels is not None:
            self._levels.append((at, step.levels))
            self._slopes.clear()

    def _believe(self, sample: HealthSample, at: float) -> None:
        """Take over what the sample says of the device as it is."""
        self._good_at = at
        self._healthy = sample.healthy
        self.reports_traffic = sample.requests_total is not None and sample.errors_total is not None
        self.reports_restarts = sample.restarts_total is not None
        self.reports_log_errors = sample.log_errors_total is not None
        self.reports_throttles = sample.throttle_events_total is not None
        if sample.endpoint_up is False:
            self._down_since = at if self._down_since is None else self._down_since
        elif sample.endpoint_up:
            # Only an answer ends an outage; a sample that does not mention the endpoint is no answer.
            self._down_since = None

    @property
    def is_healthy(self) -> bool | None:
        """What the last good sample says; False while the endpoint is down, None if it does not say."""
        return False if self._down_since is not None else self._healthy

    @property
    def down_seconds(self) -> float:
        """How long the endpoint has been seen down, from the first such sample to the last good one; 0 when up."""
        return 0.0 if self._down_since is None else self._good_at - self._down_since

    def is_fresh(self, now: float, stale_after_seconds: float) -> bool:
        """Say whether a good sample came within ``stale_after_seconds``."""
        return now - self._good_at <= stale_after_seconds

    def interval_seconds(self) -> float:
        """Return the usual time between two samples: the median of the last eight."""
        recent = islice(reversed(self._times), _GAPS + 1)
        gaps = [later - earlier for later, earlier in pairwise(recent)]
        return median(gaps) if gaps else INTERVAL_SECONDS

    def sums_after(self, moment: float) -> Sums:
        """Sum up the samples that came later than ``moment``."""
        first = bisect_right(self._times, moment)
        if first == len(self._times):
            return Sums()
        return self._sums[-1].minus(self._sums[first - 1] if first else self._base)

    def latencies_after(self, moment: float) -> Iterator[Sketch]:
        """Yield the latencies of the samples that came later than ``moment``."""
        first = bisect_right(self._latencies, moment, key=itemgetter(0))
        return (sketch for _, sketch in islice(self._latencies, first, None))

    def levels_after(self, moment: float) -> Iterator[tuple[float, Levels]]:
        """Yield what was measured later than ``moment``, with its times."""
        first = bisect_right(self._levels, moment, key=itemgetter(0))
        return islice(self._levels, first, None)

    def traffic_between(self, moments: Sequence[float]) -> list[tuple[int, int]]:
        """Return (requests, errors) of the samples between each moment, excluded, and the next, included."""
        totals = []
        for moment in moments:
            first = bisect_right(self._times, moment)
            totals.append(self._sums[first - 1] if first else self._base)
        return [(b.requests - a.requests, b.errors - a.errors) for a, b in pairwise(totals)]

    def slope(self, signal: Signal, seconds: float) -> Slope | None:
        """Return the line through a signal over the ``seconds`` before the last sample; None of too few points."""
        key = (signal, seconds)
        if key not in self._slopes:
            start = self._levels[-1][0] - seconds if self._levels else inf
            points = [(at, value) for at, all_ in self.levels_after(start) if (value := all_.value(signal)) is not None]
            self._slopes[key] = fit(points)
        return self._slopes[key]

    def signals(self) -> frozenset[str]:
        """Name what the device shows of its version, in the words of its ``info``."""
        shown = {
            "error_rate": self.reports_traffic,
            "log_errors": self.reports_log_errors,
            "throttle_events": self.reports_throttles,
            "latency": bool(self._latencies),
        }
        measured = self._levels[-1][1].signals() if self._levels else ()
        return frozenset((*(name for name, is_shown in shown.items() if is_shown), *measured))

    @property
    def kept_since(self) -> float:
        """When the oldest sample that is kept came; infinite where there is none."""
        return self._times[0] if self._times else inf


def _rise(before: int | None, now: int | None) -> int:
    return 0 if before is None or now is None else now - before


def _counters(sample: HealthSample, *, with_traffic: bool) -> _Counters:
    requests, errors = sample.requests_total, sample.errors_total
    traffic = (requests, errors) if with_traffic and requests is not None and errors is not None else None
    return _Counters(traffic, sample.restarts_total, sample.log_errors_total, sample.throttle_events_total)
