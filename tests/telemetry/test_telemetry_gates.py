import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.evidence import share_holds
from orchestrator.telemetry.gates import CHECKS, judge_gate
from orchestrator.telemetry.judgement import verdict_of
from orchestrator.telemetry.monitor import Monitor
from schemas.conditions import Operator
from schemas.documents import CheckResult
from schemas.policy import CHECK_METRICS, Check, Gate
from schemas.verdicts import Verdict, worst
from tests.telemetry.telemetry_streams import Stream, feed, sample, sketch_of, streams, tell, these, watched

NOW = 300.0  # ten intervals of 30 s


def baseline(group: str = "g", error_rate: float = 0.01, p95: float | None = 0.1) -> Baseline:
    return Baseline(
        group=group,
        error_rate=error_rate,
        error_rate_deviation=0.0,
        error_rate_trend="stable",
        latency_p50_seconds=p95,
        latency_p95_seconds=p95,
        latency_p99_seconds=p95,
        request_count=1000,
        sample_count=20,
        device_count=3,
        window_seconds=86400.0,
    )


def judge(
    monitor: Monitor,
    check_type: str,
    threshold: str,
    *,
    deployed: dict[str, str] | None = None,
    baselines: dict[str, Baseline] | None = None,
    now: float = NOW,
    **fields: object,
) -> CheckResult:
    check = {"type": check_type, "threshold": threshold, "min_samples": 5, **fields}
    gate = Gate.model_validate({"checks": [check]})
    verdict, (result,) = judge_gate(
        gate,
        these(monitor, {"a": "g"} if deployed is None else deployed),
        {"g": baseline()} if baselines is None else baselines,
        monitor,
        version="2",
        now=now,
    )
    assert result.verdict == verdict.word
    assert result.check == check_type
    return result


def test_every_check_of_the_policy_is_defined() -> None:
    assert set(CHECKS) == set(CHECK_METRICS)


# Error rate.


@pytest.mark.parametrize(("errors_each", "verdict"), [(0, "pass"), (3, "pass"), (4, "fail")])
def test_error_rate_is_judged_against_the_baseline_plus_points(
    errors_each: int, verdict: Literal["pass", "fail"]
) -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: errors_each * seq)
    result = judge(monitor, "error_rate", "baseline + 2%", window="15m")
    assert result == CheckResult(
        check="error_rate",
        limit_expr="error_rate <= baseline + 2pp",
        observed=errors_each / 100,
        baseline=0.01,
        limit=0.03,
        samples=1000,
        verdict=verdict,
        why=f"{errors_each}.00% of 1000 requests in group g, limit 3.00% (baseline 1.00% + 2pp)",
    )


def test_error_rate_of_the_worst_group_is_shown_when_a_larger_group_is_well() -> None:
    monitor = Monitor()
    for number in range(9):
        watched(monitor, f"well{number}", "large")
    watched(monitor, "ill", "small", errors_total=lambda seq: 10 * seq)
    deployed = {"ill": "small"} | {f"well{number}": "large" for number in range(9)}
    baselines = {"small": baseline("small"), "large": baseline("large")}
    result = judge(monitor, "error_rate", "baseline + 2%", deployed=deployed, baselines=baselines)
    assert (result.verdict, result.observed, result.samples) == ("fail", 0.1, 1000)
    assert "group small" in result.why


def test_error_rate_counts_only_the_window() -> None:
    monitor = Monitor(longest_seconds=300.0)  # cells of ten seconds
    watched(monitor, "a", errors_total=lambda seq: 50 * min(seq, 5))
    assert judge(monitor, "error_rate", "baseline + 2%", window="140s").observed == 0.0
    assert judge(monitor, "error_rate", "baseline + 2%", window="150s").verdict == "fail"


def test_error_rate_fails_on_the_evidence_at_hand_when_another_device_is_silent() -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: 50 * seq)
    assert judge(monitor, "error_rate", "baseline + 2%", deployed={"a": "g", "b": "g"}).verdict == "fail"


@pytest.mark.parametrize(
    ("threshold", "fields", "why"),
    [
        ("baseline + 2%", {"baselines": {}}, "without a baseline"),
        ("baseline + 2%", {"deployed": {"a": "g", "b": "g"}}, "from b"),
        ("baseline + 2%", {"deployed": {}}, "no devices"),
        ("baseline + 2%", {"min_samples": 1001}, "1000 observations, at least 1001"),
        ("baseline + 2%", {"now": NOW + 91}, "from a"),
        ("0.03", {"deployed": {"a": "g", "b": "other"}}, "from b"),
    ],
)
def test_error_rate_is_inconclusive_when_evidence_is_missing(threshold: str, fields: dict[str, Any], why: str) -> None:
    monitor = Monitor()
    watched(monitor, "a")
    result = judge(monitor, "error_rate", threshold, **fields)
    assert result.verdict == "inconclusive"
    assert why in result.why


def test_error_rate_passes_without_a_baseline_when_the_limit_is_absolute() -> None:
    monitor = Monitor()
    watched(monitor, "a")
    assert judge(monitor, "error_rate", "0.03", baselines={}).verdict == "pass"


def test_error_rate_is_inconclusive_when_it_is_high_and_requests_are_too_few() -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: 90 * seq)
    assert judge(monitor, "error_rate", "baseline + 2%", min_samples=1001).verdict == "inconclusive"


def test_error_rate_is_inconclusive_when_one_device_of_many_counts_no_errors() -> None:
    monitor = Monitor()
    for number in range(10):
        watched(monitor, f"d{number}")
    watched(monitor, "mute", errors_total=None)
    deployed = dict.fromkeys([f"d{number}" for number in range(10)] + ["mute"], "g")
    result = judge(monitor, "error_rate", "baseline + 2%", deployed=deployed)
    assert result.verdict == "inconclusive"
    assert "mute do not count" in result.why


def test_error_rate_is_inconclusive_when_the_device_runs_another_version() -> None:
    monitor = Monitor()
    watched(monitor, "a", version="1")
    assert judge(monitor, "error_rate", "baseline + 2%").verdict == "inconclusive"


# Latency.


@pytest.mark.parametrize(("seconds", "verdict"), [(0.1, "pass"), (0.117, "pass"), (0.121, "fail")])
def test_latency_is_judged_relative_to_the_baseline(seconds: float, verdict: str) -> None:
    monitor = Monitor()
    watched(monitor, "a", latency=sketch_of([seconds] * 20))
    result = judge(monitor, "latency_p95", "baseline + 20%", window="15m")
    assert (result.verdict, result.samples) == (verdict, 200)
    assert result.limit == pytest.approx(0.12)
    assert result.why.endswith("over 200 latencies in group g, limit 120 ms (baseline 100 ms + 20% rel)")


def test_latency_quantile_is_over_all_devices_and_no_average_of_theirs() -> None:
    monitor = Monitor()
    watched(monitor, "fast", latency=sketch_of([0.01] * 99))
    watched(monitor, "slow", latency=sketch_of([5.0]))
    result = judge(monitor, "latency_p95", "baseline + 20%", deployed={"fast": "g", "slow": "g"})
    assert result.observed == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("baselines", [{}, {"g": baseline(p95=None)}])
def test_latency_is_inconclusive_when_the_baseline_has_none(baselines: dict[str, Baseline]) -> None:
    monitor = Monitor()
    watched(monitor, "a", latency=sketch_of([0.1] * 20))
    assert judge(monitor, "latency_p95", "baseline + 20%", baselines=baselines).verdict == "inconclusive"


def test_latency_is_inconclusive_when_nobody_reports_it() -> None:
    monitor = Monitor()
    watched(monitor, "a")
    result = judge(monitor, "latency_p95", "baseline + 20%")
    assert (result.verdict, result.observed, result.samples) == ("inconclusive", None, 0)


# Crashes.


@pytest.mark.parametrize(("limit", "verdict"), [("0", "fail"), ("1", "fail"), ("2", "pass")])
def test_crash_count_is_the_sum_of_restarts_and_reboots(limit: str, verdict: str) -> None:
    monitor = Monitor()
    watched(monitor, "a", restarts_total=lambda seq: int(seq > 5))
    watched(monitor, "b", boot_id=lambda seq: f"boot{int(seq > 5)}")
    result = judge(monitor, "crash_count", limit, deployed={"a": "g", "b": "g"}, window="30m")
    assert (result.verdict, result.observed) == (verdict, 2.0)
    assert "a, b" in result.why


def test_crash_count_fails_at_the_first_crash_when_samples_are_few() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=2, restarts_total=lambda seq: seq)
    assert judge(monitor, "crash_count", "0", now=now, min_samples=1000).verdict == "fail"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"deployed": {}}, "0 samples"),
        ({"deployed": {"a": "g", "b": "g"}}, "from b"),
        ({"min_samples": 12}, "11 samples, at least 12"),
        ({"threshold": "baseline * 2"}, "without a baseline"),
    ],
)
def test_crash_count_is_inconclusive_when_evidence_is_missing(fields: dict[str, Any], why: str) -> None:
    monitor = Monitor()
    watched(monitor, "a")
    result = judge(monitor, "crash_count", **{"threshold": "0", **fields})
    assert result.verdict == "inconclusive"
    assert why in result.why


def test_crash_count_is_inconclusive_when_a_device_counts_no_restarts() -> None:
    monitor = Monitor()
    watched(monitor, "a")
    watched(monitor, "mute", restarts_total=None)
    result = judge(monitor, "crash_count", "0", deployed={"a": "g", "mute": "g"})
    assert result.verdict == "inconclusive"
    assert "mute do not count restarts" in result.why


# Health.


def fleet(
    well: int,
    ill: int,
    **fields: Any,  # noqa: ANN401 - any field of a sample
) -> tuple[Monitor, dict[str, str]]:
    monitor = Monitor()
    for number in range(well):
        watched(monitor, f"well{number:02d}")
    for number in range(ill):
        watched(monitor, f"ill{number:02d}", **(fields or {"healthy": False}))
    names = [f"well{number:02d}" for number in range(well)] + [f"ill{number:02d}" for number in range(ill)]
    return monitor, dict.fromkeys(names, "g")


@pytest.mark.parametrize("check_type", ["application_health", "device_health"])
@pytest.mark.parametrize(
    ("well", "ill", "verdict"), [(20, 0, "pass"), (19, 1, "pass"), (18, 1, "fail"), (0, 1, "fail")]
)
def test_health_is_judged_as_an_exact_share(check_type: str, well: int, ill: int, verdict: str) -> None:
    monitor, deployed = fleet(well, ill)
    result = judge(monitor, check_type, "healthy_percentage >= 95%", deployed=deployed)
    assert (result.verdict, result.observed) == (verdict, well / (well + ill))
    assert result.why.startswith(f"{well} of {well + ill} devices healthy, limit 95.00%")


def test_all_healthy_fails_when_one_device_of_many_is_not() -> None:
    monitor, deployed = fleet(39, 1)
    result = judge(monitor, "application_health", "all_healthy", deployed=deployed)
    assert result.verdict == "fail"
    assert "unhealthy: ill00" in result.why


def test_device_is_not_healthy_when_its_endpoint_is_down() -> None:
    monitor, deployed = fleet(1, 1, endpoint_up=False)
    assert judge(monitor, "application_health", "all_healthy", deployed=deployed).verdict == "fail"


@pytest.mark.parametrize(("falls", "verdict"), [(2, "pass"), (3, "inconclusive")])
@pytest.mark.parametrize("check", ["device_health", "application_health", "version_match"])
def test_nothing_is_conclusive_of_a_device_whose_samples_contradict_each_other(
    check: str, falls: int, verdict: str
) -> None:
    monitor, deployed = fleet(1, 0)
    for number in range(falls):
        tell(monitor, "well00", "g", sample(20 + number, requests_total=100 - number), NOW + number)
    tell(monitor, "well00", "g", sample(30), NOW + falls)
    now = NOW + falls
    result = judge(
        monitor, check, "all_matching" if check == "version_match" else "all_healthy", deployed=deployed, now=now
    )
    assert result.verdict == verdict
    assert ("more than 2 bad samples from well00" in result.why) is (verdict == "inconclusive")


def test_messages_that_are_no_samples_are_bad_samples_of_their_sender() -> None:
    monitor, deployed = fleet(2, 0)
    for _ in range(3):
        monitor.refuse(monitor.find(["well01"]))
    result = judge(monitor, "error_rate", "0.5", deployed=deployed)
    assert result.verdict == "inconclusive"
    assert "more than 2 bad samples from well01" in result.why


@pytest.mark.parametrize("check_type", ["application_health", "device_health"])
@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"deployed": {}}, "0 samples"),
        ({"deployed": dict.fromkeys(["well00", "gone"], "g")}, "from gone"),
        ({"min_samples": 23}, "22 samples, at least 23"),
        ({"now": NOW + 91}, "from well00, well01"),
        ({"threshold": "baseline + 2%"}, "without a baseline"),
    ],
)
def test_health_is_inconclusive_when_evidence_is_missing(check_type: str, fields: dict[str, Any], why: str) -> None:
    monitor, deployed = fleet(2, 0)
    result = judge(monitor, check_type, **{"threshold": "all_healthy", "deployed": deployed, **fields})
    assert result.verdict == "inconclusive"
    assert why in result.why


def test_health_is_inconclusive_when_a_device_does_not_say() -> None:
    monitor, deployed = fleet(1, 1, healthy=None)
    result = judge(monitor, "application_health", "all_healthy", deployed=deployed)
    assert result.verdict == "inconclusive"
    assert "ill00 do not say" in result.why


def test_health_fails_when_the_silent_devices_could_not_save_it() -> None:
    monitor, deployed = fleet(17, 2)
    result = judge(monitor, "device_health", "healthy_percentage >= 95%", deployed=deployed | {"silent": "g"})
    assert (result.verdict, result.observed) == ("fail", 17 / 20)


def test_health_is_inconclusive_when_the_silent_devices_decide() -> None:
    monitor, deployed = fleet(18, 1)
    result = judge(monitor, "device_health", "healthy_percentage >= 95%", deployed=deployed | {"silent": "g"})
    assert result.verdict == "inconclusive"


@given(st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 500), st.integers(1, 500), st.integers(0, 100_000))
def test_share_is_compared_in_exact_integers(operator: Operator, part: int, whole: int, thousandths: int) -> None:
    part = min(part, whole)
    left, right = part * 100_000, thousandths * whole
    expected = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
    assert share_holds(operator, part, whole, thousandths / 100_000) is expected


# The gate.


def test_gate_is_the_worst_of_its_checks() -> None:
    monitor = Monitor()
    watched(monitor, "a", healthy=False)
    checks: list[dict[str, Any]] = [
        {"type": "error_rate", "threshold": "baseline + 2%"},
        {"type": "latency_p95", "threshold": "baseline + 2%"},
        {"type": "application_health", "threshold": "all_healthy", "min_samples": 5},
    ]
    verdicts = []
    for count in (1, 2, 3):
        gate = Gate.model_validate({"checks": checks[:count]})
        verdict, results = judge_gate(
            gate, these(monitor, {"a": "g"}), {"g": baseline()}, monitor, version="2", now=NOW
        )
        assert [result.check for result in results] == [check["type"] for check in checks[:count]]
        verdicts.append(verdict)
    assert verdicts == [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]


def test_gate_without_checks_is_inconclusive() -> None:
    monitor = Monitor()
    watched(monitor, "a")
    gate = Gate.model_construct(checks=())
    assert judge_gate(gate, these(monitor, {"a": "g"}), {}, monitor, version="2", now=NOW) == (
        Verdict.INCONCLUSIVE,
        (),
    )


GATE = Gate(
    checks=tuple(
        Check.model_validate({"type": check_type, "threshold": threshold, "window": window, "min_samples": 1})
        for check_type, threshold in [
            ("error_rate", "baseline + 2%"),
            ("latency_p95", "0.5"),
            ("crash_count", "1"),
            ("application_health", "all_healthy"),
            ("device_health", "healthy_percentage >= 50%"),
        ]
        for window in (None, "1m")
    )
)


@given(streams(), st.sets(st.sampled_from(["a", "b", "c", "never seen"])), st.sampled_from([0.0, 500.0]))
def test_gate_of_any_stream_is_the_worst_check_and_passes_nobody_unseen(
    stream: Stream, names: set[str], later: float
) -> None:
    monitor = Monitor()
    for device, new, at in stream:
        tell(monitor, device, "g", new, at)
    now = (stream[-1][2] if stream else 0.0) + later
    deployed = {name: "g" if name in "ab" else "other" for name in names}
    verdict, results = judge_gate(GATE, these(monitor, deployed), {"g": baseline()}, monitor, version="2", now=now)
    assert verdict is worst(Verdict.from_word(result.verdict) for result in results)
    silent = monitor.window(names, version="2", seconds=None, now=now).silent
    for result in results:
        numbers = (result.observed, result.baseline, result.limit)
        assert all(math.isfinite(number) for number in numbers if number is not None)
        if result.verdict == "pass":
            assert names
            assert not silent
            assert result.samples > 0


def test_no_result_and_no_sample_holds_a_nan() -> None:
    with pytest.raises(ValidationError):
        sample(1, cpu_ratio=float("nan"))
    good = judge(Monitor(), "error_rate", "0")
    with pytest.raises(ValidationError):
        CheckResult.model_validate({**good.model_dump(), "observed": float("nan")})


def test_why_stays_within_the_wire_when_many_devices_with_long_names_are_named() -> None:
    names = [f"{number:02d}-{'x' * 60}" for number in range(60)]
    monitor = Monitor()
    for number, name in enumerate(names[:40]):
        feed(monitor, name, healthy=(None, False)[number % 2])
    result = judge(monitor, "device_health", "all_healthy", deployed=dict.fromkeys(names, "g"))
    assert len(result.why) <= 1024


# Dry runs.


def test_a_dry_run_is_judged_and_shown_and_has_no_say() -> None:
    monitor, deployed = fleet(1, 1)
    checks = [
        {"type": "crash_count", "threshold": 0, "min_samples": 5},
        {"type": "application_health", "threshold": "all_healthy", "min_samples": 5, "dry_run": True},
    ]
    gate = Gate.model_validate({"checks": checks})
    verdict, (counts, tried) = judge_gate(
        gate, these(monitor, deployed), {"g": baseline()}, monitor, version="2", now=NOW
    )

    assert (verdict.word, counts.verdict, counts.dry_run) == ("pass", "pass", False)
    assert (tried.verdict, tried.dry_run) == ("fail", True)


def test_a_gate_of_dry_runs_alone_is_refused_because_nothing_could_ever_pass() -> None:
    check = {"type": "application_health", "threshold": "all_healthy", "dry_run": True}
    with pytest.raises(ValueError, match="let one of them count"):
        Gate.model_validate({"checks": [check]})
    assert verdict_of(()).word == "inconclusive"
