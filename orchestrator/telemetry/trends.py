"""Whether something rises: slopes over time, and how sure it is that they are not chance.

A rise counts as shown only if all of this holds; noise alone then trips a judgement less than once in 100,000:

* Kendall's rank test, one-sided, at ``CHANCE_MAX`` divided by the number of series judged together. Its variance is
  widened for residuals that depend on the one before (lag-1 autocorrelation up to 0.6, a factor of four).
* What the line gains over its points is more than twice the noise around it (from the median deviation).

With so few points that even a perfect line could not pass the test, nothing can be told, and that is not a pass.

Source:
    Theil-Sen estimator (Sen, 1968); Mann-Kendall test (Kendall, 1975), with the correction for autocorrelation of Yue
    and Wang (2004); Cochran-Armitage test for trend (Armitage, 1955) with quasi-binomial dispersion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

CHANCE_MAX: Final = 1e-5

_POINTS_MAX: Final = 64
_POINTS_MIN: Final = 4
_AUTOCORRELATION_MAX: Final = 0.6
_NOISE_FACTOR: Final = 2.0
_DEVIATION_OF_MEDIAN: Final = 1.4826  # of normal noise
_RATE_RISE_MIN: Final = 0.001

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through one series.

    Attributes:
        first: The line's level at the first point; ``last`` at the last one.
        noise: Standard deviation of the points around the line.
        points: How many points it goes through.
        score: How many standard deviations the ranks are away from chance; above 0 when rising.
        score_max: What the score would be if every point were above the one before.
    """

    per_second: float
    first: float
    last: float
    noise: float
    points: int
    span_seconds: float
    score: float
    score_max: float

    def rises(self, tests: int = 1) -> bool:
        """Say whether it rises for certain, when it is one of ``tests`` series judged together."""
        return self.score >= score_needed(tests) and self.last - self.first > _NOISE_FACTOR * self.noise

    def can_tell(self, tests: int = 1) -> bool:
        """Say whether there are points enough to show a rise at all."""
        return self.score_max >= score_needed(tests)


@cache
def score_needed(tests: int) -> float:
    """Return the score that chance reaches with a probability of ``CHANCE_MAX`` in any of ``tests`` series."""
    return -NormalDist().inv_cdf(CHANCE_MAX / max(tests, 1))


def fit(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Fit a line through (seconds, value), oldest first: the median of the slopes between all pairs of points.

    Of more than 64 points, runs of neighbours are taken together by their medians. None of fewer than four points, or
    where no time passes.
    """
    if len(points) < _POINTS_MIN or points[-1][0] <= points[0][0]:
        return None
    times, values = _thinned(points)
    earlier, later = np.triu_indices(len(times), 1)
    steps, rises = times[later] - times[earlier], values[later] - values[earlier]
    apart = steps > 0
    per_second = float(np.median(rises[apart] / steps[apart]))
    rest = values - per_second * times
    level = float(np.median(rest))
    residuals = rest - level
    count = len(times)
    net = float(np.sign(rises).sum())
    variance = _variance(count) - sum(_variance(int(tied)) for tied in np.unique(values, return_counts=True)[1])
    score = np.sign(net) * max(abs(net) - 1, 0) / sqrt(max(variance, 1.0) * _inflation(residuals))
    return Slope(
        per_second=per_second,
        first=level + per_second * float(times[0]),
        last=level + per_second * float(times[-1]),
        noise=_DEVIATION_OF_MEDIAN * float(np.median(np.abs(residuals))),
        points=len(points),
        span_seconds=points[-1][0] - points[0][0],
        score=float(score),
        score_max=(count * (count - 1) / 2 - 1) / sqrt(_variance(count)),
    )


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[_Floats, _Floats]:
    table = np.asarray(points, dtype=np.float64)
    times, values = table[:, 0] - table[0, 0], table[:, 1]
    if len(points) <= _POINTS_MAX:
        return times, values
    parts = np.array_split(np.arange(len(points)), _POINTS_MAX)
    return (
        np.array([np.median(times[part]) for part in parts]),
        np.array([np.median(values[part]) for part in parts]),
    )


def _variance(count: int) -> float:
    """The variance of Kendall's statistic for so many values, and what a tie of so many takes away from it."""
    return count * (count - 1) * (2 * count + 5) / 18


def _inflation(residuals: _Floats) -> float:
    around = residuals - residuals.mean()
    total = float(around @ around)
    if total <= 0:
        return 1.0
    correlation = min(max(float(around[1:] @ around[:-1]) / total, 0.0), _AUTOCORRELATION_MAX)
    return (1 + correlation) / (1 - correlation)


def rates_rise(windows: Sequence[Sequence[tuple[int, int]]], *, tests: int = 1) -> bool:
    """Say whether the error rate rises for certain from each window to the next.

    Args:
        windows: Consecutive windows, each cut into parts of (requests, errors).
        tests: How many series are judged together.

    Each window's rate must be above the one before, the last a tenth of a percentage point above the first, and the
    trend beyond chance, where the scatter of the parts within their windows says how far chance goes: errors come in
    bursts, and a burst is no trend.
    """
    table = np.array([np.sum(np.asarray(parts, dtype=np.float64), axis=0) for parts in windows])
    requests, errors = table[:, 0], table[:, 1]
    if requests.min() <= 0:
        return False
    rates = np.minimum(errors / requests, 1.0)
    if not np.all(np.diff(rates) > 0) or rates[-1] - rates[0] < _RATE_RISE_MIN:
        return False
    overall = float(errors.sum() / requests.sum())
    if overall >= 1:
        return False
    position = np.arange(len(windows)) - float(requests @ np.arange(len(windows)) / requests.sum())
    spread = overall * (1 - overall) * float(requests @ position**2)
    score = float(position @ errors) / sqrt(spread * _dispersion(windows, rates))
    return score >= score_needed(tests)


def _dispersion(windows: Sequence[Sequence[tuple[int, int]]], rates: _Floats) -> float:
    """How much more the parts scatter than independent requests would; at least 1."""
    squares, count = 0.0, 0
    for parts, rate in zip(windows, rates, strict=True):
        for requests, errors in parts:
            expected = requests * float(rate)
            chance = expected * (1 - float(rate))
            if chance > 0:
                squares += (errors - expected) ** 2 / chance
                count += 1
    return max(squares / max(count - len(windows), 1), 1.0)
