"""What an application says about itself in Prometheus's text format, and what becomes of it in a health sample.

Source:
    Prometheus documentation, "Exposition formats", text-based format; DDSketch for the buckets.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.messages import LatencySketch

GAMMA: Final = 1.1
LINES_MAX: Final = 5_000
_SELECTOR: Final = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?")
_CONDITION: Final = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*"?([^",{}]*)"?\s*')
_LABEL: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_LINE: Final = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_BOUND: Final = re.compile(r'(?:^|,)\s*le="([^"]*)"')
SKETCH_LENGTH_MAX: Final = 1024
_BOUND_SECONDS_MIN: Final = 1e-6
_BOUND_SECONDS_MAX: Final = 1e9
_COUNT_MAX: Final = 2**32 - 1
_TOTAL_MAX: Final = 2**53 - 1
"""What the wire has room for; an application that says more is wrong, and must not silence its device."""
_OVERFLOW_FACTOR: Final = 2.0
"""What is slower than the last bucket counts as so much slower: the format does not say."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series of a metric are meant: its name, and what must hold of its labels.

    Attributes:
        name: Of the metric.
        conditions: Label, one of ``=``, ``!=``, ``=~``, ``!~``, and a value, or an expression for all of it.
    """

    name: str
    conditions: tuple[tuple[str, str, str], ...] = ()

    def matches(self, name: str, labels: str) -> bool:
        """Say whether a series is meant; a label that is missing is empty, as in Prometheus."""
        if name != self.name:
            return False
        found = dict(_LABEL.findall(labels)) if self.conditions else {}
        return all(_holds(found.get(label, ""), sign, value) for label, sign, value in self.conditions)


def parse_selector(text: str) -> Selector:
    """Read ``name`` or ``name{label="value", other=~"5.."}``.

    Raises:
        ValueError: It is neither; the operator's fault.
    """
    match = _SELECTOR.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no metric; write name or name{{label=~\"5..\"}}")
    conditions = []
    for part in (match[2] or "").split(",") if match[2] else []:
        condition = _CONDITION.fullmatch(part)
        if condition is None:
            raise ValueError(f'\'{part.strip()}\' is no condition; write label="value" or label=~"5.."')
        try:
            re.compile(condition[3])
        except re.error as error:
            raise ValueError(f"'{condition[3]}' is no regular expression: {error}") from error
        conditions.append((condition[1], condition[2], condition[3]))
    return Selector(match[1], tuple(conditions))


@dataclass(frozen=True, slots=True)
class Names:
    """Which metrics of the application are ours.

    Attributes:
        requests: A counter.
        errors: A counter of those that failed.
        latency: A histogram in seconds, without ``_bucket``.
    """

    requests: Selector = Selector("app_requests_total")
    errors: Selector = Selector("app_errors_total")
    latency: Selector = Selector("app_request_duration_seconds")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counters since the application's start.

    Attributes:
        requests: Requests served; None if it does not say.
        errors: Requests that failed.
        buckets: Upper bound in seconds to the requests at most that slow.
    """

    requests: int | None
    errors: int | None
    buckets: Mapping[float, int]


def parse_metrics(text: str, names: Names | None = None) -> Metrics:
    """Read the counters we know; every other line, and every line that makes no sense, is skipped."""
    names = names or Names()
    histogram = Selector(f"{names.latency.name}_bucket", names.latency.conditions)
    sums: dict[str, int] = {}
    buckets: dict[float, int] = {}
    for line in text.splitlines()[:LINES_MAX]:
        match = _LINE.match(line)
        if match is None:
            continue
        name, labels, written = match[1], match[2] or "", match[3]
        value = _number(written)
        if value is None or not 0 <= value < 2**53:
            continue
        for key, selector in (("requests", names.requests), ("errors", names.errors)):
            if selector.matches(name, labels):
                sums[key] = sums.get(key, 0) + int(value)
        if histogram.matches(name, labels) and (bound := _BOUND.search(labels)) is not None:
            upper = _number(bound[1], infinity=True)
            if upper is not None and upper > 0:
                buckets[upper] = buckets.get(upper, 0) + int(value)
    return Metrics(sums.get("requests"), sums.get("errors"), buckets)


@dataclass(slots=True)
class Counters:
    """Counters that never fall while the agent runs, whatever the application does.

    ``update`` folds in what the application says; a counter that falls has been started again and counts from zero.
    Nothing is counted twice: not in two lives of the agent, and not when an application is read again after another.
    """

    requests_total: int = 0
    errors_total: int = 0
    _last: Metrics | None = None
    _joins: bool = False

    def update(self, metrics: Metrics) -> LatencySketch | None:
        """Add what is new and return the latencies of the requests since the last call."""
        before = metrics if self._joins else self._last or Metrics(0, 0, {})
        self._last, self._joins = metrics, False
        restarted = (metrics.requests or 0) < (before.requests or 0)
        if restarted:
            before = Metrics(0, 0, {})
        self.requests_total = _added(self.requests_total, (metrics.requests or 0) - (before.requests or 0))
        self.errors_total = _added(self.errors_total, (metrics.errors or 0) - (before.errors or 0))
        return sketch_of(metrics.buckets, before.buckets)

    def forget(self) -> None:
        """Another process answers from now on; its counters begin at zero."""
        self._last, self._joins = None, False

    def join(self) -> None:
        """A process answers from now on that was counted before; its next reading is where counting begins."""
        self._last, self._joins = None, True


def sketch_of(now: Mapping[float, int], before: Mapping[float, int]) -> LatencySketch | None:
    """Return the latencies between two readings of a histogram; None if there were none."""
    finite = [bound for bound in now if math.isfinite(bound)]
    counts: dict[int, int] = {}
    below = 0
    for bound in sorted(now):
        added = max(0, now[bound] - before.get(bound, 0))
        count, below = max(0, added - below), max(added, below)
        if count:
            seconds = bound if math.isfinite(bound) else _OVERFLOW_FACTOR * max(finite, default=1.0)
            seconds = min(max(seconds, _BOUND_SECONDS_MIN), _BOUND_SECONDS_MAX)
            index = math.ceil(math.log(seconds, GAMMA) - 1e-9)
            counts[index] = min(counts.get(index, 0) + count, _COUNT_MAX)
    if not counts:
        return None
    offset = min(counts)
    dense = tuple(counts.get(index, 0) for index in range(offset, max(counts) + 1))
    return LatencySketch(gamma=GAMMA, offset=offset, counts=dense)


def _added(total: int, more: int) -> int:
    return min(total + max(0, more), _TOTAL_MAX)


def _holds(found: str, sign: str, value: str) -> bool:
    is_equal = re.fullmatch(value, found) is not None if "~" in sign else found == value
    return is_equal != sign.startswith("!")


def _number(text: str, *, infinity: bool = False) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if math.isnan(value) or (math.isinf(value) and not infinity):
        return None
    return value
