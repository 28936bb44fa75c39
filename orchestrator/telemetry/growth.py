"""Trends of single devices: how fast a level of one device rises, and whether that is more than chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.telemetry.evidence import Evidence
from orchestrator.telemetry.levels import Signal
from orchestrator.telemetry.trends import Slope
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
        is_certain: Whether it rises beyond chance.
    """

    device: str
    amount: float
    is_certain: bool
    slope: Slope


def read_slopes(metric: Metric, evidence: Evidence, seconds: float) -> tuple[dict[str, Slope], tuple[str, ...]]:
    """Return the lines of the devices that run the version, and the devices of which no line can tell anything."""
    running = evidence.running()
    found = {
        device: evidence.monitor.slope(device, SIGNALS[metric], version=evidence.version, seconds=seconds)
        for device in running
    }
    told = {device: it for device, it in found.items() if it is not None and it.can_tell(len(running))}
    return told, tuple(device for device in running if device not in told)


def read_growths(condition: Condition, evidence: Evidence, seconds: float) -> tuple[list[Growth], tuple[str, ...]]:
    """Return the growth of each device's level, and the devices of which nothing can be told.

    Raises:
        TypeError: The condition is about no growth; the caller's fault.
    """
    if not isinstance(condition.limit, GrowthPer):
        raise TypeError(f"no growth: {condition}")
    slopes, untold = read_slopes(condition.metric, evidence, seconds)
    per_seconds = condition.limit.per_seconds
    growths = [
        Growth(
            device,
            slope.per_second * per_seconds / max(abs(slope.first), 1.0),
            slope.rises(len(slopes) + len(untold)),
            slope,
        )
        for device, slope in slopes.items()
    ]
    return growths, untold
