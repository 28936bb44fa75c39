"""Whether something rises: slopes over time, and how sure it is that they are not chance.

A rise counts as shown only if all of this holds; noise alone then trips a judgement less than once in 100,000:

* Kendall's rank test (``kendall``), one-sided, at a chance of 1 in 100,000 divided by the number of series judged
  together, by the exact distribution of the statistic. It is scaled for ties, and for residuals that depend on the one
  before (lag-1 autocorrelation up to 0.6, four times the variance). A rise that is no straight line leaves such
  residuals without being noise. So the test counts unscaled where the sign test of the steps from reading to reading
  is passed as well: that one holds for every noise whose steps do not follow each other, up to a random walk.
* What the line gains over its points is more than twice the noise around it (from the median deviation).

With so few points that even a perfect line could not pass the test, nothing can be told, and that is not a pass.

Source:
    Theil-Sen estimator (Sen, 1968); Mann-Kendall test with the correction for autocorrelation of Yue and Wang (2004);
    Cochran-Armitage test for trend (Armitage, 1955) with quasi-binomial dispersion.
"""

import warnings
from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.kendall import POINTS_MIN, may_rise, score_needed, scores, step_scores, tied, variance
from orchestrator.telemetry.medians import medians
from orchestrator.telemetry.readings import Readings

_AUTOCORRELATION_MAX: Final = 0.6
_NOISE_FACTOR: Final = 2.0
_DEVIATION_OF_MEDIAN: Final = 1.4826  # of normal noise
_RATE_RISE_MIN: Final = 0.001
_SHOWN_MAX: Final = 64
_DEVICES_AT_ONCE: Final = 2048  # so that the slopes between all pairs of points fit into the processor's cache

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slopes:
    """A straight line through each of some series: arrays, one entry for each.

    Attributes:
        devices: Whose series they are.
        first: The line's level at the first point; ``last`` at the last one.
        noise: Standard deviation of the points around the line.
        points: How many points it goes through; with fewer than four there is no line, and all else is NaN, as it is
            of devices that were not looked at closely.
        samples: Good samples behind the points.
        score: How unlikely the ranks are by chance, as standard deviations of normal noise; above 0 when rising.
        score_max: What the score would be if every point were above the one before.
    """

    devices: Devices
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


def fit(readings: Readings, *, reaching: float = inf) -> Slopes:
    """Fit a line through each device's readings: the median of the slopes between all pairs of points.

    Of more than 2,048 devices only those are looked at that may rise for certain, that were at ``reaching``, or that
    rose most from the first half to the second; of the others the line is not known, and they do not rise.
    """
    count = len(readings.devices)
    closely = np.arange(count) if count <= _DEVICES_AT_ONCE else _worth_a_look(readings.values, reaching)
    known = (~np.isnan(readings.values)).sum(axis=0)
    unknown = np.full((5, count), np.nan)
    found = Slopes(
        readings.devices,
        per_second=unknown[0],
        first=unknown[1],
        last=unknown[2],
        noise=unknown[3],
        points=known,
        samples=readings.samples,
        span_seconds=unknown[4],
        score=np.zeros(count),
        score_max=scores(known, known * (known - 1) / 2),
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not known is NaN, and stays so
        for start in range(0, len(closely), _DEVICES_AT_ONCE):
            which = closely[start : start + _DEVICES_AT_ONCE]
            for name, array in _fit(readings.values[:, which], readings.times).items():
                getattr(found, name)[which] = array
    return found


def _worth_a_look(values: NDArray[np.float32], reaching: float) -> NDArray[np.intp]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of devices without any reading
        middle = len(values) // 2
        gained = np.nanmean(values[middle:], axis=0) - np.nanmean(values[:middle], axis=0)
        highest = np.nanmax(values, axis=0, initial=-inf)
    gained = np.where(np.isnan(gained), -inf, gained)
    most = np.argpartition(gained, -_SHOWN_MAX)[-_SHOWN_MAX:]
    return np.union1d(np.flatnonzero(may_rise(values) | (highest >= reaching)), most)


def _fit(readings: NDArray[np.float32], times: _Floats) -> dict[str, _Floats]:
    """Return what is known of lines through readings, a column each, by the names of ``Slopes``."""
    values = readings.astype(np.float64)
    times = times - (times[0] if len(times) else 0.0)
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    values[:, count < POINTS_MIN] = np.nan
    earlier, later = np.triu_indices(len(times), 1)
    rises = values[later] - values[earlier]
    per_second = medians(rises / (times[later] - times[earlier])[:, None])
    rest = values - per_second * times[:, None]
    level = medians(rest)
    residuals = rest - level
    plain = np.maximum(variance(count), 1.0)
    widened = np.maximum(plain - tied(values), 1.0) * _inflation(residuals)
    net = np.nansum(np.sign(rises), axis=0)
    scaled = scores(count, net * np.sqrt(plain / widened))
    first_time, last_time = _ends(times, known)
    return {
        "per_second": per_second,
        "first": level + per_second * first_time,
        "last": level + per_second * last_time,
        "noise": _DEVIATION_OF_MEDIAN * medians(np.abs(residuals)),
        "span_seconds": last_time - first_time,
        "score": np.maximum(scaled, np.minimum(scores(count, net), step_scores(values))),
    }


def _ends(times: _Floats, known: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
    """Return when each series has its first point and its last."""
    if not len(times):
        return np.zeros(known.shape[1]), np.zeros(known.shape[1])
    return times[known.argmax(axis=0)], times[len(times) - 1 - known[::-1].argmax(axis=0)]


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
