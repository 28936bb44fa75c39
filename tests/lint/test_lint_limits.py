"""L001, L002 and L010: limits that never act, act at once, or hide each other."""

from typing import Any

import pytest

from tests.lint.lint_bench import REFERENCE, found, make_facts, make_group, make_policy

WAVES = [
    {"name": "wave-1", "percentage": 50, "soak_minutes": 30},
    {"name": "wave-2", "percentage": 100, "soak_minutes": 30},
]
TWO_WAVES = {"canary": 3, "wave-1": 49, "wave-2": 48}


def make_waves(**changes: object) -> dict[str, Any]:
    return {"waves": [{**wave, **changes} for wave in WAVES]}


def make_gates(*checks: dict[str, Any], completion: bool = False) -> dict[str, Any]:
    gate = {"checks": list(checks)}
    return {"canary_gate": gate, "wave_gate": gate, **({"completion_gate": gate} if completion else {})}


def make_trigger(condition: str, **changes: object) -> dict[str, Any]:
    return {"name": "it", "condition": condition, "scope": "current_wave", "action": "rollback_wave", **changes}


HEALTHY = {"type": "application_health", "threshold": "all_healthy"}
BAD_RATE = {"type": "error_rate", "threshold": "baseline * 500", "window": "10m"}


def test_the_reference_can_stop() -> None:
    assert found("L001", REFERENCE) == []
    assert found("L001", REFERENCE, make_facts()) == []


def test_a_policy_without_triggers_only_has_its_gates() -> None:
    (finding,) = found("L001", make_policy(rollback_triggers={}))

    assert (finding.severity, finding.where) == ("warning", "rollback_triggers")


def test_a_rollout_that_nothing_can_stop_is_an_error() -> None:
    policy = make_policy(health_gates=make_gates(BAD_RATE), rollback_triggers={})

    findings = found("L001", policy, make_facts(groups={"vision": make_group(error_rate=0.003)}))

    assert findings[0].severity == "error"
    assert findings[0].blocks
    assert findings[0].where == "health_gates.wave_gate"
    assert findings[0].message.startswith("after the canary no check and no trigger can ever stop this rollout")
    assert "with a baseline of 0.3% the limit is 150%" in findings[1].message


@pytest.mark.parametrize(
    "changes",
    [
        {"health_gates": make_gates(BAD_RATE, HEALTHY), "rollback_triggers": {}},
        {"health_gates": make_gates(BAD_RATE), "rollback_triggers": {"immediate": [make_trigger("error_rate > 10%")]}},
    ],
)
def test_one_stop_is_enough_not_to_be_an_error(changes: dict[str, Any]) -> None:
    findings = found("L001", make_policy(**changes), make_facts())

    assert findings
    assert all(each.severity == "warning" for each in findings)


def test_a_relative_limit_is_reachable_if_one_group_can_exceed_it() -> None:
    policy = make_policy(health_gates=make_gates(BAD_RATE, HEALTHY))
    groups = {"vision": make_group(error_rate=0.003), "sound": make_group(error_rate=0.001)}

    assert found("L001", policy, make_facts(groups=groups)) == []
    assert found("L001", policy, make_facts(groups={"vision": make_group(error_rate=None)})) == []


@pytest.mark.parametrize(("limit", "idle"), [(79, 0), (80, 2)])
def test_a_threshold_that_needs_every_one_of_the_first_five_is_named(limit: int, idle: int) -> None:
    findings = found("L001", make_policy(rollout=make_waves(failure_threshold_percent=limit)))

    assert len(findings) == idle
    assert all("all of the first 5 devices" in each.message for each in findings)


@pytest.mark.parametrize(("share", "idle"), [(1, True), (2, False)])
def test_a_health_check_that_fails_only_when_nobody_is_healthy_is_named(share: int, *, idle: bool) -> None:
    check = {"type": "device_health", "threshold": f"healthy_percentage >= {share}%"}
    policy = make_policy(health_gates={"wave_gate": {"checks": [check]}})

    findings = found("L001", policy, make_facts())

    assert bool(findings) is idle
    assert all("all 100 devices are unhealthy" in each.message for each in findings)


def test_a_window_between_two_samples_holds_nothing() -> None:
    trigger = make_trigger("device restarts > 3 in 5 minutes", scope="single_device", action="rollback_device")
    policy = make_policy(rollback_triggers={"immediate": [trigger]})

    findings = found("L001", policy, make_facts(sample_seconds=600.0))

    assert "it never fires: its window is 5 min, and samples come 10 min apart" in [each.message for each in findings]
    assert found("L001", policy, make_facts(sample_seconds=30.0)) == []


@pytest.mark.parametrize(
    ("devices", "limit", "severity", "which", "stopped"),
    [
        (2, 5, "note", "the first failure", "4%"),
        (12, 5, "warning", "the first failure", "22%"),
        (50, 0, "warning", "the first failure", "64%"),
        (20, 5, "warning", "a failure among the first 19", "32%"),
        (1000, 5, "warning", "a failure among the first 19", "39%"),
    ],
)
def test_a_threshold_below_one_device_is_zero_tolerance(
    devices: int, limit: int, severity: str, which: str, stopped: str
) -> None:
    policy = make_policy(rollout=make_waves(failure_threshold_percent=limit))
    facts = make_facts(waves={"canary": 1, "wave-1": devices, "wave-2": 1})

    (finding,) = [each for each in found("L002", policy, facts) if each.where.startswith("rollout")]

    assert finding.severity == severity
    assert finding.message == (
        f"failed > {limit}% of {devices:,} devices: {which} stops wave-1; "
        f"if 2% of installs fail by bad luck, {stopped} of such waves stop"
    )


def test_a_threshold_that_tolerates_bad_luck_is_not_named() -> None:
    policy = make_policy(rollout=make_waves(failure_threshold_percent=25))

    assert found("L002", policy, make_facts(waves=TWO_WAVES)) == [
        each for each in found("L002", policy, make_facts(waves=TWO_WAVES)) if not each.where.startswith("rollout")
    ]


def test_what_tolerating_one_failure_lets_through_is_said() -> None:
    findings = found("L002", REFERENCE, make_facts(1000))

    assert findings[0].remedy == (
        "a person's resume excuses it by name; "
        "failure_threshold_percent: 20 tolerates 1 of the first 5, and 29 of all 149"
    )


def test_without_a_fleet_the_sizes_below_which_a_limit_is_strict_are_said() -> None:
    assert [each.message for each in found("L002", REFERENCE)] == [
        "failed > 5% is zero tolerance in waves below 20 devices: the first failure stops wave-1 or wave-2",
        "failed > 3% is zero tolerance in waves below 34 devices: the first failure stops wave-3",
        "healthy_percentage >= 95% of fewer than 20 devices means all of them",
        "deployed_percentage >= 95% of fewer than 20 devices means all of them",
        "healthy_percentage >= 98% of fewer than 50 devices means all of them",
    ]


def test_95_percent_of_12_devices_means_all_12() -> None:
    messages = [each.message for each in found("L002", REFERENCE, make_facts(12))]

    assert (
        "healthy_percentage >= 95% of 12 devices (after wave-3) means all 12; one is tolerated from 20 devices on"
        in messages
    )


def test_all_healthy_is_meant_of_a_canary_and_named_of_a_fleet() -> None:
    policy = make_policy(health_gates=make_gates(HEALTHY))

    places = [each.where for each in found("L002", policy, make_facts(100)) if each.where.startswith("health")]

    assert places == ["health_gates.wave_gate.checks[0]"]


@pytest.mark.parametrize(
    ("devices", "measured", "chance", "why"),
    [
        (1000, None, "21%", "if a device restarts by itself once in 30 days"),
        (100, 2.0, "75%", "a device restarts by itself 2 times a day"),
        (10_000_000, 0.5, "100%", "a device restarts by itself once in 2 days"),
    ],
)
def test_no_crash_at_all_can_hardly_hold_in_a_large_fleet(
    devices: int, measured: float | None, chance: str, why: str
) -> None:
    findings = found("L002", REFERENCE, make_facts(devices, restarts_per_device_day=measured))

    assert [each.message for each in findings if each.where == "health_gates.wave_gate.checks[3]"] == [
        f"crash_count <= 0 of {devices:,} devices in 10 min fails in {chance} of good rollouts ({why})"
    ]


@pytest.mark.parametrize(("devices", "measured"), [(100, None), (1000, 0.0)])
def test_no_crash_at_all_is_reasonable_in_a_small_or_quiet_fleet(devices: int, measured: float | None) -> None:
    findings = found("L002", REFERENCE, make_facts(devices, restarts_per_device_day=measured))

    assert [each for each in findings if "crash_count" in each.message] == []


def test_a_crash_limit_without_its_own_count_tolerates_one_less() -> None:
    policies = [
        make_policy(health_gates=make_gates({"type": "crash_count", "threshold": limit, "window": "10m"}))
        for limit in ("crash_count < 1", 0)
    ]

    chances = [found("L002", policy, make_facts(1000))[-1].message.split(" fails ")[1] for policy in policies]

    assert chances[0] == chances[1]


@pytest.mark.parametrize(("operator", "tolerant"), [(">=", 20), (">", 21)])
def test_one_of_twenty_is_tolerated_by_at_least_95_percent_and_not_by_more_than_it(
    operator: str, tolerant: int
) -> None:
    check = {"type": "device_health", "threshold": f"healthy_percentage {operator} 95%"}
    facts = make_facts(waves={"canary": 5, "wave-1": tolerant - 6})

    (finding,) = found("L002", make_policy(health_gates={"wave_gate": {"checks": [check]}}), facts)[1:]

    assert f"means all {tolerant - 1}; one is tolerated from {tolerant} devices on" in finding.message


def test_the_crash_limit_that_would_hold_is_offered() -> None:
    (finding,) = [each for each in found("L002", REFERENCE, make_facts(1000)) if "crash_count" in each.message]

    assert finding.remedy.startswith("threshold: 2 fails in at most 1%")


def test_a_trigger_behind_stricter_thresholds_has_nothing_to_do() -> None:
    (finding,) = found("L010", REFERENCE)

    assert finding.severity == "note"
    assert finding.where == "rollback_triggers.immediate[2]"
    assert "every wave goes back at failed > 5% already" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout": make_waves(auto_rollback=False)},  # the wave only halts, and the trigger brings it back
        {"rollback_triggers": {"immediate": [make_trigger("failed devices > 20% of wave", action="rollback_all")]}},
        {"rollback_triggers": {"immediate": [make_trigger("failed devices > 5% of wave")]}},
    ],
)
def test_a_trigger_that_does_more_than_the_threshold_is_not_named(changes: dict[str, Any]) -> None:
    assert found("L010", make_policy(**changes)) == []


def test_a_threshold_looser_than_the_trigger_is_named_for_each_wave() -> None:
    policy = make_policy(rollout=make_waves(failure_threshold_percent=30))

    findings = found("L010", policy)

    assert [each.where for each in findings] == [
        f"rollout.waves[{number}].failure_threshold_percent" for number in (0, 1)
    ]
    assert findings[0].message == (
        "wave-1 never has failed > 30% of all its devices: wave_failure_rate (failed devices > 20% of wave) acts before"
    )


@pytest.mark.parametrize(
    ("condition", "takes"),
    [
        ("health endpoint unreachable for > 1 hours", ""),
        ("health endpoint unreachable for > 2 hours", "2 h"),
        ("error_rate increasing for 3 consecutive checks of 20m", ""),
        ("error_rate increasing for 3 consecutive checks of 30m", "2 h"),
    ],
)
def test_what_takes_longer_than_the_rollout_is_watched_never_fires(condition: str, takes: str) -> None:
    trigger = make_trigger(condition, scope="single_device", action="rollback_device")
    policy = make_policy(rollback_triggers={"immediate": [trigger]})

    messages = [each.message for each in found("L001", policy, make_facts())]

    said = f"it never fires: it takes {takes}, and canary and waves soak 1 h 35 min together"
    assert (said in messages) is bool(takes)
