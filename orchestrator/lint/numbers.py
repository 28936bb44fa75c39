"""What can be known from how many devices or requests: exact thresholds, and the binomial and Poisson odds of them.

Counts are exact integers; odds are floats, right to nine digits. Trials are taken as independent, which flatters small
fleets: devices of one site or one batch fail together.

Source:
    Clopper and Pearson, 1934 (the exact bound; for zero failures the rule of three's origin).
"""

from functools import lru_cache
from math import exp, expm1, lgamma, log, log1p
from typing import Final

from orchestrator.telemetry.columns import CELLS
from orchestrator.telemetry.kendall import score_max, score_needed
from schemas.conditions import exceeds_percent, percent_of

CONFIDENCE: Final = 0.95
EXECUTED_MIN: Final = 5
"""Below so many finished devices (or the wave, if smaller) the orchestrator takes no share of the finished ones."""

_TERM_MIN: Final = 1e-15
_WALK_MAX: Final = 2000
_UNLIKELY: Final = 1e-12
_REQUESTS_MAX: Final = 10_000_000


def failures_tolerated(devices: int, percent: float) -> int:
    """Return the most failures of ``devices`` that are not more than ``percent`` percent."""
    tolerated, _ = percent_of(devices, percent)
    return tolerated


def tolerant_from(percent: float) -> int | None:
    """Return the fewest devices of which one failure is not more than ``percent`` percent; None: it always is."""
    thousandths = round(percent * 1000)
    return -(-100_000 // thousandths) if thousandths > 0 else None


def chance_of_any(rate: float, trials: int) -> float:
    """Return the probability of at least one hit in ``trials`` when each is hit with probability ``rate`` (0..1)."""
    return float(trials > 0) if rate >= 1 else -expm1(trials * log1p(-rate))


def chance_of_at_least(count: int, trials: int, rate: float) -> float:
    """Return the binomial probability of ``count`` hits or more in ``trials``, each at ``rate`` (0..1)."""
    if count <= 0:
        return 1.0
    if count > trials or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    if count > trials * rate:
        return _binomial_sum(count, trials, rate, step=1)
    return 1.0 - _binomial_sum(count - 1, trials, rate, step=-1)


def _binomial_sum(start: int, trials: int, rate: float, *, step: int) -> float:
    """Add the probabilities of ``start``, ``start + step`` and so on, away from the mean until they no longer count."""
    odds = rate / (1 - rate)
    choices = lgamma(trials + 1) - lgamma(start + 1) - lgamma(trials - start + 1)
    term = exp(choices + start * log(rate) + (trials - start) * log1p(-rate))
    total, count = 0.0, start
    while 0 <= count <= trials and term > total * _TERM_MIN:
        total += term
        term *= (trials - count) / (count + 1) * odds if step > 0 else count / ((trials - count + 1) * odds)
        count += step
    return min(total, 1.0)


def chance_of_more_events(count: int, expected: float) -> float:
    """Return the Poisson probability of more than ``count`` events when ``expected`` (0 or more) are to be expected."""
    if count < 0 or expected <= 0:
        return float(count < 0)
    if count + 1 > expected:
        return _poisson_sum(count + 1, expected, step=1)
    return 1.0 - _poisson_sum(count, expected, step=-1)


def _poisson_sum(start: int, expected: float, *, step: int) -> float:
    """Add the probabilities of ``start``, ``start + step`` and so on, away from the mean until they no longer count."""
    term = exp(start * log(expected) - expected - lgamma(start + 1))
    total, count = 0.0, start
    while count >= 0 and term > total * _TERM_MIN:
        total += term
        term *= expected / (count + 1) if step > 0 else count / expected
        count += step
    return min(total, 1.0)


def events_tolerated(expected: float, chance: float) -> int:
    """Return the smallest count that is exceeded with probability ``chance`` (above 0) at most; see above."""
    few, many = -1, 1
    while chance_of_more_events(many, expected) > chance:
        few, many = many, many * 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if chance_of_more_events(middle, expected) <= chance else (middle, many)
    return many


def rate_not_ruled_out(devices: int) -> float:
    """Return the failure rate (0..1) that ``devices`` (1 or more) without a failure rule out at 95% confidence."""
    return float(1.0 - (1.0 - CONFIDENCE) ** (1.0 / devices))


def devices_to_see(rate: float) -> int:
    """Return the fewest devices of which one or more fails in 19 of 20 cases, at a failure rate ``rate`` (0..1)."""
    wanted = max(1, int(log(1 - CONFIDENCE) / log1p(-rate)) - 1) if rate < 1 else 1
    while chance_of_any(rate, wanted) < CONFIDENCE:
        wanted += 1
    return wanted


@lru_cache(maxsize=256)
def chance_of_false_stop(devices: int, percent: float, rate: float) -> float:
    """Return how likely a wave of ``devices`` is stopped when each install fails by bad luck with probability ``rate``.

    A wave stops when the failed are more than ``percent`` percent of its devices or, from the fifth on, of those that
    have finished. After 2,000 devices that kept to the limit the rest is taken to keep to it as well.
    """
    enough = min(EXECUTED_MIN, devices)
    going = {0: 1.0}  # The probability of each number of failures without a stop.
    stopped = 0.0
    for finished in range(1, min(devices, _WALK_MAX) + 1):
        after: dict[int, float] = {}
        for failed, chance in going.items():
            after[failed] = after.get(failed, 0.0) + chance * (1 - rate)
            after[failed + 1] = after.get(failed + 1, 0.0) + chance * rate
        going = {}
        for failed, chance in after.items():
            too_many = exceeds_percent(failed, devices, percent)
            if too_many or (finished >= enough and exceeds_percent(failed, finished, percent)):
                stopped += chance
            elif chance > _UNLIKELY:
                going[failed] = chance
    return stopped


READINGS_MAX: Final = CELLS - 1
"""Readings of one device in the longest window."""


@lru_cache(maxsize=256)
def points_to_tell(series: int) -> int:
    """Return from how many samples of each device on a trend can be told when ``series`` devices are judged together.

    With fewer, not even a straight line is beyond chance (Kendall's rank test, as the trends are judged by).
    """
    points = 4
    while score_max(points) < score_needed(series):
        points += 1
    return points


def rate_seen(requests: int, limit: float) -> float:
    """Return the smallest error rate (0..1) that is above ``limit`` (0..1) in 19 of 20 samples of ``requests``."""
    broken = int(limit * requests) + 1
    if broken > requests:
        return 1.0
    low, high = limit, 1.0
    while high - low > 1e-6:  # noqa: PLR2004 - a ten-thousandth of a percent
        middle = (low + high) / 2
        low, high = (low, middle) if chance_of_at_least(broken, requests, middle) >= CONFIDENCE else (middle, high)
    return high


def requests_to_see(rate: float, limit: float) -> int | None:
    """Return about how many requests show an error rate ``rate`` as above ``limit`` in 19 of 20 samples (within 2%).

    Both are 0..1. None: more than ten million, or ``rate`` is within the limit.
    """
    if rate <= limit:
        return None
    few, many = 0, 1
    while chance_of_at_least(int(limit * many) + 1, many, rate) < CONFIDENCE:
        few, many = many, many * 2
        if many > _REQUESTS_MAX:
            return None
    while many - few > max(1, many // 50):
        middle = (few + many) // 2
        seen = chance_of_at_least(int(limit * middle) + 1, middle, rate) >= CONFIDENCE
        few, many = (few, middle) if seen else (middle, many)
    return many
