from typing import Any

import pytest

from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.triggers import EVIDENCE_MAX, TRIGGERS, Firing, judge_trigger
from schemas.documents import CheckResult
from schemas.policy import Trigger
from schemas.policy_triggers import TRIGGER_METRICS
from tests.telemetry.telemetry_streams import feed, sample, tell, these, watched
from tests.telemetry.test_telemetry_gates import baseline

NOW = 300.0


def judge(
    monitor: Monitor,
    condition: str,
    *,
    deployed: tuple[str, ...] = ("a", "b"),
    groups: tuple[str, ...] = ("g", "g"),
    baselines: tuple[str, ...] = ("g",),
    failed: tuple[str, ...] = (),
    wave_size: int = 10,
    now: float = NOW,
    **fields: object,
) -> Firing | None:
    rule = {"name": "rule", "condition": condition, "scope": "single_device", "action": "rollback_device"}
    return judge_trigger(
        Trigger.model_validate(rule | fields),
        these(monitor, dict(zip(deployed, groups, strict=False))),
        {group: baseline(group) for group in baselines},
        monitor,
        version="2",
        failed=failed,
        wave_size=wave_size,
        thermal_limit_celsius=85.0,
        now=now,
    )


def test_every_metric_that_a_trigger_can_name_is_defined() -> None:
    assert set(TRIGGERS) == TRIGGER_METRICS


# Crash loop.

CRASH_LOOP = "device restarts > 3 in 5 minutes"


def test_crash_loop_names_only_the_device_that_loops() -> None:
    monitor = Monitor()
    watched(monitor, "a", restarts_total=lambda seq: min(seq, 4))
    watched(monitor, "b", restarts_total=lambda seq: min(seq, 3))
    assert judge(monitor, CRASH_LOOP) == Firing(
        trigger="rule",
        scope="single_device",
        action="rollback_device",
        devices=("a",),
        evidence=(
            CheckResult(
                check="rule",
                limit_expr="device restarts > 3 in 5 min",
                observed=4.0,
                baseline=None,
                limit=3.0,
                samples=1,
                verdict="fail",
                why="4 restarts of a, limit 3",
            ),
        ),
    )


def test_crash_loop_counts_reboots() -> None:
    monitor = Monitor()
    watched(monitor, "a", boot_id=lambda seq: f"boot{min(seq, 4)}")
    firing = judge(monitor, CRASH_LOOP)
    assert firing is not None
    assert firing.devices == ("a",)


def test_crash_loop_does_not_fire_when_the_restarts_are_older_than_the_window() -> None:
    monitor = Monitor()
    watched(monitor, "a", restarts_total=lambda seq: min(seq, 4))
    assert judge(monitor, CRASH_LOOP, now=NOW + 59) is not None, "the window begins with the cell of its first moment"
    assert judge(monitor, CRASH_LOOP, now=NOW + 60) is None


def test_crash_loop_of_another_version_does_not_fire() -> None:
    monitor = Monitor()
    watched(monitor, "a", version="1", restarts_total=lambda seq: seq)
    assert judge(monitor, CRASH_LOOP) is None


def test_evidence_is_bounded_and_the_devices_are_complete() -> None:
    monitor = Monitor()
    names = [f"d{number:02d}" for number in range(40)]
    for name in names:
        watched(monitor, name, restarts_total=lambda seq: seq)
    firing = judge(monitor, CRASH_LOOP, deployed=tuple(names), groups=("g",) * 40)
    assert firing is not None
    assert firing.devices == tuple(names)
    assert len(firing.evidence) == EVIDENCE_MAX


# Health endpoint.

ENDPOINT_DOWN = "health endpoint unreachable for > 2 minutes"


@pytest.mark.parametrize(("up_until", "fires"), [(5, False), (4, True)])
def test_endpoint_down_fires_when_samples_show_an_outage_longer_than_the_limit(up_until: int, *, fires: bool) -> None:
    monitor = Monitor()
    watched(monitor, "a", endpoint_up=lambda seq: seq <= up_until)
    watched(monitor, "b")
    firing = judge(monitor, ENDPOINT_DOWN)
    assert (firing is not None) is fires
    if firing is not None:
        assert firing.devices == ("a",)
        assert firing.evidence[0].why == "health endpoint of a down for 2 min 30 s, limit 2 min"


def test_device_triggers_fire_when_a_dead_application_tells_no_version() -> None:
    monitor = Monitor()
    watched(monitor, "a", count=2)
    dead: dict[str, Any] = {"version": None, "healthy": False, "endpoint_up": False, "restarts_total": lambda seq: seq}
    feed(monitor, "a", start=60.0, first=2, count=9, **dead)
    for condition in (CRASH_LOOP, ENDPOINT_DOWN):
        firing = judge(monitor, condition)
        assert firing is not None
        assert firing.devices == ("a",)


def test_endpoint_down_does_not_fire_when_an_answer_came_between() -> None:
    monitor = Monitor()
    watched(monitor, "a", endpoint_up=lambda seq: seq == 7)
    assert judge(monitor, ENDPOINT_DOWN) is None


def test_endpoint_stays_down_when_a_sample_does_not_mention_it() -> None:
    monitor = Monitor()
    watched(monitor, "a", endpoint_up=lambda seq: None if seq == 7 else False)
    assert judge(monitor, ENDPOINT_DOWN) is not None


def test_endpoint_down_does_not_fire_when_the_device_is_silent() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=2, endpoint_up=False)
    assert judge(monitor, ENDPOINT_DOWN, now=now + 89) is None
    assert judge(monitor, ENDPOINT_DOWN, now=now + 600) is None


# Failed devices.

FAILED = "failed devices > 20% of wave"


@pytest.mark.parametrize(("failed", "size", "fires"), [(2, 10, False), (3, 10, True), (1, 5, False), (1, 4, True)])
def test_wave_failure_rate_is_exact(failed: int, size: int, *, fires: bool) -> None:
    names = [f"d{number}" for number in range(failed)]
    firing = judge(Monitor(), FAILED, failed=tuple(names), wave_size=size)
    assert (firing is not None) is fires
    if firing is not None:
        assert firing.devices == tuple(names)
        assert firing.evidence[0].observed == failed / size


@pytest.mark.parametrize(("failed", "size"), [((), 10), ((), 0), (("a",), 0)])
def test_wave_failure_rate_does_not_fire_of_nothing(failed: tuple[str, ...], size: int) -> None:
    assert judge(Monitor(), FAILED, failed=failed, wave_size=size) is None


def test_wave_failure_rate_counts_a_device_once() -> None:
    assert judge(Monitor(), FAILED, failed=("a", "a", "a"), wave_size=10) is None


# Error rate.

SPIKE = "error_rate > baseline + 10%"


@pytest.mark.parametrize(("errors_each", "fires"), [(11, False), (12, True)])
def test_error_rate_spike_fires_above_the_groups_baseline(errors_each: int, *, fires: bool) -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: errors_each * seq)
    firing = judge(monitor, SPIKE, window="5m")
    assert (firing is not None) is fires
    if firing is not None:
        assert firing.devices == ("a", "b")
        assert firing.evidence[0].why == "12.00% of 1000 requests in group g, limit 11.00% (baseline 1.00% + 10pp)"


def test_error_rate_spike_names_only_the_groups_that_are_beyond() -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: 50 * seq)
    watched(monitor, "b", "well")
    firing = judge(monitor, SPIKE, groups=("g", "well"), baselines=("g", "well"))
    assert firing is not None
    assert firing.devices == ("a",)


@pytest.mark.parametrize(
    "fields",
    [
        {"baselines": ()},
        {"min_samples": 1001},
        {"deployed": ()},
        {"deployed": ("never seen",)},
        {"window": "5m", "now": NOW + 600},
    ],
)
def test_error_rate_spike_does_not_fire_without_evidence(fields: dict[str, Any]) -> None:
    monitor = Monitor()
    watched(monitor, "a", errors_total=lambda seq: 90 * seq)
    assert judge(monitor, SPIKE) is not None
    assert judge(monitor, SPIKE, **fields) is None


def test_error_rate_spike_ignores_what_the_old_version_did() -> None:
    monitor = Monitor()
    now = watched(monitor, "a", version="1", errors_total=lambda seq: 90 * seq)
    for seq in range(11, 20):
        tell(monitor, "a", "g", sample(seq, errors_total=900), now + 30 * (seq - 10))
    assert judge(monitor, SPIKE, now=now + 270, window="30m") is None


@pytest.mark.parametrize("condition", [CRASH_LOOP, ENDPOINT_DOWN, FAILED, SPIKE])
def test_no_trigger_fires_when_nothing_was_ever_seen(condition: str) -> None:
    assert judge(Monitor(), condition) is None
