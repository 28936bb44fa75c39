"""Checks and triggers on processor use, quality, latency percentiles, logs, throttling, versions and coverage."""

from typing import Any

import pytest

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.monitor import Monitor
from schemas.documents import CheckResult
from schemas.policy import Gate
from tests.telemetry.telemetry_streams import feed, sketch_of, these, watched
from tests.telemetry.test_telemetry_gates import NOW, baseline, judge
from tests.telemetry.test_telemetry_triggers import judge as judge_trigger


def normal(**changes: Any) -> dict[str, Baseline]:  # noqa: ANN401 - any field of a baseline
    return {"g": baseline().model_copy(update=changes)}


# Latency percentiles.


def latencies(fast: float, slow: float, slow_of_ten: int) -> Monitor:
    monitor = Monitor()
    watched(monitor, "a", latency=sketch_of([fast] * (10 - slow_of_ten) + [slow] * slow_of_ten))
    return monitor


@pytest.mark.parametrize(
    ("check", "slow_of_ten", "verdict"),
    [
        ("latency_p50", 4, "pass"), ("latency_p50", 6, "fail"),
        ("latency_p95", 0, "pass"), ("latency_p95", 1, "fail"),
        ("latency_p99", 0, "pass"), ("latency_p99", 1, "fail"),
    ],
)  # fmt: skip
def test_each_percentile_is_judged_against_its_own_baseline(check: str, slow_of_ten: int, verdict: str) -> None:
    result = judge(latencies(0.1, 0.5, slow_of_ten), check, "baseline * 1.5")

    assert (result.verdict, result.baseline) == (verdict, 0.1)


def test_a_percentile_is_worst_of_the_sketches_and_what_other_devices_report_of_their_own() -> None:
    monitor = latencies(0.1, 0.1, 0)
    watched(monitor, "b", latency_p95_seconds=0.4)

    result = judge(monitor, "latency_p95", "baseline * 1.5", deployed={"a": "g", "b": "g"})

    assert (result.verdict, result.samples) == ("fail", 10)
    assert result.observed == pytest.approx(0.4, rel=0.02)
    assert result.why.startswith("p95 about 402 ms, the median of 10 that devices report in group g")


def test_a_percentile_without_a_baseline_of_latencies_is_inconclusive_and_fires_nothing() -> None:
    monitor = latencies(0.1, 9.0, 9)

    result = judge(monitor, "latency_p99", "baseline * 1.5", baselines=normal(latency_p99_seconds=None))

    assert result.verdict == "inconclusive"
    assert "there is no limit without a baseline" in result.why
    assert judge_trigger(monitor, "latency_p99 > baseline * 2.0", baselines=()) is None


@pytest.mark.parametrize("percentile", ["p50", "p95", "p99"])
@pytest.mark.parametrize(("slow_of_ten", "fires"), [(0, False), (6, True)])
def test_a_latency_spike_fires_above_twice_the_baseline(percentile: str, slow_of_ten: int, *, fires: bool) -> None:
    monitor = latencies(0.1, 0.5, slow_of_ten)

    firing = judge_trigger(monitor, f"latency_{percentile} > baseline * 2.0", deployed=("a",), min_samples=5)

    assert (firing is not None) is fires
    if firing is not None:
        assert (firing.devices, firing.evidence[0].baseline, firing.evidence[0].limit) == (("a",), 0.1, 0.2)


# Processor use.


@pytest.mark.parametrize(("used", "verdict"), [(0.65, "pass"), (0.75, "fail")])
def test_processor_use_is_the_mean_of_the_group_against_its_baseline(used: float, verdict: str) -> None:
    monitor = Monitor()
    watched(monitor, "a", cpu_ratio=used)

    result = judge(monitor, "cpu", "baseline + 20%", baselines=normal(cpu_ratio=0.5))

    assert (result.verdict, result.samples) == (verdict, 10)
    assert result.observed == pytest.approx(used)
    assert result.limit == pytest.approx(0.7)


def test_processor_use_that_one_device_does_not_measure_is_inconclusive() -> None:
    monitor = Monitor()
    watched(monitor, "a", cpu_ratio=0.1)
    watched(monitor, "b")

    result = judge(monitor, "cpu", "0.5", deployed={"a": "g", "b": "g"})

    assert result.verdict == "inconclusive"
    assert "b do not measure processor use" in result.why


@pytest.mark.parametrize(("used", "fires"), [(0.9, False), (1.1, True)])
def test_processor_use_fires_above_its_baseline(used: float, *, fires: bool) -> None:
    monitor = Monitor()
    watched(monitor, "a", cpu_ratio=used)

    assert (judge_trigger(monitor, "cpu > 1.0", deployed=("a",), min_samples=5) is not None) is fires


# Quality: the application's own measures.


@pytest.mark.parametrize(("precision", "verdict"), [(0.93, "pass"), (0.80, "fail")])
def test_quality_may_fall_so_far_below_its_baseline(precision: float, verdict: str) -> None:
    monitor = Monitor()
    watched(monitor, "a", quality={"precision": precision, "recall": 0.99})

    result = judge(monitor, "quality", "baseline - 5%", baselines=normal(quality={"precision": 0.95, "recall": 0.99}))

    assert result.verdict == verdict
    if verdict == "fail":
        assert result.limit == pytest.approx(0.95 * 0.95)
        assert result.why.startswith("precision 0.8 over 10 samples in group g")


def test_quality_that_the_new_version_no_longer_measures_is_inconclusive() -> None:
    monitor = Monitor()
    watched(monitor, "a", quality={"recall": 0.99})

    result = judge(monitor, "quality", "baseline - 5%", baselines=normal(quality={"precision": 0.95, "recall": 0.99}))

    assert result.verdict == "inconclusive"
    assert "a do not measure precision" in result.why


def test_quality_that_only_the_new_version_measures_has_nothing_to_be_compared_with() -> None:
    monitor = Monitor()
    watched(monitor, "a", quality={"recall": 0.99, "novelty": 0.01})

    assert judge(monitor, "quality", "baseline - 5%", baselines=normal(quality={"recall": 0.99})).verdict == "pass"


def test_no_quality_at_all_is_inconclusive() -> None:
    monitor = Monitor()
    watched(monitor, "a")

    result = judge(monitor, "quality", "0.9")

    assert (result.verdict, result.observed) == ("inconclusive", None)


# What devices count: errors in the log, throttling.


@pytest.mark.parametrize(
    ("check", "field", "noun"),
    [
        ("log_errors", "log_errors_total", "errors in the log"),
        ("throttle_events", "throttle_events_total", "times throttled"),
    ],
)
def test_events_are_summed_over_the_devices_and_named(check: str, field: str, noun: str) -> None:
    monitor = Monitor()
    rising: dict[str, Any] = {field: lambda seq: seq}
    steady: dict[str, Any] = {field: 7}
    watched(monitor, "a", **rising)
    watched(monitor, "b", **steady)

    result = judge(monitor, check, "5", deployed={"a": "g", "b": "g"})

    assert (result.verdict, result.observed, result.limit) == ("fail", 10.0, 5.0)
    assert result.why == f"10 {noun} of 2 devices, limit 5; a"
    assert judge(monitor, check, "10", deployed={"a": "g", "b": "g"}).verdict == "pass"


@pytest.mark.parametrize("check", ["log_errors", "throttle_events"])
def test_events_that_a_device_does_not_count_are_inconclusive(check: str) -> None:
    monitor = Monitor()
    watched(monitor, "a")

    result = judge(monitor, check, "0")

    assert result.verdict == "inconclusive"
    assert "a do not count" in result.why


@pytest.mark.parametrize(
    ("check", "field"), [("log_errors", "log_errors_total"), ("throttle_events", "throttle_events_total")]
)
def test_events_of_the_version_before_do_not_count(check: str, field: str) -> None:
    monitor = Monitor()
    before: dict[str, Any] = {field: lambda seq: 9 * seq}
    after: dict[str, Any] = {field: 90}
    feed(monitor, "a", version="1", **before)
    now = feed(monitor, "a", start=330.0, first=11, **after)

    assert judge(monitor, check, "0", now=now).verdict == "pass"


# Version match and coverage.


def test_every_device_must_name_the_version_it_was_given() -> None:
    monitor = Monitor()
    watched(monitor, "a")
    watched(monitor, "b", version="1")

    result = judge(monitor, "version_match", "all_matching", deployed={"a": "g", "b": "g"})

    assert (result.verdict, result.observed) == ("fail", 0.5)
    assert result.why == "1 of 2 devices on version 2, limit 100.00%; on another: b"
    assert judge(monitor, "version_match", "all_matching").verdict == "pass"


def test_a_device_that_names_no_version_is_in_doubt() -> None:
    monitor = Monitor()
    watched(monitor, "a", version=None)

    result = judge(monitor, "version_match", "all_matching")

    assert result.verdict == "inconclusive"
    assert "a do not name a version" in result.why


def covered(reached: tuple[int, int] | None, threshold: str = "deployed_percentage >= 95%") -> CheckResult:
    gate = Gate.model_validate({"checks": [{"type": "fleet_coverage", "threshold": threshold}]})
    _, (result,) = judge_gate(gate, these(Monitor(), {}), {}, Monitor(), version="2", now=NOW, coverage=reached)
    return result


@pytest.mark.parametrize(
    ("reached", "verdict"),
    [((95, 100), "pass"), ((94, 100), "fail"), ((19, 20), "pass"), ((18, 20), "fail"), ((0, 0), "inconclusive"),
     (None, "inconclusive")],
)  # fmt: skip
def test_coverage_is_an_exact_share_of_the_targets(reached: tuple[int, int] | None, verdict: str) -> None:
    result = covered(reached)

    assert result.verdict == verdict
    if reached and reached[1]:
        assert result.why == f"{reached[0]} of {reached[1]} targets run it for good, limit 95.00%"


# After a rollback: whatever version each device runs.


@pytest.mark.parametrize(("errors_each", "verdict"), [(1, "pass"), (9, "fail")])
def test_without_a_version_whatever_each_device_runs_is_judged(errors_each: int, verdict: str) -> None:
    monitor = Monitor()
    watched(monitor, "a", version="1", errors_total=lambda seq: errors_each * seq)
    watched(monitor, "b", version="0", errors_total=lambda seq: errors_each * seq)
    check = {"type": "error_rate", "threshold": "baseline + 2%", "min_samples": 5}

    gate, there = Gate.model_validate({"checks": [check]}), these(monitor, {"a": "g", "b": "g"})
    judged, _ = judge_gate(gate, there, normal(), monitor, version=None, now=NOW)

    assert judged.word == verdict
