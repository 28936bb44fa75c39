from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.condition_text import parse_duration, parse_threshold, parse_trigger
from schemas.conditions import (
    Absolute,
    BaselinePlus,
    BaselineTimes,
    Condition,
    Limit,
    Metric,
    Operator,
    check_sense,
    exact_duration,
    exceeds_percent,
    percent_of,
)
from schemas.errors import PolicyError


def condition(metric: Metric, operator: Operator, limit: Limit, window_seconds: float | None = None) -> Condition:
    return Condition(metric=metric, operator=operator, limit=limit, window_seconds=window_seconds)


@pytest.mark.parametrize(
    ("metric", "text", "operator", "limit", "printed"),
    [
        (Metric.ERROR_RATE, "baseline + 2%", "<=", BaselinePlus(amount=0.02, relative=False), "baseline + 2pp"),
        (Metric.ERROR_RATE, "baseline + 5%", "<=", BaselinePlus(amount=0.05, relative=False), "baseline + 5pp"),
        (Metric.ERROR_RATE, "baseline + 2pp", "<=", BaselinePlus(amount=0.02, relative=False), "baseline + 2pp"),
        (Metric.ERROR_RATE, "baseline + 20% rel", "<=", BaselinePlus(amount=0.2, relative=True), "baseline + 20% rel"),
        (Metric.ERROR_RATE, "baseline * 1.5", "<=", BaselineTimes(factor=1.5), "baseline * 1.5"),
        (Metric.ERROR_RATE, "0.02", "<=", Absolute(value=0.02), "2%"),
        (Metric.ERROR_RATE, "2%", "<=", Absolute(value=0.02), "2%"),
        (Metric.LATENCY_P95, "baseline + 20%", "<=", BaselinePlus(amount=0.2, relative=True), "baseline + 20% rel"),
        (Metric.LATENCY_P95, "baseline + 30%", "<=", BaselinePlus(amount=0.3, relative=True), "baseline + 30% rel"),
        (Metric.LATENCY_P95, "0.5", "<=", Absolute(value=0.5), "500 ms"),
        (Metric.CRASH_COUNT, "0", "<=", Absolute(value=0.0), "0"),
        (Metric.HEALTHY_PERCENTAGE, "all_healthy", ">=", Absolute(value=1.0), "100%"),
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage >= 95%", ">=", Absolute(value=0.95), "95%"),
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage >= 98%", ">=", Absolute(value=0.98), "98%"),
        (Metric.HEALTHY_PERCENTAGE, "95%", ">=", Absolute(value=0.95), "95%"),
    ],
)
def test_a_threshold_is_understood_and_printed_back(
    metric: Metric, text: str, operator: Operator, limit: Limit, printed: str
) -> None:
    parsed = parse_threshold(text, metric)

    assert parsed == condition(metric, operator, limit)
    assert str(parsed) == f"{metric} {operator} {printed}"
    check_sense(parsed, must_hold=True)


@pytest.mark.parametrize(
    ("text", "metric", "limit", "window_seconds", "printed"),
    [
        ("device restarts > 3 in 5 minutes", Metric.DEVICE_RESTARTS, Absolute(value=3), 300.0,
         "device restarts > 3 in 5 min"),
        ("health endpoint unreachable for > 2 minutes", Metric.ENDPOINT_DOWN, Absolute(value=120), None,
         "health endpoint unreachable for > 2 min"),
        ("failed devices > 20% of wave", Metric.FAILED_PERCENTAGE, Absolute(value=0.2), None,
         "failed devices > 20% of wave"),
        ("error_rate > baseline + 10%", Metric.ERROR_RATE, BaselinePlus(amount=0.1, relative=False), None,
         "error_rate > baseline + 10pp"),
        ("error_rate > 5%", Metric.ERROR_RATE, Absolute(value=0.05), None, "error_rate > 5%"),
    ],
)  # fmt: skip
def test_a_trigger_is_understood_and_printed_back(
    text: str, metric: Metric, limit: Limit, window_seconds: float | None, printed: str
) -> None:
    parsed = parse_trigger(text)

    assert parsed == condition(metric, ">", limit, window_seconds)
    assert str(parsed) == printed
    check_sense(parsed, must_hold=False)


@pytest.mark.parametrize("text", ["error_rate > baseline + 10%", "error_rate > 5%", "device restarts > 3 in 5 minutes"])
def test_what_is_printed_is_understood_the_same(text: str) -> None:
    assert parse_trigger(str(parse_trigger(text))) == parse_trigger(text)


@pytest.mark.parametrize(
    "number", ["0.99999999999999", "59.99999999999999", "3599.9999999999999", "0.25", "218446737095516161"]
)
@pytest.mark.parametrize("unit", ["ms", "s", "m", "h"])
def test_a_duration_is_printed_as_it_will_be_read(number: str, unit: str) -> None:
    printed = exact_duration(parse_duration(f"{number} {unit}"))
    assert exact_duration(parse_duration(printed)) == printed


@pytest.mark.parametrize(
    ("text", "metric", "why"),
    [
        ("baseline + ", Metric.ERROR_RATE, "column"),
        ("baseline - 2%", Metric.ERROR_RATE, "column 10"),
        ("base + 2%", Metric.ERROR_RATE, "column 1"),
        ("", Metric.ERROR_RATE, "column 1"),
        ("baseline + 2% 3", Metric.ERROR_RATE, "column"),
        ("-1", Metric.CRASH_COUNT, "column 1"),
        ("nan", Metric.CRASH_COUNT, "column 1"),
        ("growth < 1% per 10m", Metric.ERROR_RATE, "column 1"),
        ("healthy_percentage >= 95%", Metric.ERROR_RATE, "is about healthy_percentage"),
        ("all_healthy", Metric.CRASH_COUNT, "is about healthy_percentage"),
        ("baseline * 0", Metric.ERROR_RATE, "greater than 0"),
        ("5%", Metric.LATENCY_P95, "5% of what"),
        ("9" * 400, Metric.CRASH_COUNT, "finite"),
    ],
)
def test_a_threshold_that_does_not_parse_is_refused_with_its_place(text: str, metric: Metric, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        parse_threshold(text, metric)


@pytest.mark.parametrize(
    "text",
    [
        "p95_latency > baseline * two",
        "memory_growth > 5%",
        "error_rate increasing for consecutive checks",
        "temperature trending toward the limit",
        "device restarts > 3",
        "device restarts > 3 in 5 fortnights",
        "failed devices > 20%",
        "error_rate >",
        "error_rate baseline",
        "",
    ],
)
def test_a_trigger_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="cannot read it from column"):
        parse_trigger(text)


def test_a_caret_points_below_the_character_that_is_wrong() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_threshold("baseline - 2%", Metric.ERROR_RATE)

    assert str(caught.value).splitlines()[1:] == ["baseline - 2%", "         ^"]


def test_a_text_of_the_full_size_is_refused_in_time() -> None:
    with pytest.raises(PolicyError):
        parse_trigger("error_rate > baseline + " * 600)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage <= 95%"),
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage < 95%"),
        (Metric.HEALTHY_PERCENTAGE, "95"),
        (Metric.HEALTHY_PERCENTAGE, "0"),
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage >= 0%"),
        (Metric.HEALTHY_PERCENTAGE, "healthy_percentage >= 101%"),
        (Metric.ERROR_RATE, "2"),
        (Metric.ERROR_RATE, "100%"),
        (Metric.ERROR_RATE, "baseline + 100%"),
        (Metric.ERROR_RATE, "baseline + 200pp"),
    ],
)
def test_a_threshold_that_can_never_stop_anything_makes_no_sense(metric: Metric, text: str) -> None:
    with pytest.raises(PolicyError, match=r"turn the comparison round|can never stop anything"):
        check_sense(parse_threshold(text, metric), must_hold=True)


@pytest.mark.parametrize(
    "text",
    [
        "device restarts < 3 in 5 minutes",
        "error_rate <= baseline + 10%",
        "error_rate > 5",
        "error_rate > 100%",
        "failed devices > 100% of wave",
        "failed devices > 120% of wave",
    ],
)
def test_a_trigger_that_can_never_fire_or_always_does_makes_no_sense(text: str) -> None:
    with pytest.raises(PolicyError, match=r"turn the comparison round|can never stop anything"):
        check_sense(parse_trigger(text), must_hold=False)


def test_a_trigger_on_what_has_no_baseline_makes_no_sense() -> None:
    never = condition(Metric.DEVICE_RESTARTS, ">", BaselineTimes(factor=2))

    with pytest.raises(PolicyError, match="there is no baseline of device restarts"):
        check_sense(never, must_hold=False)


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [("<", True, False, False), ("<=", True, True, False), (">", False, False, True), (">=", False, True, True)],
)
def test_a_condition_holds_up_to_its_boundary(operator: Operator, *, below: bool, equal: bool, above: bool) -> None:
    given_condition = condition(Metric.CRASH_COUNT, operator, Absolute(value=2))

    assert [given_condition.holds(observed, 2.0) for observed in (1.999, 2.0, 2.001)] == [below, equal, above]


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
def test_nan_never_holds(operator: Operator) -> None:
    assert not condition(Metric.CRASH_COUNT, operator, Absolute(value=2)).holds(float("nan"), 2.0)


def test_a_limit_that_needs_a_baseline_is_unknown_without_one() -> None:
    limits: list[Limit] = [
        Absolute(value=0.3), BaselinePlus(amount=0.02, relative=False), BaselinePlus(amount=0.5, relative=True),
        BaselineTimes(factor=2),
    ]  # fmt: skip
    conditions = [condition(Metric.ERROR_RATE, "<=", limit) for limit in limits]

    assert [each.limit_value(0.1) for each in conditions] == [0.3, pytest.approx(0.12), pytest.approx(0.15), 0.2]
    assert [each.limit_value(None) for each in conditions] == [0.3, None, None, None]
    assert [each.needs_baseline for each in conditions] == [False, True, True, True]


def test_scaling_divides_windows_and_durations_and_nothing_else() -> None:
    restarts = parse_trigger("device restarts > 3 in 5 minutes").scaled(60)
    down = parse_trigger("health endpoint unreachable for > 2 minutes").scaled(60)
    rate = parse_trigger("error_rate > baseline + 10%")

    assert (restarts.window_seconds, restarts.limit) == (5.0, Absolute(value=3))
    assert down.limit == Absolute(value=2.0)
    assert rate.scaled(60) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15m", 900.0), ("24h", 86_400.0), ("30s", 30.0), ("5 minutes", 300.0), ("1.5 hours", 5400.0), ("1 min", 60.0),
     ("1 second", 1.0), ("10 m", 600.0)],
)  # fmt: skip
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "15", "m", "-5m", "5 mins", "5mm", "1e3s", "5 m 3 s"])
def test_what_is_no_duration_above_zero_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_duration(text)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 100_000))
def test_a_share_is_compared_exactly(part: int, whole: int, thousandths: int) -> None:
    exact = Fraction(part, whole) > Fraction(thousandths, 100_000)

    assert exceeds_percent(part, whole, thousandths / 1000) is exact


@given(st.integers(0, 10**6), st.integers(0, 100_000))
def test_a_percentage_of_a_number_is_rounded_exactly(whole: int, thousandths: int) -> None:
    exact = Fraction(whole * thousandths, 100_000)

    assert percent_of(whole, thousandths / 1000) == (floor(exact), ceil(exact))


@pytest.mark.parametrize("whole", [0, -1])
def test_there_is_no_share_of_nothing(whole: int) -> None:
    with pytest.raises(ValueError, match="a share of nothing"):
        exceeds_percent(0, whole, 5)


def test_five_of_a_hundred_are_not_more_than_five_percent() -> None:
    assert [exceeds_percent(failed, 100, 5.0) for failed in (5, 6)] == [False, True]
    assert [exceeds_percent(failed, 1000, 0.1) for failed in (1, 2)] == [False, True]


def test_a_share_is_above_its_limit_from_the_very_next_device_on() -> None:
    for percent in range(1, 100):
        for whole in range(1, 200):
            allowed = percent * whole // 100
            above = [exceeds_percent(part, whole, percent) for part in (allowed, allowed + 1)]
            assert above == [False, True], f"{allowed} of {whole}, {percent}%"
