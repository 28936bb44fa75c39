"""L012: groups that cannot be compared with their normal operation, or not in what the policy compares."""

from typing import Any

import pytest

from schemas.conditions import Metric
from tests.lint.lint_bench import REFERENCE, found, make_facts, make_group, make_policy

ABSOLUTE = {"type": "error_rate", "threshold": "5%", "window": "10m"}
ABSOLUTE_GATES = {"canary_gate": {"checks": [ABSOLUTE]}, "wave_gate": {"checks": [ABSOLUTE]}}
ABSOLUTE_PHASES = {"canary": {"phases": {"short_term": {"checks": [ABSOLUTE]}, "soak": {"checks": [ABSOLUTE]}}}}
NEW = make_group(10, 0, has_baseline=False, error_rate=None)


def test_a_group_without_a_baseline_blocks_and_cannot_be_silenced() -> None:
    policy = make_policy(lint={"silence": {"L012": "later"}})

    (finding,) = found("L012", policy, make_facts(groups={"vision": make_group(90, 3), "new": NEW}))

    assert finding.blocks
    assert finding.silenced is None
    assert finding.where == "health_gates.canary_gate.checks[0]"
    assert finding.message == (
        "1 group with 10 devices cannot be compared with a baseline: new; 11 limits of this policy must be"
    )
    assert "until 20 requests were seen" in finding.remedy
    assert finding.remedy.endswith("an error is not silenced by 'later'")


def test_a_policy_of_absolute_limits_needs_no_baseline() -> None:
    policy = make_policy(health_gates=ABSOLUTE_GATES, rollback_triggers={}, rollout=ABSOLUTE_PHASES)

    assert found("L012", policy, make_facts(groups={"new": make_group(has_baseline=False)})) == []


@pytest.mark.parametrize(("canary", "is_named"), [(0, False), (3, True)])
def test_phases_that_compare_need_a_baseline_of_the_canarys_groups_only(canary: int, *, is_named: bool) -> None:
    policy = make_policy(health_gates=ABSOLUTE_GATES, rollback_triggers={})
    groups = {"vision": make_group(90, 3 - canary), "new": make_group(10, canary, has_baseline=False)}

    findings = found("L012", policy, make_facts(groups=groups))

    assert [each.where for each in findings] == ["rollout.canary.phases.short_term.checks[0]"] * is_named


def test_phases_look_away_where_no_device_announces_what_they_compare() -> None:
    policy = make_policy(health_gates=ABSOLUTE_GATES, rollback_triggers={})
    groups = {"new": make_group(10, 3, has_baseline=False)}

    assert found("L012", policy, make_facts(groups=groups, signals={"pi": {"memory": 100}})) == []


def make_latency_policy(gate: str) -> Any:  # noqa: ANN401 - a policy
    check = {"type": "latency_p95", "threshold": "baseline + 20%", "window": "10m"}
    return make_policy(health_gates={**ABSOLUTE_GATES, gate: {"checks": [check]}}, rollback_triggers={})


@pytest.mark.parametrize(("gate", "canary", "is_named"), [("canary_gate", 3, True), ("canary_gate", 0, False),
                                                          ("wave_gate", 0, True)])  # fmt: skip
def test_a_gate_on_what_a_groups_baseline_lacks_can_never_pass(gate: str, canary: int, *, is_named: bool) -> None:
    groups = {"vision": make_group(50, 3), "sound": make_group(50, canary, lacks=frozenset({Metric.LATENCY_P95}))}

    findings = found("L012", make_latency_policy(gate), make_facts(groups=groups))

    error = ("error", f"health_gates.{gate}.checks[0]")
    assert [(each.severity, each.where) for each in findings] == [error] * is_named
    assert all(each.message.startswith("1 group (sound) never reported latency_p95: 1 check") for each in findings)


def test_a_trigger_on_what_a_groups_baseline_lacks_is_a_note() -> None:
    groups = {"vision": make_group(100, 3, lacks=frozenset({Metric.LATENCY_P95}))}
    triggers = REFERENCE.rollback_triggers.model_dump(mode="json")
    policy = make_policy(health_gates=ABSOLUTE_GATES, rollback_triggers=triggers)

    (finding,) = found("L012", policy, make_facts(groups=groups))

    assert (finding.severity, finding.where) == ("note", "rollback_triggers.threshold[1]")
    assert finding.message == "1 group (vision) never reported latency_p95: latency_spike never fires for them"
