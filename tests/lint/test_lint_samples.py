"""L001 where evidence is wanting: what devices can send, against what a judgement waits for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lint.numbers import points_to_tell
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.readings import Readings
from orchestrator.telemetry.trends import fit
from tests.lint.lint_bench import REFERENCE, found, make_facts, make_group, make_policy

HEALTHY = {"type": "application_health", "threshold": "all_healthy"}
FEW = {"type": "crash_count", "threshold": 0, "window": "5m"}


def make_canary_gate(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"canary_gate": {"checks": list(checks)}, "wave_gate": {"checks": [HEALTHY]}}


def test_too_little_traffic_for_min_samples_is_computed() -> None:
    groups = {"vision": make_group(100, 3, requests_per_minute=0.2)}

    findings = found("L001", REFERENCE, make_facts(groups=groups))

    assert [(each.severity, each.where) for each in findings] == [
        ("warning", "health_gates.canary_gate.checks[0].min_samples"),
        ("warning", "health_gates.canary_gate.checks[1].min_samples"),
    ]
    assert findings[0].message == (
        "group vision (3 devices) sends about 9 requests in 15 min, 20 are needed: the verdict stays inconclusive"
    )
    assert findings[0].remedy == "min_samples: 4, or a window and a soak of 34 min"


@pytest.mark.parametrize(("per_minute", "severities"), [(0.445, []), (0.444, ["warning"]), (0.0445, ["warning"]),
                                                        (0.0444, ["error"]), (0.0, ["error"])])  # fmt: skip
def test_a_gate_that_ten_times_the_traffic_could_not_decide_is_an_error(
    per_minute: float, severities: list[str]
) -> None:
    check = {"type": "error_rate", "threshold": "5%", "window": "15m"}
    groups = {"vision": make_group(100, 3, requests_per_minute=per_minute)}

    findings = found("L001", make_policy(health_gates=make_canary_gate(check)), make_facts(groups=groups))

    assert [each.severity for each in findings if each.where.startswith("health_gates")] == severities


def test_a_check_without_a_window_sees_more_with_every_extension_and_is_no_error() -> None:
    check = {"type": "error_rate", "threshold": "5%"}
    groups = {"vision": make_group(100, 3, requests_per_minute=0.0001)}

    findings = found("L001", make_policy(health_gates=make_canary_gate(check)), make_facts(groups=groups))

    assert {each.severity for each in findings if each.where.startswith("health_gates")} == {"warning"}


def test_a_trigger_without_enough_traffic_never_fires() -> None:
    groups = {"vision": make_group(100, 3, requests_per_minute=0.01), "idle": make_group(9, 0, requests_per_minute=0.0)}

    findings = found("L001", REFERENCE, make_facts(groups=groups))

    told = {each.message: each.severity for each in findings if each.where.startswith("rollback_triggers")}
    assert told == {
        f"group {group} sends about {requests} requests in 5 min, 20 are needed: {trigger} never fires": "warning"
        for group, requests in (("vision (100 devices)", 5), ("idle (9 devices)", 0))
        for trigger in ("error_rate_spike", "latency_spike")
    }


def test_a_canary_alone_in_its_group_that_reports_seldom_is_told_of_its_processor() -> None:
    groups = {"vision": make_group(100, 1), "audio": make_group(50, 3)}

    told = found("L001", REFERENCE, make_facts(groups=groups, sample_seconds=60.0))

    assert [(each.severity, each.message) for each in told if "group" in each.message] == [
        (
            "warning",
            "group vision (1 device) sends about 15 samples in 15 min, 20 are needed: the verdict stays inconclusive",
        )
    ]


def test_a_lone_canary_that_can_never_send_enough_samples_is_an_error() -> None:
    policy = make_policy(health_gates=make_canary_gate(HEALTHY, FEW))

    (finding,) = found("L001", policy, make_facts(5, sample_seconds=30.0))

    assert finding.blocks
    assert finding.message == (
        "the canary (1 device) sends about 10 samples in 5 min, 20 are needed, and even 1.5 times as many would not "
        "do: the verdict stays inconclusive"
    )
    assert found("L001", policy, make_facts(5, sample_seconds=15.0)) == []


@given(st.integers(1, 2000))
def test_a_trend_is_told_from_exactly_so_many_points(series: int) -> None:
    points = points_to_tell(series)
    devices = Devices.named(list(map(str, range(series))), np.arange(series))

    def can_tell(count: int) -> bool:
        times = np.arange(count, dtype=np.float64)
        values = np.repeat(times[:, None], series, axis=1).astype(np.float32)
        return bool(fit(Readings(devices, times, values, np.full(series, count))).can_tell().all())

    assert [can_tell(count) for count in (points - 1, points)] == [False, True]


def test_a_trend_that_too_few_samples_show_is_an_error_where_no_soak_helps() -> None:
    trend = {"type": "memory_trend", "threshold": "growth < 1% per 10m", "window": "30m"}
    policy = make_policy(health_gates=make_canary_gate(HEALTHY, trend), rollback_triggers={})
    needed = points_to_tell(3)

    (rare,) = found("L001", policy, make_facts(100, sample_seconds=600.0))[:1]
    enough = found("L001", policy, make_facts(100, sample_seconds=1800.0 / needed))

    assert (rare.severity, rare.where) == ("error", "health_gates.canary_gate.checks[1].window")
    assert rare.message == (
        f"a trend of 3 devices in canary takes {needed} readings of each; in 30 min come 3, one in 10 min: "
        "the verdict stays inconclusive"
    )
    assert [each.where for each in enough if each.where.startswith("health_gates")] == []


def test_a_short_soak_shows_no_trend_until_it_is_extended() -> None:
    trend = {"type": "memory_trend", "threshold": "growth < 1% per 10m", "window": "30m"}
    policy = make_policy(health_gates={"wave_gate": {"checks": [HEALTHY, trend]}})

    findings = found("L001", policy, make_facts(100, sample_seconds=60.0))

    (finding,) = [each for each in findings if each.where == "health_gates.wave_gate.checks[1].window"]
    assert finding.severity == "warning"
    assert "in wave-1 takes" not in finding.message  # a sample a minute fills its 15 minutes
    assert "in wave-2 takes" in finding.message


def test_a_trigger_on_a_trend_that_no_window_shows_is_a_note() -> None:
    findings = found("L001", REFERENCE, make_facts(sample_seconds=300.0))

    told = {each.where: each for each in findings if each.where.startswith("rollback_triggers")}
    assert {where: each.severity for where, each in told.items()} == {
        "rollback_triggers.threshold[2]": "note",
        "rollback_triggers.trend[1]": "note",
    }
    assert told["rollback_triggers.threshold[2]"].message.endswith("one in 5 min: memory_leak never fires")


def test_a_phase_that_nobody_announces_a_signal_for_waits_for_no_samples() -> None:
    silent = {"pi": {"error_rate": 100}}

    findings = found("L001", REFERENCE, make_facts(sample_seconds=300.0, signals=silent))

    assert not [each for each in findings if "phases" in each.where]
    assert [each for each in found("L001", REFERENCE, make_facts(sample_seconds=300.0)) if "phases" in each.where]
