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
* Requests and errors count only together; requests whose errors nobody counted would dilute the rate. Where counters
  are missing, the next ones are compared with the last known in this boot.
* A counter that falls inside one boot makes a bad sample: it is counted, its restarts are counted if they rose, nothing
  else of it is believed, and its counters are what the next sample is compared with.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice, pairwise
from math import inf
from operator import itemgetter
from statistics import median
from typing import Final, NamedTuple

from orchestrator.telemetry.sketch import Sketch
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

    def plus(self, other: "Sums") -> "Sums":
        """Add up, field by field."""
        return Sums(
            self.requests + other.requests,
            self.errors + other.errors,
            self.crashes + other.crashes,
            self.good + other.good,
            self.bad + other.bad,
        )

    def minus(self, other: "Sums") -> "Sums":
        """Take away, field by field."""
        return Sums(
            self.requests - other.requests,
            self.errors - other.errors,
            self.crashes - other.crashes,
            self.good - other.good,
            self.bad - other.bad,
        )


class Step(NamedTuple):
    """What one sample brought: nothing when it was late or a duplicate."""

    outcome: SampleOutcome
    difference: Sums = Sums()
    latency: Sketch | None = None


class _Counters(NamedTuple):
    """Requests with errors, and restarts, as last known in this boot; None: not known."""

    traffic: tuple[int, int] | None = None
    restarts: int | None = None


class Series:
    """The samples of one device, of the version it runs.

    Attributes:
        version: The version of the last sample that named one; None: not known.
        last_seen: When the last sample came that was neither late nor a duplicate.
        reports_traffic: Whether the last good sample counts requests and errors.
        reports_restarts: Whether it counts restarts.
    """

    __slots__ = (
        "_base", "_boots", "_counters", "_down_since", "_good_at", "_healthy", "_latencies", "_seq", "_sums", "_times",
        "last_seen", "reports_restarts", "reports_traffic", "version",
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
        self.reports_restarts = False
        self._healthy: bool | None = None
        self._down_since: float | None = None
        self._good_at = -inf
        self._base = Sums()
        self._times: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._sums: deque[Sums] = deque(maxlen=SAMPLES_MAX)
        self._latencies: deque[tuple[float, Sketch]] = deque(maxlen=SAMPLES_MAX)

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
            self._counters = _Counters((0, 0), 0)
        is_attributed = sample.version == self.version
        before, now = self._counters, _counters(sample, with_traffic=is_attributed)
        self._counters = _Counters(
            before.traffic if now.traffic is None else now.traffic,
            before.restarts if now.restarts is None else now.restarts,
        )
        if is_first:
            return Step(SampleOutcome.RESET, Sums(good=1))
        requests = errors = restarts = 0
        if before.traffic is not None and now.traffic is not None:
            requests, errors = now.traffic[0] - before.traffic[0], now.traffic[1] - before.traffic[1]
        if before.restarts is not None and now.restarts is not None:
            restarts = now.restarts - before.restarts
        crashes = max(restarts, 0) + is_new_boot
        if min(requests, errors, restarts) < 0:
            return Step(SampleOutcome.BAD, Sums(crashes=crashes, bad=1))
        is_believed = is_attributed or sample.healthy is False or sample.endpoint_up is False
        latency = Sketch.from_wire(sample.latency) if is_attributed and sample.latency is not None else None
        return Step(SampleOutcome.ACCEPTED, Sums(requests, errors, crashes, good=int(is_believed)), latency)

    def _record(self, step: Step, at: float) -> None:
        if len(self._sums) == SAMPLES_MAX:
            self._base = self._sums[0]
        total = self._sums[-1] if self._sums else self._base
        self._times.append(at)
        self._sums.append(total.plus(step.difference))
        if step.latency is not None:
            self._latencies.append((at, step.latency))

    def _believe(self, sample: HealthSample, at: float) -> None:
        """Take over what the sample says of the device as it is."""
        self._good_at = at
        self._healthy = sample.healthy
        self.reports_traffic = sample.requests_total is not None and sample.errors_total is not None
        self.reports_restarts = sample.restarts_total is not None
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


def _counters(sample: HealthSample, *, with_traffic: bool) -> _Counters:
    requests, errors = sample.requests_total, sample.errors_total
    if not with_traffic or requests is None or errors is None:
        return _Counters(None, sample.restarts_total)
    return _Counters((requests, errors), sample.restarts_total)
