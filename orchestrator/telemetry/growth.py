"""Trends of single devices: how fast a level of one device rises, and whether that is more than chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from orchestrator.telemetry.devices import Names
from orchestrator.telemetry.evidence import Evidence
from orchestrator.telemetry.readings import Signal
from orchestrator.telemetry.trends import Slopes
from schemas.conditions import Condition, GrowthPer, Metric

SIGNALS: Final[Mapping[Metric, Signal]] = {
    Metric.MEMORY_GROWTH: Signal.MEMORY,
    Metric.DISK_GROWTH: Signal.DISK,
    Metric.TEMPERATURE: Signal.TEMPERATURE,
}
"""What each trend is the trend of."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How one device's level changes.

    Attributes:
        amount: Relative to the level at the window's start, for each of the condition's periods.
        points: Readings that the line goes through; ``samples`` stand behind them.
    """

    device: str
    amount: float
    points: int
    samples: int
    span_seconds: float


@dataclass(frozen=True, slots=True)
class Growths:
    """How the levels of devices change, the fastest growing first in each list.

    Attributes:
        broken: Devices whose level rises beyond chance and beyond the limit.
        fastest: The one that grows most, whether by chance or not; None where nothing can be told.
        told: How many devices something can be told of, with so many ``samples``.
        untold: Devices of which nothing can be told.
    """

    broken: tuple[Growth, ...]
    fastest: Growth | None
    told: int
    samples: int
    untold: Names


def read_slopes(metric: Metric, evidence: Evidence, seconds: float, *, reaching: float = inf) -> Slopes:
    """Return the lines of the devices that run the version; ``reaching`` as of ``fit``."""
    signal, it = SIGNALS[metric], evidence
    return it.monitor.slopes(it.deployed, signal, version=it.version, seconds=seconds, reaching=reaching, now=it.now)


def read_growths(condition: Condition, evidence: Evidence, seconds: float, *, must_hold: bool) -> Growths:
    """Return how each device's level grows, and those that grow too fast.

    Args:
        condition: About a growth.
        evidence: The devices.
        seconds: Over how long a trend is looked at.
        must_hold: Whether what does not hold the condition grows too fast, or what holds it.

    Raises:
        TypeError: The condition is about no growth; the caller's fault.
    """
    if not isinstance(condition.limit, GrowthPer):
        raise TypeError(f"no growth: {condition}")
    slopes, limit = read_slopes(condition.metric, evidence, seconds), condition.limit_value(None)
    told = slopes.can_tell()
    amounts = slopes.per_second * condition.limit.per_seconds / np.maximum(np.abs(slopes.first), 1.0)
    certain = np.flatnonzero(told & slopes.rises())
    shown = np.where(told & ~np.isnan(amounts), amounts, -np.inf)

    def growth(index: int) -> Growth:
        return Growth(
            slopes.devices[index],
            float(amounts[index]),
            int(slopes.points[index]),
            int(slopes.samples[index]),
            float(slopes.span_seconds[index]),
        )

    rising = sorted(map(growth, certain.tolist()), key=lambda it: -it.amount)
    return Growths(
        broken=tuple(it for it in rising if limit is not None and condition.holds(it.amount, limit) is not must_hold),
        fastest=growth(int(shown.argmax())) if (shown > -np.inf).any() else None,
        told=int(told.sum()),
        samples=int(slopes.samples[told].sum()),
        untold=slopes.devices.some(~told),
    )
