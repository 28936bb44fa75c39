"""What is observed of a device group, and the same group's baseline that it is compared with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.evidence import Evidence
from orchestrator.telemetry.values import format_value
from orchestrator.telemetry.window import Window
from schemas.conditions import Condition, Metric


@dataclass(frozen=True)
class Group:
    """The judged devices of one group over a window; ``baseline`` is None where none was frozen."""

    name: str
    devices: Devices
    evidence: Evidence
    seconds: float | None
    baseline: Baseline | None

    @cached_property
    def window(self) -> Window:
        """What the devices counted on the version."""
        return self.evidence.group_window(self.name, self.seconds)

    def normal(self, take: Callable[[Baseline], float | None]) -> float | None:
        """Return what the baseline has, if there is one."""
        return None if self.baseline is None else take(self.baseline)


@dataclass(frozen=True, slots=True)
class Observation:
    """One value that a group shows of a metric; of quality there is one for each of its names.

    Attributes:
        samples: How many single observations stand behind it.
        normal: The same in the group's baseline; None where there is none.
        missing: Fresh devices that have nothing to say about it though they should, with ``lack``.
        said: How it is said.
    """

    value: float | None
    samples: int
    normal: float | None
    said: str
    missing: Sequence[str] = ()
    lack: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric is read of a group; ``is_normal`` says whether a baseline has something to compare it with."""

    observe: Callable[[Group], Iterator[Observation]]
    is_normal: Callable[[Baseline], bool]


def _error_rate(group: Group) -> Iterator[Observation]:
    window = group.window
    yield Observation(
        window.error_rate,
        window.request_count,
        group.normal(lambda baseline: baseline.error_rate),
        f"{format_value(Metric.ERROR_RATE, window.error_rate)} of {window.request_count} requests",
        window.without_traffic,
        "count requests and errors",
    )


_QUANTILES: Final = (0.50, 0.95, 0.99)  # as ``percentiles`` are ordered


def _latency(metric: Metric, place: int) -> Measure:
    """Read the quantile of all latencies, or what devices without a sketch say of their own if that is worse.

    An idle device has no latencies, and that is no fault.
    """

    def observe(group: Group) -> Iterator[Observation]:
        name, together = metric.removeprefix("latency_"), group.window.together
        value, samples = together.latency.quantile(_QUANTILES[place]), together.latency.count
        said = f"{name} {format_value(metric, value)} over {samples} latencies"
        told = together.percentiles[place].quantile(0.5)
        if told is not None and (value is None or told > value):
            value, samples = told, together.percentiles[place].count
            said = f"{name} about {format_value(metric, value)}, the median of {samples} that devices report"
        yield Observation(value, samples, group.normal(lambda baseline: baseline.percentiles[place]), said)

    return Measure(observe, lambda baseline: baseline.percentiles[place] is not None)


def _cpu(group: Group) -> Iterator[Observation]:
    total, samples = group.window.together.means.get("", (0.0, 0))
    value = total / samples if samples else None
    yield Observation(
        value,
        samples,
        group.normal(lambda baseline: baseline.cpu_ratio),
        f"{format_value(Metric.CPU, value)} of a processor over {samples} samples",
        group.window.without_cpu,
        "measure processor use",
    )


def _quality(group: Group) -> Iterator[Observation]:
    """Yield each of the application's own measures, the baseline's as well as those that are new."""
    normal = dict(group.baseline.quality) if group.baseline else {}
    window = group.window
    means = {name: mean for name, mean in window.together.means.items() if name}
    if not means and not normal:
        yield Observation(None, 0, None, "no quality measured")
    for name in sorted({*normal, *means}):
        total, samples = means.get(name, (0.0, 0))
        mean = total / samples if samples else None
        said = f"{name} {format_value(Metric.QUALITY, mean)} over {samples} samples"
        missing = window.without_quality.get(name, window.fresh)
        yield Observation(mean, samples, normal.get(name), said, missing, f"measure {name}")


MEASURES: Final[Mapping[Metric, Measure]] = {
    Metric.ERROR_RATE: Measure(_error_rate, lambda _baseline: True),
    Metric.LATENCY_P50: _latency(Metric.LATENCY_P50, 0),
    Metric.LATENCY_P95: _latency(Metric.LATENCY_P95, 1),
    Metric.LATENCY_P99: _latency(Metric.LATENCY_P99, 2),
    Metric.CPU: Measure(_cpu, lambda baseline: baseline.cpu_ratio is not None),
    Metric.QUALITY: Measure(_quality, lambda baseline: bool(baseline.quality)),
}
"""The metrics that are judged group by group, each against its own group's baseline."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One observation of one group beside its limit."""

    group: str
    devices: Devices
    window: Window
    observation: Observation
    limit: float | None

    @property
    def said(self) -> str:
        """How it is said."""
        return f"{self.observation.said} in group {self.group}"


def read_groups(metric: Metric, condition: Condition, evidence: Evidence, seconds: float | None) -> Iterator[Reading]:
    """Read a metric for each group of the judged devices, in the order of their names.

    A quality that the version before did not have is left out where the limit is taken from a baseline that has others:
    there is nothing to compare it with.
    """
    for name, devices in evidence.groups().items():
        group = Group(name, devices, evidence, seconds, evidence.baselines.get(name))
        observations = list(MEASURES[metric].observe(group))
        if condition.needs_baseline and any(each.normal is not None for each in observations):
            observations = [each for each in observations if each.normal is not None]
        for each in observations:
            limit = condition.limit_value(each.normal)
            yield Reading(name, group.devices, group.window, each, limit)
