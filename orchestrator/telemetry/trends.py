"""Whether something rises: slopes over time, and how sure it is that they are not chance.

A rise counts as shown only if all of this holds; noise alone then trips a judgement less than once in 100,000:

* Kendall's rank test, one-sided, at ``CHANCE_MAX`` divided by the number of series judged together, by the exact
  distribution of the statistic. It is scaled for ties, and for residuals that depend on the one before (lag-1
  autocorrelation up to 0.6, four times the variance). A rise that is no straight line leaves such residuals without
  being noise. So the test counts unscaled where the sign test of the steps from reading to reading is passed as well:
  that one holds for every noise whose steps do not follow each other, up to a random walk.
* What the line gains over its points is more than twice the noise around it (from the median deviation).

With so few points that even a perfect line could not pass the test, nothing can be told, and that is not a pass.

Source:
    Theil-Sen estimator (Sen, 1968); Mann-Kendall test (Kendall, 1975; exact distribution: Knuth, The Art of Computer
    Programming, volume 3, section 5.1.1), with the correction for autocorrelation of Yue and Wang (2004);
    difference-sign test (Moore and Wallis, 1943);
    Cochran-Armitage test for trend (Armitage, 1955) with quasi-binomial dispersion.
"""

from dataclasses import dataclass, fields
from functools import cache
from math import comb, sqrt
from statistics import NormalDist
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.medians import medians
from orchestrator.telemetry.readings import Readings

CHANCE_MAX: Final = 1e-5

_POINTS_MIN: Final = 4
_AUTOCORRELATION_MAX: Final = 0.6
_NOISE_FACTOR: Final = 2.0
_DEVIATION_OF_MEDIAN: Final = 1.4826  # of normal noise
_RATE_RISE_MIN: Final = 0.001
_DEVICES_AT_ONCE: Final = 2048  # so that the slopes between all pairs of points fit into the processor's cache

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slopes:
    """A straight line through each of some series: arrays, one entry for each.

    Attributes:
        devices: Whose series they are.
        first: The line's level at the first point; ``last`` at the last one.
        noise: Standard deviation of the points around the line.
        points: How many points it goes through; with fewer than four there is no line, and all else is NaN.
        samples: Good samples behind the points.
        score: How unlikely the ranks are by chance, as standard deviations of normal noise; above 0 when rising.
        score_max: What the score would be if every point were above the one before.
    """

    devices: tuple[str, ...]
    per_second: _Floats
    first: _Floats
    last: _Floats
    noise: _Floats
    points: NDArray[np.intp]
    samples: NDArray[np.int64]
    span_seconds: _Floats
    score: _Floats
    score_max: _Floats

    def rises(self) -> NDArray[np.bool_]:
        """Say which rise for certain, all of them being judged together."""
        certain: NDArray[np.bool_] = self.score >= score_needed(len(self.devices))
        return certain & (self.last - self.first > _NOISE_FACTOR * self.noise)

    def can_tell(self) -> NDArray[np.bool_]:
        """Say which have points enough to show a rise at all."""
        return self.score_max >= score_needed(len(self.devices))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return one that holds the series of all, in their order."""
        devices = tuple(device for part in parts for device in part.devices)
        arrays = [each.name for each in fields(cls)][1:]
        return cls(devices, *(np.concatenate([getattr(part, name) for part in parts]) for name in arrays))


@cache
def score_needed(tests: int) -> float:
    """Return the score that chance reaches with a probability of ``CHANCE_MAX`` in any of ``tests`` series."""
    return -NormalDist().inv_cdf(CHANCE_MAX / max(tests, 1))


def fit(readings: Readings) -> Slopes:
    """Fit a line through each device's readings: the median of the slopes between all pairs of points."""
    starts = range(0, max(len(readings.devices), 1), _DEVICES_AT_ONCE)
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not known is NaN, and stays so
        parts = [_fit(readings, slice(start, start + _DEVICES_AT_ONCE)) for start in starts]
    return Slopes.joined(parts)


def _fit(readings: Readings, which: slice) -> Slopes:
    values = readings.values[:, which].astype(np.float64)
    times = readings.times - (readings.times[0] if len(readings.times) else 0.0)
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    values[:, count < _POINTS_MIN] = np.nan
    earlier, later = np.triu_indices(len(times), 1)
    rises = values[later] - values[earlier]
    per_second = medians(rises / (times[later] - times[earlier])[:, None])
    rest = values - per_second * times[:, None]
    level = medians(rest)
    residuals = rest - level
    plain = np.maximum(_variance(count), 1.0)
    widened = np.maximum(plain - _tied(values), 1.0) * _inflation(residuals)
    net = np.nansum(np.sign(rises), axis=0)
    scaled = _scores(count, net * np.sqrt(plain / widened))
    first_time, last_time = _ends(times, known)
    return Slopes(
        readings.devices[which],
        per_second=per_second,
        first=level + per_second * first_time,
        last=level + per_second * last_time,
        noise=_DEVIATION_OF_MEDIAN * medians(np.abs(residuals)),
        points=count,
        samples=readings.samples[which],
        span_seconds=last_time - first_time,
        score=np.maximum(scaled, np.minimum(_scores(count, net), _step_scores(values))),
        score_max=_scores(count, count * (count - 1) / 2),
    )


def _scores(counts: NDArray[np.intp], statistics: _Floats) -> _Floats:
    """Return the score of each Kendall statistic of so many values; 0 of too few values."""
    scores = np.zeros(len(counts))
    for count in np.unique(counts[counts >= _POINTS_MIN]).tolist():
        which = counts == count
        scores[which] = np.interp(statistics[which], *_distribution(count))
    return scores


def _step_scores(values: _Floats) -> _Floats:
    """Return how unlikely it is by even odds that so many of the steps from one known value to the next go up."""
    known = ~np.isnan(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], 0), axis=0)
    steps = np.diff(np.take_along_axis(values, newest, axis=0), axis=0)
    up = (steps > 0).sum(axis=0)
    taken = up + (steps < 0).sum(axis=0)
    scores = np.zeros(len(up))
    for count in np.unique(taken).tolist():
        which = taken == count
        scores[which] = _step_distribution(count)[up[which]]
    return scores


@cache
def _step_distribution(count: int) -> _Floats:
    """Return the score of each number of steps that go up, 0 to ``count``."""
    ways = np.array([comb(count, up) for up in range(count + 1)], dtype=np.float64)
    chances = np.cumsum(ways[::-1])[::-1] / 2.0**count  # of at least so many
    return np.array([-NormalDist().inv_cdf(min(float(chance), 1 - CHANCE_MAX)) for chance in chances])


def score_max(count: int) -> float:
    """Return the score of ``count`` values, four or more, each above the one before."""
    return float(_distribution(count)[1][-1])


@cache
def _distribution(count: int) -> tuple[_Floats, _Floats]:
    """Return every value that Kendall's statistic of ``count`` values can have, and the score of each."""
    permutations = np.ones(1)  # by their inversions, Mahonian numbers
    for size in range(2, count + 1):
        permutations = np.convolve(permutations, np.ones(size))
    chances = np.cumsum(permutations) / permutations.sum()  # of at most so many inversions
    most = len(permutations) - 1
    normal = NormalDist()
    scores = [-normal.inv_cdf(min(float(chance), 1 - CHANCE_MAX)) for chance in chances]
    statistics = np.array([most - 2.0 * inversions for inversions in range(most, -1, -1)])
    return statistics, np.array(scores[::-1])


def _ends(times: _Floats, known: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
    """Return when each series has its first point and its last."""
    if not len(times):
        return np.zeros(known.shape[1]), np.zeros(known.shape[1])
    return times[known.argmax(axis=0)], times[len(times) - 1 - known[::-1].argmax(axis=0)]


def _variance(count: NDArray[Any]) -> _Floats:
    """The variance of Kendall's statistic for so many values."""
    variance: _Floats = count * (count - 1) * (2 * count + 5) / 18
    return variance


def _tied(values: _Floats) -> _Floats:
    """Return what ties take away from the variance: for each run of equal values, what so many would have."""
    total = np.zeros(values.shape[1])
    for row in values:
        alike = (values == row).sum(axis=0)  # each value once for itself and for each of its equals
        total += np.maximum(alike - 1, 0) * (2 * alike + 5) / 18
    return total


def _inflation(residuals: _Floats) -> _Floats:
    """Return by how much residuals that depend on the one before widen the variance."""
    around = residuals - np.nansum(residuals, axis=0) / np.isfinite(residuals).sum(axis=0)
    total = np.nansum(around**2, axis=0)
    correlation = np.where(total > 0, np.nansum(around[1:] * around[:-1], axis=0) / total, 0.0)
    correlation = np.clip(correlation, 0.0, _AUTOCORRELATION_MAX)
    inflation: _Floats = (1 + correlation) / (1 - correlation)
    return inflation


def rates_rise(requests: _Floats, errors: _Floats, *, tests: int = 1) -> bool:
    """Say whether the error rate rises for certain from each window to the next.

    Args:
        requests: Consecutive windows by the parts into which each is cut, oldest first.
        errors: Likewise.
        tests: How many series are judged together.

    Each window's rate must be above the one before, the last a tenth of a percentage point above the first, and the
    trend beyond chance, where the scatter of the parts within their windows says how far chance goes: errors come in
    bursts, and a burst is no trend.
    """
    asked, failed = requests.sum(axis=1), errors.sum(axis=1)
    if asked.min() <= 0:
        return False
    rates = np.minimum(failed / asked, 1.0)
    if not np.all(np.diff(rates) > 0) or rates[-1] - rates[0] < _RATE_RISE_MIN:
        return False
    overall = float(failed.sum() / asked.sum())
    if overall >= 1:
        return False
    position = np.arange(len(asked)) - float(asked @ np.arange(len(asked)) / asked.sum())
    spread = overall * (1 - overall) * float(asked @ position**2)
    score = float(position @ failed) / sqrt(spread * _dispersion(requests, errors, rates))
    return score >= score_needed(tests)


def _dispersion(requests: _Floats, errors: _Floats, rates: _Floats) -> float:
    """How much more the parts scatter than independent requests would; at least 1."""
    expected = requests * rates[:, None]
    chance = expected * (1 - rates[:, None])
    counts = chance > 0
    squares = float(((errors - expected)[counts] ** 2 / chance[counts]).sum())
    return max(squares / max(int(counts.sum()) - len(rates), 1), 1.0)
