"""What checks and triggers share: what is observed of a group, what it is compared with, and how it is said."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.monitor import Monitor, Window
from schemas.conditions import RATES, Condition, Metric, Operator, exceeds_percent
from schemas.times import format_duration

_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a judgement may look at.

    Attributes:
        deployed: Each device that is judged, with its group.
        version: What they should run; what they did on another version is no evidence.
    """

    deployed: Mapping[str, str]
    baselines: Mapping[str, Baseline]
    monitor: Monitor
    version: str
    now: float

    def window(self, devices: Collection[str], seconds: float | None) -> Window:
        """Return what ``devices`` did on the version over the last ``seconds``."""
        return self.monitor.window(devices, version=self.version, seconds=seconds, now=self.now)

    def running(self) -> list[str]:
        """Return the devices whose last sample is of the version, sorted."""
        return sorted(device for device in self.deployed if self.monitor.version_of(device) == self.version)

    def restarts(self, seconds: float | None) -> dict[str, int]:
        """Return how often each device that runs the version has restarted, where it has."""
        counts = {device: self.monitor.restarts(device, seconds, self.now) for device in self.running()}
        return {device: count for device, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric of a group is taken from its window and its baseline.

    Attributes:
        samples: How many single observations stand behind it.
        missing: Fresh devices that have nothing to say about it though they should.
        said: How it is said, of ``value`` and ``samples``.
    """

    observed: Callable[[Window], float | None]
    samples: Callable[[Window], int]
    missing: Callable[[Window], tuple[str, ...]]
    normal: Callable[[Baseline], float | None]
    said: str


MEASURES: Final[Mapping[Metric, Measure]] = {
    Metric.ERROR_RATE: Measure(
        observed=lambda window: window.error_rate,
        samples=lambda window: window.request_count,
        missing=lambda window: window.without_traffic,
        normal=lambda baseline: baseline.error_rate,
        said="{value} of {samples} requests",
    ),
    Metric.LATENCY_P95: Measure(
        observed=lambda window: window.latency.quantile(0.95),
        samples=lambda window: window.latency.count,
        missing=lambda _window: (),  # an idle device has no latencies, and that is no fault
        normal=lambda baseline: baseline.latency_p95_seconds,
        said="p95 {value} over {samples} latencies",
    ),
}
"""The metrics that are judged group by group, each against its own group's baseline."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of one group over a window."""

    group: str
    devices: tuple[str, ...]
    silent: tuple[str, ...]
    missing: tuple[str, ...]
    observed: float | None
    baseline: float | None
    limit: float | None
    samples: int
    said: str


def read_groups(metric: Metric, condition: Condition, evidence: Evidence, seconds: float | None) -> Iterator[Reading]:
    """Read a metric for each group of the judged devices, in the order of their names."""
    measure = MEASURES[metric]
    for group in sorted(set(evidence.deployed.values())):
        devices = tuple(sorted(device for device, its in evidence.deployed.items() if its == group))
        window = evidence.window(devices, seconds)
        frozen = evidence.baselines.get(group)
        baseline = None if frozen is None else measure.normal(frozen)
        limit = condition.limit_value(baseline)
        observed, samples = measure.observed(window), measure.samples(window)
        said = measure.said.format(value=format_value(metric, observed), samples=samples)
        yield Reading(
            group=group,
            devices=devices,
            silent=window.silent,
            missing=measure.missing(window),
            observed=observed,
            baseline=baseline,
            limit=limit,
            samples=samples,
            said=f"{said} in group {group}",
        )


def share_holds(operator: Operator, part: int, whole: int, limit: float) -> bool:
    """Say whether ``part / whole operator limit`` (0..1), in exact integers, to a thousandth of a percent.

    Raises:
        ValueError: ``whole`` is not positive; the caller's fault.
    """
    percent = limit * 100
    match operator:
        case ">":
            return exceeds_percent(part, whole, percent)
        case "<=":
            return not exceeds_percent(part, whole, percent)
        case "<":
            return exceeds_percent(whole - part, whole, 100 - percent)
        case ">=":
            return not exceeds_percent(whole - part, whole, 100 - percent)


def format_value(metric: Metric, value: float | None) -> str:
    """Write a metric's value for people."""
    if value is None:
        return "nothing"
    if metric in RATES:
        return f"{value * 100:.2f}%"
    match metric:
        case Metric.LATENCY_P95:
            return f"{value * 1000:.3g} ms" if value < 1 else format_duration(value)
        case Metric.ENDPOINT_DOWN:
            return format_duration(value)
        case _:
            return f"{value:g}"


def limit_text(condition: Condition, limit: float | None, baseline: float | None) -> str:
    """Write a limit for people, with the baseline it comes from."""
    if limit is None:
        return "no baseline to compare with"
    text = f"limit {format_value(condition.metric, limit)}"
    if not condition.needs_baseline:
        return text
    added = str(condition).partition(" baseline")[2]
    return f"{text} (baseline {format_value(condition.metric, baseline)}{added})"


def name_some(devices: Collection[str]) -> str:
    """Name devices for people: the first five and how many more."""
    first = ", ".join(sorted(devices)[:_NAMED_MAX])
    return f"{first} and {len(devices) - _NAMED_MAX} more" if len(devices) > _NAMED_MAX else first
