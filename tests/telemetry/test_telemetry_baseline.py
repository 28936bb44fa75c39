import math
from itertools import product
from statistics import median, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.telemetry.baseline import Baseline, deviation, digest, trend
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.sketch import Sketch, merge
from tests.telemetry.telemetry_streams import Stream, brought, feed, sample, sketch_of, streams, tell

HOUR = 3600.0


def baseline_of(monitor: Monitor, *, now: float, min_samples: int = 1, group: str = "g") -> Baseline | None:
    return monitor.baseline(group, now=now, seconds=24 * HOUR, excluding_version="2", min_samples=min_samples)


@given(streams(), st.sampled_from([20.0, 300.0, 2880.0]), st.sampled_from([0.0, 25.0, 500.0]))
def test_baseline_is_what_a_slow_reading_of_the_stream_gives(stream: Stream, seconds: float, later: float) -> None:
    monitor = Monitor(history_seconds=2880.0, longest_seconds=300.0)  # intervals and cells of 10 s
    for device, new, at in stream:
        tell(monitor, device, "g", new, at)
    now = (stream[-1][2] if stream else 0.0) + later

    def is_there(device: str) -> bool:
        runs = brought(stream, device)
        if not runs or runs[-1][0].sample.version in (None, "2"):
            return False
        return runs[-1][-1].at >= (now - seconds) // 10 * 10

    counted = [
        (device, entry)
        for device in "abc"
        for run in brought(stream, device)
        for entry in run
        if not entry.first and not entry.bad and entry.sample.version not in (None, "2")
        if now - 2880.0 < entry.at // 10 * 10 + 10 and now - seconds < entry.at // 10 * 10 + 10
    ]
    requests, errors = sum(e.requests for _, e in counted), sum(e.errors for _, e in counted)
    baseline = monitor.baseline("g", now=now, seconds=seconds, excluding_version="2", min_samples=2)
    if min(requests, len(counted)) < 2:
        assert baseline is None
        return
    intervals: dict[float, list[int]] = {}
    for _, entry in counted:
        sums = intervals.setdefault(entry.at // 10 * 10, [0, 0])
        sums[0] += entry.requests
        sums[1] += entry.errors
    points = sorted((at, min(sums[1] / sums[0], 1.0)) for at, sums in intervals.items() if sums[0])
    latency = merge(*(Sketch.from_wire(e.sample.latency) for _, e in counted if e.sample.latency is not None))
    assert baseline == Baseline(
        group="g",
        error_rate=min(errors / requests, 1.0),
        error_rate_deviation=pstdev([rate for _, rate in points]),
        error_rate_trend=trend(points),
        latency_p50_seconds=latency.quantile(0.5),
        latency_p95_seconds=latency.quantile(0.95),
        latency_p99_seconds=latency.quantile(0.99),
        request_count=requests,
        sample_count=len(counted),
        device_count=len(list(filter(is_there, "abc"))),
        window_seconds=seconds,
    )


def test_baseline_has_no_latency_when_nobody_reports_it() -> None:
    monitor = Monitor()
    baseline = baseline_of(monitor, now=feed(monitor, "a", version="1"))
    assert baseline is not None
    assert baseline.latency_p95_seconds is None


def test_baseline_merges_the_latencies_of_more_samples_than_it_keeps_apart() -> None:
    monitor = Monitor()
    for seq in range(1001):  # in one interval
        latency = sketch_of([0.2 if seq <= 600 else 0.1])
        tell(monitor, "a", "g", sample(seq, version="1", latency=latency), seq / 10)
    baseline = baseline_of(monitor, now=100.0)
    assert baseline is not None
    assert baseline.latency_p50_seconds == pytest.approx(0.2, rel=0.02)


def test_baseline_leaves_out_samples_without_a_version() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version=None)
    assert baseline_of(monitor, now=now) is None


def test_baseline_leaves_out_samples_that_the_caller_excludes() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="1")
    for seq in range(30):
        odd = sample(seq, version="1", errors_total=seq * 90)
        tell(monitor, "b", "g", odd, now, is_normal=False)
    baseline = baseline_of(monitor, now=now)
    assert baseline is not None
    assert (baseline.device_count, baseline.error_rate) == (1, 0.0)


@pytest.mark.parametrize(("count", "exists"), [(20, False), (21, True)])
def test_baseline_needs_its_minimum_of_samples(count: int, *, exists: bool) -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="1", count=count)  # the first brings nothing
    assert (baseline_of(monitor, now=now, min_samples=20) is not None) is exists


@pytest.mark.parametrize(("each", "exists"), [(0, False), (1, True)])
def test_baseline_needs_its_minimum_of_requests(each: int, *, exists: bool) -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="1", count=21, requests_total=lambda seq: seq * each)
    assert (baseline_of(monitor, now=now, min_samples=20) is not None) is exists
    assert baseline_of(monitor, now=now, min_samples=20, group="other") is None


def test_baseline_of_a_group_that_only_ran_the_excluded_version_is_none() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="2", count=100)
    assert baseline_of(monitor, now=now) is None


def test_baseline_forgets_what_is_older_than_the_history() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="1", count=100)
    assert baseline_of(monitor, now=now + 23 * HOUR) is not None
    assert baseline_of(monitor, now=now + 25 * HOUR) is None


def test_devices_that_invent_versions_leave_the_first_ones_whole() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", version="1", count=9)
    for number in range(100):
        for seq in range(2):
            tell(monitor, f"d{number}", "g", sample(seq, version=f"odd-{number}"), now)
    baseline = baseline_of(monitor, now=now)
    assert baseline is not None
    assert baseline.request_count == 800 + 15 * 100


def slow_change(points: list[tuple[float, float]]) -> float:
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in product(points, points) if a[0] < b[0]]
    return median(slopes) * (points[-1][0] - points[0][0])


@given(st.lists(st.floats(0, 1), min_size=8, max_size=30))
def test_trend_is_the_sign_of_the_median_slope_beyond_the_noise(rates: list[float]) -> None:
    points = [(300.0 * index, rate) for index, rate in enumerate(rates)]
    change, tolerance = slow_change(points), max(0.001, 2 * pstdev(rates))
    expected = "stable" if math.fabs(change) <= tolerance else "increasing" if change > 0 else "decreasing"
    assert trend(points) == expected


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.01 + 0.001 * n for n in range(12)], "increasing"),
        ([0.03 - 0.001 * n for n in range(12)], "decreasing"),
        ([0.01, 0.012] * 10, "stable"),
        ([0.01] * 11 + [0.9], "stable"),  # one odd interval turns nothing
        ([0.01 + 0.00001 * n for n in range(12)], "stable"),  # too little to matter
        ([0.0, 0.5, 1.0], "stable"),  # too few to say
        ([], "stable"),
    ],
)
def test_trend_of_known_lines(rates: list[float], expected: str) -> None:
    assert trend([(300.0 * index, rate) for index, rate in enumerate(rates)]) == expected


def test_deviation_of_nothing_is_zero() -> None:
    assert deviation([]) == 0.0
    assert deviation([0.5]) == 0.0


def make(group: str = "g", error_rate: float = 0.01) -> Baseline:
    return Baseline(
        group=group,
        error_rate=error_rate,
        error_rate_deviation=0.0,
        error_rate_trend="stable",
        latency_p50_seconds=0.1,
        latency_p95_seconds=0.2,
        latency_p99_seconds=None,
        request_count=1000,
        sample_count=20,
        device_count=3,
        window_seconds=86400.0,
    )


def test_digest_is_the_same_in_any_order_and_changes_with_any_value() -> None:
    one, two = make("one"), make("two")
    first = digest({"one": one, "two": two})
    assert first == digest({"two": two, "one": Baseline.model_validate_json(one.model_dump_json())})
    assert first != digest({"one": one, "two": make("two", 0.02)})
    assert first != digest({"one": one})
    assert len(first) == 64


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_baseline_refuses_a_rate_that_is_none(bad: float) -> None:
    with pytest.raises(ValidationError):
        make(error_rate=bad)
