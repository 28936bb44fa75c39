"""A device group's normal operation, as it is frozen before a rollout's first order."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from statistics import median, pstdev
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Trend = Literal["stable", "increasing", "decreasing"]

_TREND_INTERVALS_MIN: Final = 8
_TREND_CHANGE_MIN: Final = 0.001
_TREND_DEVIATIONS: Final = 2.0

_Seconds = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=0)]


class Baseline(BaseModel):
    """What a group did over a window before the rollout; what the new version does is compared with it.

    Attributes:
        error_rate: Errors per request over the whole window, 0..1.
        error_rate_deviation: Standard deviation of the error rate over the window's intervals.
        error_rate_trend: Where the error rate was going; see ``trend``.
        latency_p50_seconds: None where no device of the group reports latencies; p95 and p99 likewise.
        latency_is_approximate: The latencies are medians of the percentiles that devices report, because none sends a
            sketch.
        cpu_ratio: Mean use of processors, 1.0 is one core; None where no device reports it.
        quality: Mean of each of the application's own measures, by name.
        sample_count: Samples that brought something to compare.
        device_count: Devices that were heard in the window and still run what they ran.

    Source:
        Reference, "Baseline Metrics Collection".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    group: str
    error_rate: Annotated[float, Field(ge=0, le=1)]
    error_rate_deviation: Annotated[float, Field(ge=0)]
    error_rate_trend: Trend
    latency_p50_seconds: _Seconds | None
    latency_p95_seconds: _Seconds | None
    latency_p99_seconds: _Seconds | None
    request_count: _Count
    sample_count: _Count
    device_count: _Count
    window_seconds: Annotated[float, Field(gt=0)]
    latency_is_approximate: bool = False
    cpu_ratio: Annotated[float, Field(ge=0)] | None = None
    quality: Mapping[str, float] = {}

    @property
    def percentiles(self) -> tuple[float | None, float | None, float | None]:
        """Latency p50, p95 and p99 in seconds."""
        return self.latency_p50_seconds, self.latency_p95_seconds, self.latency_p99_seconds


def digest(baselines: Mapping[str, Baseline]) -> str:
    """Return the SHA-256 (lower-case hex) that shows whether baselines, by group, are the frozen ones."""
    tree = {group: baseline.model_dump(mode="json") for group, baseline in baselines.items()}
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def deviation(rates: Sequence[float]) -> float:
    """Return the standard deviation of the intervals' rates; 0 of fewer than two."""
    return pstdev(rates) if rates else 0.0


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Say where rates are going, given as (seconds, rate), oldest first.

    The slope is the median of the slopes between all pairs, so that a few odd intervals do not turn it. Over the time
    the points span it must amount to more than two standard deviations and a tenth of a percentage point; with fewer
    than 8 points it is stable, because chance alone makes steeper lines.

    Source:
        Theil-Sen estimator (Sen, 1968).
    """
    if len(points) < _TREND_INTERVALS_MIN:
        return "stable"
    slopes = [
        (rate - earlier_rate) / (at - earlier)
        for index, (at, rate) in enumerate(points)
        for earlier, earlier_rate in points[:index]
    ]
    change = median(slopes) * (points[-1][0] - points[0][0])
    if abs(change) <= max(_TREND_CHANGE_MIN, _TREND_DEVIATIONS * deviation([rate for _, rate in points])):
        return "stable"
    return "increasing" if change > 0 else "decreasing"
