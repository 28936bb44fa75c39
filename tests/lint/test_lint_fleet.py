"""L006, L007, L011, L015 and L019: what this fleet cannot give."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lint.lint_bench import REFERENCE, found, make_facts, make_policy

COVERAGE = {"type": "fleet_coverage", "threshold": "deployed_percentage >= 95%"}


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


def test_coverage_asked_of_a_phase_of_the_canary_is_an_error_as_well() -> None:
    phases = {"soak": {"checks": [COVERAGE]}}

    (early, _) = found("L006", make_policy(rollout={"canary": {"phases": phases}}), make_facts(100, offline=6))

    assert (early.severity, early.where) == ("error", "rollout.canary.phases.soak.checks[0]")
    assert "after canary can never hold: 3 of 100 targets" in early.message


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(1, 100))
def test_reachable_coverage_agrees_with_exact_fractions(targets: int, offline: int, percent: int) -> None:
    check = {"type": "fleet_coverage", "threshold": f"deployed_percentage >= {percent}%"}
    policy = make_policy(health_gates={"completion_gate": {"checks": [check]}})
    offline = min(offline, targets)

    findings = found("L006", policy, make_facts(targets, min(targets, 3), offline=offline))

    assert bool(findings) is (Fraction(targets - offline, targets) < Fraction(percent, 100))


@given(st.integers(1, 3000), st.integers(1, 100), st.integers(1, 100))
def test_whether_a_share_leaves_a_device_agrees_with_exact_fractions(devices: int, most: int, least: int) -> None:
    least = min(least, 100 - most) or 1
    if most + least > 100:
        most = 99
    policy = make_policy(rolling_update={"max_unavailable": most, "min_available": least})
    may_go = min(floor(Fraction(devices * most, 100)), devices - ceil(Fraction(devices * least, 100)))

    findings = found("L007", policy, make_facts(devices, 1))

    assert bool(findings) is (may_go <= 0)


@pytest.mark.parametrize(
    ("devices", "offline", "said"), [(5, 0, "5 devices"), (100, 91, "9 devices"), (3, 2, "1 device")]
)
def test_a_share_below_one_device_is_named(devices: int, offline: int, said: str) -> None:
    (finding,) = found("L007", REFERENCE, make_facts(devices, offline=offline))

    assert (finding.severity, finding.where) == ("note", "rolling_update.max_unavailable")
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


@pytest.mark.parametrize(
    ("devices", "ill", "is_found"),
    [(20, 1, False), (20, 2, True), (5, 1, True), (9, 1, True), (9, 9, False), (100, 9, False)],
)
def test_so_many_that_are_not_healthy_that_no_healthy_one_may_go_are_counted_and_named(
    devices: int, ill: int, *, is_found: bool
) -> None:
    facts = make_facts(devices, unwell=tuple(f"d-{number}" for number in range(ill)))

    findings = found("L019", REFERENCE, facts)

    assert [(each.severity, each.where) for each in findings] == [
        ("warning", "rolling_update.min_available")
    ] * is_found
    for each in findings:
        assert each.message.startswith(f"{ill} of {devices} devices are not seen to be healthy now (d-0")


def test_one_at_a_time_goes_only_while_all_are_healthy() -> None:
    (small,) = found("L007", REFERENCE, make_facts(5))
    (large,) = found("L007", make_policy(rolling_update={"max_unavailable": 1, "min_available": 50}), make_facts(50))

    assert "one at a time is updated while all are healthy (20% out of service)" in small.message
    assert "one at a time is updated (2% out of service)" in large.message


def test_devices_without_space_are_counted_and_named() -> None:
    (finding,) = found("L011", REFERENCE, make_facts(no_space=("d-2", "d-1")))

    assert finding.severity == "warning"
    assert finding.message.startswith("2 devices left out for want of space")
    assert finding.message.endswith("d-1, d-2")
    assert found("L011", REFERENCE, make_facts()) == []


def test_what_is_for_trying_out_is_named() -> None:
    unsigned, hurried = found("L015", REFERENCE, make_facts(is_signed=False, time_scale=120.0))

    assert (unsigned.severity, unsigned.where) == ("warning", "release")
    assert "divided by 120" in hurried.message
    assert found("L015", REFERENCE, make_facts()) == []
