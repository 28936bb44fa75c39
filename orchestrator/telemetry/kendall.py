"""Kendall's rank test and the sign test of steps: how unlikely by chance it is that series rise.

Source:
    Kendall, 1975; exact distribution: Knuth, The Art of Computer Programming, volume 3, section 5.1.1; difference-sign
    test: Moore and Wallis, 1943.
"""

from functools import cache
from math import comb
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CHANCE_MAX: Final = 1e-5
POINTS_MIN: Final = 4
_POINTS_MAX: Final = 128
"""Pairs with one later point are counted in eight bits."""
_SERIES_AT_ONCE: Final = 8192  # so that their points fit into the processor's cache
_TIES_FACTOR_MAX: Final = 2.0
"""Ties that take more than three quarters of the variance leave too few steps for any certainty."""

_Floats = NDArray[np.float64]


@cache
def score_needed(tests: int) -> float:
    """Return the score that chance reaches with a probability of ``CHANCE_MAX`` in any of ``tests`` series."""
    return -NormalDist().inv_cdf(CHANCE_MAX / max(tests, 1))


def scores(counts: NDArray[np.intp], statistics: _Floats) -> _Floats:
    """Return the score of each Kendall statistic of so many values; 0 of too few values."""
    scores = np.zeros(len(counts))
    for count in np.unique(counts[counts >= POINTS_MIN]).tolist():
        which = counts == count
        scores[which] = np.interp(statistics[which], *_distribution(count))
    return scores


def step_scores(values: _Floats) -> _Floats:
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


def variance(count: NDArray[Any]) -> _Floats:
    """The variance of Kendall's statistic for so many values."""
    variance: _Floats = count * (count - 1) * (2 * count + 5) / 18
    return variance


def tied(values: _Floats) -> _Floats:
    """Return what ties take away from the variance: for each run of equal values, what so many would have."""
    total = np.zeros(values.shape[1])
    for row in values:
        alike = (values == row).sum(axis=0)  # each value once for itself and for each of its equals
        total += np.maximum(alike - 1, 0) * (2 * alike + 5) / 18
    return total


def net_rises(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return Kendall's statistic of each column: how many pairs rise with time, less those that fall.

    It takes a hundredth of what a line through the points takes.

    Raises:
        ValueError: There are more than 128 points; the caller's fault.
    """
    if len(values) > _POINTS_MAX:
        raise ValueError(f"{len(values)} points, at most {_POINTS_MAX} can be counted")
    net = np.zeros(values.shape[1], dtype=np.int32)
    for start in range(0, values.shape[1], _SERIES_AT_ONCE):
        part = np.ascontiguousarray(values[:, start : start + _SERIES_AT_ONCE])
        higher, lower = np.empty((2, part.shape[1]), dtype=np.bool_)
        for later in range(1, len(part)):
            rises = np.zeros(part.shape[1], dtype=np.int8)
            for earlier in range(later):
                np.greater(part[later], part[earlier], out=higher)
                np.less(part[later], part[earlier], out=lower)
                rises += higher.view(np.int8)
                rises -= lower.view(np.int8)
            net[start : start + _SERIES_AT_ONCE] += rises
    return net


def may_rise(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which columns could be shown to rise at all, all of them being judged together; the others could not."""
    counts = (~np.isnan(values)).sum(axis=0)
    most = np.minimum(_TIES_FACTOR_MAX * net_rises(values), counts * (counts - 1) / 2)
    can: NDArray[np.bool_] = scores(counts, most) >= score_needed(values.shape[1])
    return can
