"""L006, L007, L011, L012, L014 and L015: what this fleet cannot give."""

import pytest

from orchestrator.lint.fleet import SIGNALS
from schemas.conditions import COMPARABLE, Metric
from tests.lint.lint_bench import REFERENCE, found, make_facts, make_group, make_policy

COVERAGE = {"type": "fleet_coverage", "threshold": "deployed_percentage >= 95%"}
ABSOLUTE = {"type": "error_rate", "threshold": "5%", "window": "10m"}


@pytest.mark.parametrize(("offline", "is_named"), [(0, False), (5, False), (6, True)])
def test_coverage_with_too_many_devices_offline_waits(offline: int, *, is_named: bool) -> None:
    findings = found("L006", REFERENCE, make_facts(100, offline=offline))

    assert [each.severity for each in findings] == ["warning"] * is_named
    assert [each.where for each in findings] == ["health_gates.completion_gate.checks[1]"] * is_named


def test_the_coverage_that_can_be_reached_is_said() -> None:
    (finding,) = found("L006", REFERENCE, make_facts(100, offline=8))

    assert finding.message == (
        "deployed_percentage >= 95% cannot hold now: 8 of 100 targets are offline, which leaves 92%; "
        "the rollout will wait for them, or for a person"
    )
    assert finding.remedy.endswith("ask for 92% or less")


def test_coverage_asked_for_before_everybody_had_a_turn_is_an_error() -> None:
    policy = make_policy(health_gates={"wave_gate": {"checks": [COVERAGE]}}, lint={"silence": {"L006": "we wait"}})

    (finding,) = found("L006", policy, make_facts(100))

    assert finding.blocks
    assert finding.message == (
        "deployed_percentage >= 95% after wave-1 can never hold: 18 of 100 targets have their turn until then (18%)"
    )


@pytest.mark.parametrize(
    ("devices", "offline", "said"), [(5, 0, "5 devices"), (100, 91, "9 devices"), (3, 2, "1 device")]
)
def test_a_share_below_one_device_is_named(devices: int, offline: int, said: str) -> None:
    (finding,) = found("L007", REFERENCE, make_facts(devices, offline=offline))

    assert (finding.severity, finding.where) == ("info", "rolling_update.max_unavailable")
    assert finding.message.startswith(
        f"max_unavailable 10% of {said} leaves none to be updated; one at a time is updated "
    )


@pytest.mark.parametrize("devices", [10, 11, 1000])
def test_a_share_of_one_device_is_enough(devices: int) -> None:
    assert found("L007", REFERENCE, make_facts(devices)) == []


def test_the_stricter_of_both_limits_is_named() -> None:
    policy = make_policy(rolling_update={"max_unavailable": "1%", "min_available": "90%"})
    both = make_policy(rolling_update={"max_unavailable": "4%", "min_available": "96%"})
    strict = make_policy(rolling_update={"max_unavailable": "2%", "min_available": "98%"})

    assert [each.where for each in found("L007", policy, make_facts(50))] == ["rolling_update.max_unavailable"]
    assert found("L007", both, make_facts(50)) == []
    assert found("L007", strict, make_facts(50)) == []
    (finding,) = found("L007", strict, make_facts(49))
    assert finding.remedy == "max_unavailable: 3% and min_available: 97% say the same"


def test_devices_without_space_are_counted_and_named() -> None:
    (finding,) = found("L011", REFERENCE, make_facts(no_space=("d-2", "d-1")))

    assert finding.severity == "warning"
    assert finding.message.startswith("2 devices left out for want of space")
    assert finding.message.endswith("d-1, d-2")
    assert found("L011", REFERENCE, make_facts()) == []


def test_a_group_without_a_baseline_blocks_and_cannot_be_silenced() -> None:
    policy = make_policy(lint={"silence": {"L012": "later"}})
    groups = {"vision": make_group(90, 3), "new": make_group(10, 0, has_baseline=False, error_rate=None)}

    (finding,) = found("L012", policy, make_facts(groups=groups))

    assert finding.blocks
    assert finding.where == "health_gates.canary_gate.checks[0]"
    assert finding.message == (
        "1 group with 10 devices cannot be compared with a baseline: new; 7 limits of this policy must be"
    )
    assert "until 20 requests were seen" in finding.remedy


def test_a_policy_of_absolute_limits_needs_no_baseline() -> None:
    gates = {"canary_gate": {"checks": [ABSOLUTE]}, "wave_gate": {"checks": [ABSOLUTE]}}
    policy = make_policy(health_gates=gates, rollback_triggers={})

    assert found("L012", policy, make_facts(groups={"new": make_group(has_baseline=False)})) == []


def test_a_signal_that_a_device_type_never_reports_is_named() -> None:
    types = {"pi": 90, "sensor": 10}
    signals = {
        "pi": dict.fromkeys(("error_rate", "latency", "memory", "temperature"), 90),
        "sensor": {"error_rate": 10, "latency": 4, "memory": 10},
    }

    findings = found("L014", REFERENCE, make_facts(types=types, signals=signals))

    assert [(each.severity, each.where) for each in findings] == [
        ("warning", "health_gates.canary_gate.checks[1]"),
        ("warning", "health_gates.wave_gate.checks[1]"),
        ("info", "rollback_triggers.threshold[1]"),
        ("info", "rollback_triggers.trend[1]"),
    ]
    assert findings[0].message == (
        "6 of 10 devices of type sensor report no latency: the verdict stays inconclusive there"
    )
    assert (
        "10 of 10 devices of type sensor report no temperature: thermal_escalation never fires" in findings[3].message
    )


def test_device_types_of_which_nothing_is_known_are_not_named() -> None:
    assert found("L014", REFERENCE, make_facts(signals={})) == []


def test_every_metric_that_needs_a_signal_has_one() -> None:
    own = {Metric.QUALITY}  # each application has its own

    assert COMPARABLE - own <= set(SIGNALS)


def test_what_is_for_trying_out_is_named() -> None:
    unsigned, hurried = found("L015", REFERENCE, make_facts(is_signed=False, time_scale=120.0))

    assert (unsigned.severity, unsigned.where) == ("warning", "release")
    assert "divided by 120" in hurried.message
    assert found("L015", REFERENCE, make_facts()) == []
