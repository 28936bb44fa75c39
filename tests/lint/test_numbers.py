from fractions import Fraction
from math import comb, exp, factorial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lint.numbers import (
    chance_of_any,
    chance_of_at_least,
    chance_of_false_stop,
    chance_of_more_events,
    devices_to_see,
    events_tolerated,
    failures_tolerated,
    rate_not_ruled_out,
    rate_seen,
    requests_to_see,
    tolerant_from,
)
from schemas.conditions import exceeds_percent

RATES = st.integers(1, 999).map(lambda each: Fraction(each, 1000))


def exact_at_least(count: int, trials: int, rate: Fraction) -> Fraction:
    return sum((comb(trials, hit) * rate**hit * (1 - rate) ** (trials - hit) for hit in range(count, trials + 1)),
               Fraction())  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "seen", "not_ruled_out"),
    [
        (1, (5, 10, 20), 95),
        (3, (14, 27, 49), 63),
        (5, (23, 41, 67), 45),
        (10, (40, 65, 89), 26),
        (20, (64, 88, 99), 14),
        (60, (95, 100, 100), 5),
    ],
)
def test_what_a_canary_sees_and_proves(devices: int, seen: tuple[int, ...], not_ruled_out: int) -> None:
    chances = tuple(round(100 * chance_of_any(rate, devices)) for rate in (0.05, 0.10, 0.20))

    assert chances == seen
    assert round(100 * rate_not_ruled_out(devices)) == not_ruled_out


@pytest.mark.parametrize(
    ("percent", "trips_at", "tolerant"),
    [(3, (1, 1, 1, 2, 4), 34), (5, (1, 1, 2, 3, 6), 20), (20, (1, 3, 5, 11, 21), 5), (0, (1, 1, 1, 1, 1), None)],
)
def test_at_how_many_failures_a_limit_trips(percent: float, trips_at: tuple[int, ...], tolerant: int | None) -> None:
    assert tuple(failures_tolerated(devices, percent) + 1 for devices in (3, 10, 20, 50, 100)) == trips_at
    assert tolerant_from(percent) == tolerant


@given(st.integers(1, 100_000), st.integers(1, 99_999).map(lambda each: each / 1000))
def test_a_limit_trips_at_the_first_failure_exactly_below_the_tolerant_size(devices: int, percent: float) -> None:
    tolerant = tolerant_from(percent)

    assert tolerant is not None
    assert exceeds_percent(1, devices, percent) is (devices < tolerant)
    tolerated = failures_tolerated(devices, percent)
    assert not exceeds_percent(tolerated, devices, percent)
    assert exceeds_percent(tolerated + 1, devices, percent)


@given(st.integers(0, 60), st.integers(0, 50), RATES)
def test_binomial_odds_agree_with_exact_fractions(count: int, trials: int, rate: Fraction) -> None:
    odds = chance_of_at_least(count, trials, float(rate))

    assert odds == pytest.approx(float(exact_at_least(count, trials, rate)), rel=1e-9, abs=1e-15)
    assert chance_of_any(float(rate), trials) == pytest.approx(float(1 - (1 - rate) ** trials), rel=1e-9)


def test_the_odds_hold_for_certain_and_for_impossible_trials() -> None:
    assert chance_of_any(1.0, 3) == 1.0
    assert chance_of_any(1.0, 0) == chance_of_any(0.0, 9) == 0.0
    assert chance_of_at_least(3, 3, 1.0) == chance_of_at_least(0, 0, 0.0) == 1.0
    assert chance_of_at_least(1, 9, 0.0) == chance_of_at_least(4, 3, 1.0) == 0.0


def test_odds_of_a_million_devices_are_found() -> None:
    assert chance_of_at_least(20_000, 1_000_000, 0.02) == pytest.approx(0.5, abs=0.01)
    assert chance_of_at_least(20_500, 1_000_000, 0.02) == pytest.approx(0.00018, abs=0.00002)


@given(st.integers(0, 30), st.integers(0, 200).map(lambda each: each / 10))
def test_poisson_odds_agree_with_their_definition(count: int, expected: float) -> None:
    below = sum(exp(-expected) * expected**events / factorial(events) for events in range(count + 1))

    assert chance_of_more_events(count, expected) == pytest.approx(1 - below, abs=1e-9)


@given(st.integers(0, 200).map(lambda each: each / 10), st.sampled_from([0.5, 0.05, 0.01]))
def test_events_tolerated_is_the_smallest(expected: float, chance: float) -> None:
    count = events_tolerated(expected, chance)

    assert chance_of_more_events(count, expected) <= chance
    assert chance_of_more_events(count - 1, expected) > chance


def test_the_restarts_of_a_million_devices_are_counted() -> None:
    assert chance_of_more_events(0, 7000.0) == 1.0
    assert chance_of_more_events(7000, 7000.0) == pytest.approx(0.5, abs=0.01)
    assert events_tolerated(7000.0, 0.01) == pytest.approx(7195, abs=3)


@given(RATES)
def test_devices_to_see_is_the_fewest(rate: Fraction) -> None:
    devices = devices_to_see(float(rate))

    assert chance_of_any(float(rate), devices) >= 0.95
    assert devices == 1 or chance_of_any(float(rate), devices - 1) < 0.95


def test_devices_to_see_usual_rates() -> None:
    assert [devices_to_see(rate) for rate in (0.01, 0.05, 0.10, 0.20, 1.0)] == [299, 59, 29, 14, 1]


def test_a_share_of_the_whole_wave_alone_would_stop_a_good_wave_of_20_in_6_of_100_cases() -> None:
    assert round(100 * chance_of_at_least(failures_tolerated(20, 5) + 1, 20, 0.02)) == 6


def test_a_share_of_the_finished_stops_it_far_more_often() -> None:
    assert chance_of_false_stop(20, 5, 0.02) == pytest.approx(chance_of_any(0.02, 19), abs=0.002)
    assert chance_of_false_stop(12, 5, 0.02) == pytest.approx(chance_of_any(0.02, 12))
    assert chance_of_false_stop(1, 0, 0.02) == pytest.approx(0.02)
    assert chance_of_false_stop(100, 5, 0.0) == 0.0
    assert chance_of_false_stop(100, 5, 1.0) == 1.0


@pytest.mark.parametrize(("devices", "percent", "rate"), [(15, 20, 0.1), (48, 3, 0.02), (200, 5, 0.02)])
def test_false_stops_agree_with_waves_that_were_played(devices: int, percent: float, rate: float) -> None:
    rng = Random(7)

    def is_stopped() -> bool:
        failed = 0
        for finished in range(1, devices + 1):
            failed += rng.random() < rate
            whole = exceeds_percent(failed, devices, percent)
            if whole or (finished >= min(5, devices) and exceeds_percent(failed, finished, percent)):
                return True
        return False

    stops = sum(is_stopped() for _ in range(4000)) / 4000
    assert chance_of_false_stop(devices, percent, rate) == pytest.approx(stops, abs=0.03)


def test_a_wave_of_a_million_is_walked_in_time() -> None:
    assert 0.3 < chance_of_false_stop(1_000_000, 5, 0.02) < 0.5


@pytest.mark.parametrize(("requests", "limit"), [(100, 0.02), (540, 0.023), (10_000, 0.023), (7, 0.5)])
def test_the_rate_that_is_seen_is_the_smallest(requests: int, limit: float) -> None:
    rate = rate_seen(requests, limit)
    broken = int(limit * requests) + 1

    assert chance_of_at_least(broken, requests, rate) >= 0.95
    assert chance_of_at_least(broken, requests, rate - 1e-5) < 0.95


def test_nothing_is_seen_above_a_limit_that_no_count_reaches() -> None:
    assert rate_seen(10, 1.0) == 1.0
    assert rate_seen(0, 0.02) == 1.0


def test_requests_to_see_are_enough_and_not_far_more() -> None:
    requests = requests_to_see(0.043, 0.023)

    assert requests is not None
    assert rate_seen(requests, 0.023) <= 0.0431
    assert rate_seen(int(requests * 0.8), 0.023) > 0.043
    assert requests_to_see(0.02, 0.02) is None
    assert requests_to_see(0.02 + 1e-9, 0.02) is None
