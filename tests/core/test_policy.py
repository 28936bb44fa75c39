from typing import Any

import pytest
from pydantic import ValidationError

from schemas.conditions import Absolute, Metric
from schemas.policy import CHECK_METRICS, TRIGGER_METRICS, Policy
from tests.core.core_bench import make_policy


def refusal(**changes: Any) -> str:  # noqa: ANN401 - any part of a policy
    with pytest.raises(ValidationError) as caught:
        make_policy(**changes)
    return str(caught.value)


def test_a_policy_survives_the_journal_unchanged() -> None:
    policy = make_policy(gates={"completion_gate": {"checks": [{"type": "crash_count", "threshold": 0}]}})

    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert Policy.model_validate(policy.model_dump(mode="json", by_alias=True)) == policy


def test_minutes_become_seconds() -> None:
    policy = make_policy(canary={"immediate_minutes": 5, "short_term_minutes": 30, "soak_minutes": 30})

    assert policy.rollout.canary.watch_seconds == 3600.0
    assert policy.rollout.global_.deploy_timeout_seconds == 600.0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"canary": {"min_devices": 5, "max_devices": 3}}, "min_devices 5 is above max_devices 3"),
        ({"canary": {"immediate_minutes": 9, "short_term_minutes": 5}}, "ends after"),
        ({"canary": {"percentage": 0}}, "greater than 0"),
        ({"update": {"rollback_on_failure": False}}, "rolling_update.rollback_on_failure"),
        ({"canary": {"percentage": 101}}, "less than or equal to 100"),
        ({"canary": {"percentage": float("nan")}}, "rollout.canary.percentage"),
        ({"canary": {"min_devices": 0}}, "greater than or equal to 1"),
        ({"canary": {"soak_minutes": float("inf")}}, "rollout.canary.soak_minutes"),
        ({"waves": []}, "at least 1 item"),
        ({"waves": [{"name": "a", "percentage": 5}, {"name": "a", "percentage": 100}]}, "two waves are called 'a'"),
        ({"waves": [{"name": "canary", "percentage": 5}]}, "two waves are called 'canary'"),
        ({"waves": [{"name": "a/b", "percentage": 5}]}, "rollout.waves.0.name"),
        ({"limits": {"max_parallel_deploys": 0}}, "max_parallel_deploys"),
        ({"limits": {"offline_device_policy": "abort"}}, "skip_and_queue"),
        ({"update": {"max_unavailable": "30%", "min_available": "80%"}}, "can never both hold"),
        ({"update": {"max_unavailable": "0%", "min_available": "90%"}}, "greater than 0"),
        ({"update": {"max_unavailable": "ten"}}, "max_unavailable"),
        ({"update": {"health_check": {"path": "health"}}}, "health_check.path"),
        ({"gates": {"canary_gate": {"checks": []}}}, "at least 1 item"),
        ({"gates": {"canary_gate": {"checks": [{"type": "vibes", "threshold": 0}]}}}, "checks.0.type"),
        ({"gates": {"wave_gate": {"checks": [{"type": "crash_count"}]}}}, "Field required"),
        ({"max_soak_extensions": -1}, "max_soak_extensions"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(changes: dict[str, Any], why: str) -> None:
    assert why in refusal(**changes)


PARSED = {"metric": "error_rate", "operator": "<=", "limit": {"kind": "absolute", "value": 0.02}}


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"type": "latency_p95", "threshold": PARSED}, "is about error_rate"),
        ({"type": "error_rate", "threshold": {**PARSED, "operator": ">"}}, "turn the comparison round"),
        ({"type": "error_rate", "threshold": {**PARSED, "limit": {"kind": "absolute", "value": 5}}}, "never stop"),
        ({"type": "application_health", "threshold": 95}, "never stop"),
        ({"type": "device_health", "threshold": "healthy_percentage < 95%"}, "turn the comparison round"),
    ],
)
def test_a_check_that_can_never_stop_anything_is_refused_however_it_is_written(check: dict[str, Any], why: str) -> None:
    assert why in refusal(gates={"wave_gate": {"checks": [check]}})


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({**PARSED, "operator": "<="}, "turn the comparison round"),
        ({**PARSED, "operator": ">", "metric": "crash_count"}, "no trigger watches crash_count"),
        ({**PARSED, "operator": ">", "metric": "healthy_percentage"}, "no trigger watches healthy_percentage"),
        (
            {"metric": "device restarts", "operator": ">", "limit": {"kind": "baseline_times", "factor": 2}},
            "there is no baseline of device restarts",
        ),
        ("error_rate > 5", "never stop"),
        (7, "cannot read it"),
    ],
)
def test_a_trigger_that_can_never_fire_is_refused_however_it_is_written(condition: object, why: str) -> None:
    trigger = {"name": "t", "condition": condition, "scope": "all_deployed", "action": "rollback_all"}

    assert why in refusal(triggers=[trigger])


def test_a_check_takes_its_threshold_already_parsed() -> None:
    policy = make_policy(gates={"wave_gate": {"checks": [{"type": "error_rate", "threshold": PARSED}]}})

    assert policy.health_gates.wave_gate.checks[0].threshold.limit == Absolute(value=0.02)


def test_every_check_observes_something_and_every_trigger_is_watched() -> None:
    assert set(CHECK_METRICS.values()) | TRIGGER_METRICS == set(Metric)


def test_a_scaled_policy_runs_that_much_faster_and_is_otherwise_the_same() -> None:
    trigger = {
        "name": "spike", "condition": "error_rate > baseline + 10%", "window": "5m", "scope": "all_deployed",
        "action": "rollback_all",
    }  # fmt: skip
    gate = {"checks": [{"type": "crash_count", "threshold": 0, "window": "30m"}]}
    policy = make_policy(triggers=[trigger], gates={"completion_gate": gate})

    fast = policy.scaled(64)

    assert fast.rollout.canary.watch_seconds == policy.rollout.canary.watch_seconds / 64
    assert [w.soak_minutes * 64 for w in fast.rollout.waves] == [w.soak_minutes for w in policy.rollout.waves]
    assert fast.rollout.global_.deploy_timeout_seconds == 600 / 64
    assert fast.rollout.global_.health_check_interval_seconds == 30 / 64
    assert fast.rolling_update.health_check.interval_seconds == 30 / 64
    assert (fast.rolling_update.min_ready_seconds, fast.rolling_update.progress_deadline) == (60 / 64, 300 / 64)
    assert fast.rollback_triggers.all[0].window_seconds == 300 / 64
    assert fast.health_gates.completion_gate is not None
    assert fast.health_gates.completion_gate.checks[0].window == 1800 / 64
    assert fast.baseline.window == 24 * 3600 / 64
    assert fast.rolling_update.max_unavailable == policy.rolling_update.max_unavailable
    assert fast.scaled(1 / 64) == policy
    assert policy.scaled(1) == policy


def test_the_window_of_a_trigger_stands_in_its_condition_or_beside_it() -> None:
    common = {"scope": "single_device", "action": "rollback_device"}
    within = {"name": "a", "condition": "device restarts > 3 in 5 minutes", **common}
    beside = {"name": "b", "condition": "error_rate > baseline + 10%", "window": "2m", **common}

    triggers = make_policy(triggers=[within, beside]).rollback_triggers.all

    assert [trigger.window_seconds for trigger in triggers] == [300.0, 120.0]


def test_the_health_check_follows_the_rollouts_defaults() -> None:
    limits = {"health_check_interval_seconds": 12, "health_check_retries": 5}
    followed = make_policy(limits=limits).rolling_update.health_check
    own = make_policy(limits=limits, update={"health_check": {"interval_seconds": 7, "failure_threshold": 2}})

    assert (followed.interval_seconds, followed.success_threshold, followed.failure_threshold) == (12, 5, 5)
    check = own.rolling_update.health_check
    assert (check.interval_seconds, check.success_threshold, check.failure_threshold) == (7, 5, 2)
