"""What gets worse little by little: memory, disk, temperature, the error rate; and noise, which is no trend."""

import random
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

from orchestrator.telemetry.monitor import Monitor
from schemas.documents import CheckResult
from tests.telemetry.telemetry_streams import feed
from tests.telemetry.test_telemetry_gates import judge
from tests.telemetry.test_telemetry_triggers import judge as judge_trigger

SAMPLES = 61
SPAN_SECONDS = 30.0 * (SAMPLES - 1)
WEEK_SEEDS = range(150)
MB = 1_000_000

Level = Callable[[int], float]


def watch(level: Level, *, device: str = "a", field: str = "memory_bytes", monitor: Monitor | None = None) -> Monitor:
    """Half an hour of samples, each with the level of its number."""
    found = monitor or Monitor()
    is_whole = field.endswith("bytes")
    fields: dict[str, Any] = {field: lambda seq: int(level(seq)) if is_whole else level(seq)}
    feed(found, device, count=SAMPLES, **fields)
    return found


def growing(percent_per_10m: float, noise: float = 0.0, seed: int = 0) -> Level:
    """A level of 100 MB that grows by so much; 20 samples are 10 minutes."""
    rng = random.Random(seed)
    return lambda seq: 100 * MB * (1 + percent_per_10m / 100 * seq / 20) + rng.gauss(0, noise * MB)


def check(monitor: Monitor, threshold: str = "growth < 1% per 10m", type_: str = "memory_trend") -> CheckResult:
    return judge(monitor, type_, threshold, window="30m", now=SPAN_SECONDS)


# Checks.


@pytest.mark.parametrize(
    ("percent", "verdict"), [(-3.0, "pass"), (0.0, "pass"), (0.9, "pass"), (1.2, "fail"), (8.0, "fail")]
)
def test_memory_may_grow_less_than_the_limit(percent: float, verdict: str) -> None:
    result = check(watch(growing(percent)))

    assert result.verdict == verdict
    assert result.observed == pytest.approx(percent / 100, abs=0.0005)
    assert result.limit == 0.01


def test_a_leak_is_found_beneath_noise_and_said_with_its_speed() -> None:
    result = check(watch(growing(5.0, noise=1.0)))

    assert result.verdict == "fail"
    assert "memory of a grows" in result.why
    assert "per 10 min (30 readings over 29 min)" in result.why


@pytest.mark.parametrize(
    "share", [lambda t: t**2, lambda t: t**0.5, lambda t: 2**t - 1], ids=["faster", "slower", "doubling"]
)
def test_a_leak_that_is_no_straight_line_is_found(share: Callable[[float], float]) -> None:
    result = check(watch(lambda seq: int(100 * MB * (1 + 0.2 * share(seq / SAMPLES)))))

    assert result.verdict == "fail"


def test_a_random_walk_is_not_taken_for_a_bent_line() -> None:
    rng = random.Random(1)
    walks = [list(accumulate((rng.gauss(0, MB) for _ in range(SAMPLES)), initial=500.0 * MB)) for _ in range(60)]
    failed = [check(watch(walk.__getitem__)).verdict == "fail" for walk in walks]

    assert sum(failed) <= 3


@pytest.mark.parametrize("type_", ["memory_trend", "disk_trend"])
def test_noise_and_a_saw_tooth_are_no_trend(type_: str) -> None:
    field = "memory_bytes" if type_ == "memory_trend" else "disk_free_bytes"
    threshold = "growth < 1% per 10m"
    for seed in WEEK_SEEDS:
        assert check(watch(growing(0.0, noise=10.0, seed=seed), field=field), threshold, type_).verdict == "pass"
    saw = watch(lambda seq: (100 + seq % 15) * MB, field=field)
    assert check(saw, threshold, type_).verdict == "pass"


def test_the_disk_fills_up_when_what_is_free_gets_less() -> None:
    result = check(watch(lambda seq: 100 * MB - MB * seq, field="disk_free_bytes"), type_="disk_trend")

    assert result.verdict == "fail"
    assert "used disk of a grows" in result.why


@pytest.mark.parametrize(
    ("monitor", "why"),
    [
        (Monitor(), "no fresh sample of this version from a"),
        (watch(growing(0.0), field="disk_free_bytes"), "too few readings of memory from a to tell a trend"),
    ],
    ids=["nothing seen", "not measured"],
)
def test_a_trend_of_what_nobody_measured_is_inconclusive(monitor: Monitor, why: str) -> None:
    result = check(monitor)

    assert result.verdict == "inconclusive"
    assert why in result.why


def test_a_few_readings_tell_no_trend_however_steep_they_are() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=12, memory_bytes=lambda seq: 100 * MB * (seq + 1))

    result = judge(monitor, "memory_trend", "growth < 1% per 10m", window="30m", min_samples=1, now=now)

    assert result.verdict == "inconclusive"
    assert "too few readings" in result.why


def test_the_version_before_is_no_part_of_the_trend() -> None:
    monitor = Monitor()
    feed(monitor, "a", version="1", count=30, memory_bytes=10 * MB)
    now = feed(monitor, "a", start=900.0, first=30, count=30, memory_bytes=100 * MB)

    assert judge(monitor, "memory_trend", "growth < 1% per 10m", window="30m", now=now).verdict == "pass"


# Triggers.


@pytest.mark.parametrize(
    ("condition", "field", "level"),
    [
        ("memory_growth > 5% per 10 minutes", "memory_bytes", growing(8.0, noise=1.0)),
        ("disk_growth > 5% per 10 minutes", "disk_free_bytes", growing(-8.0, noise=1.0)),
    ],
)
def test_growth_names_the_device_that_leaks_and_no_other(condition: str, field: str, level: Level) -> None:
    monitor = watch(level, field=field)
    watch(growing(0.0, noise=1.0, seed=1), device="b", field=field, monitor=monitor)

    firing = judge_trigger(monitor, condition, window="30m", now=SPAN_SECONDS)

    assert firing is not None
    assert firing.devices == ("a",)
    assert firing.evidence[0].samples == SAMPLES - 1, "one reading for each closed cell, and the last is still open"


@pytest.mark.parametrize("percent", [0.0, 4.0])
def test_growth_below_the_limit_does_not_fire(percent: float) -> None:
    monitor = watch(growing(percent, noise=1.0))

    assert judge_trigger(monitor, "memory_growth > 5% per 10 minutes", window="30m", now=SPAN_SECONDS) is None


def test_growth_of_pure_noise_never_fires() -> None:
    for seed in WEEK_SEEDS:
        monitor = watch(growing(0.0, noise=20.0, seed=seed))
        assert judge_trigger(monitor, "memory_growth > 0.01% per 10 minutes", window="30m", now=SPAN_SECONDS) is None


THERMAL = "temperature trending toward thermal limit"


def hot(start: float, per_sample: float, noise: float = 0.5, seed: int = 0) -> Level:
    rng = random.Random(seed)
    return lambda seq: start + per_sample * seq + rng.gauss(0, noise)


@pytest.mark.parametrize(
    ("level", "fires"),
    [(hot(60, 0.3), True), (hot(60, 0.05), False), (hot(60, 0.0), False), (hot(90, 0.0), True), (hot(84, -0.2), False)],
    ids=["on its way there", "slowly", "steady", "there", "cooling"],
)
def test_temperature_fires_when_it_reaches_the_limit_within_another_window(level: Level, *, fires: bool) -> None:
    monitor = watch(level, field="temperature_celsius")

    firing = judge_trigger(monitor, THERMAL, deployed=("a",), window="30m", now=SPAN_SECONDS)

    assert (firing is not None) is fires
    if firing is not None:
        assert firing.evidence[0].limit == 85.0
        assert "°C" in firing.evidence[0].why


def test_temperature_of_pure_noise_never_fires() -> None:
    for seed in WEEK_SEEDS:
        monitor = watch(hot(70, 0.0, noise=4.0, seed=seed), field="temperature_celsius")
        assert judge_trigger(monitor, THERMAL, deployed=("a",), window="30m", now=SPAN_SECONDS) is None


RISES = "error_rate increasing for 3 consecutive checks"


def errors(rate_of: Callable[[int], float], seed: int = 0) -> Monitor:
    """Forty minutes of samples with 500 requests each, of which a share of each fails by chance."""
    rng, monitor, total = random.Random(seed), Monitor(), 0

    def count(seq: int) -> int:
        nonlocal total
        total += sum(rng.random() < rate_of(seq) for _ in range(500))
        return total

    feed(monitor, "a", count=81, requests_total=lambda seq: 500 * seq, errors_total=count)
    return monitor


def rising(monitor: Monitor, **fields: Any) -> bool:  # noqa: ANN401 - any field of a trigger
    return judge_trigger(monitor, RISES, deployed=("a",), window="5m", now=2400.0, **fields) is not None


def test_an_error_rate_that_rises_from_check_to_check_fires_with_the_rates() -> None:
    monitor = errors(lambda seq: 0.005 + 0.0008 * max(0, seq - 40))

    firing = judge_trigger(monitor, RISES, deployed=("a",), window="5m", now=2400.0)

    assert firing is not None
    assert firing.evidence[0].why.startswith("error rate of group g over 4 checks of 5 min: ")


@pytest.mark.parametrize(
    "rate_of",
    [
        lambda _seq: 0.02,
        lambda seq: 0.05 if seq % 20 < 10 else 0.01,
        lambda seq: 0.2 if seq == 79 else 0.01,
        lambda seq: max(0.001, 0.05 - 0.0006 * seq),
    ],
    ids=["steady", "alternating", "one burst", "falling"],
)
def test_an_error_rate_that_does_not_rise_does_not_fire(rate_of: Callable[[int], float]) -> None:
    assert not any(rising(errors(rate_of, seed)) for seed in range(8))


def test_a_rise_over_too_few_requests_does_not_fire() -> None:
    assert not rising(errors(lambda seq: 0.005 + 0.0008 * max(0, seq - 40)), min_samples=10**6)
