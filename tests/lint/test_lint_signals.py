"""L014: what device types announce, and what is judged by it."""

from orchestrator.lint.signals import SIGNALS
from schemas.conditions import COMPARABLE
from tests.lint.lint_bench import REFERENCE, found, make_facts, make_policy

ALL = set(SIGNALS.values())
IMMEDIATE = "immediate: log_errors"
SOAK = "soak: throttle_events, soak: quality"


def announce(devices: int, *signals: str) -> dict[str, int]:
    return dict.fromkeys(signals, devices)


def test_a_signal_that_a_device_type_never_reports_is_named() -> None:
    types = {"pi": 90, "sensor": 10}
    signals = {
        "pi": announce(90, *ALL),
        "sensor": {**announce(10, *(ALL - {"latency", "temperature"})), "latency": 4},
    }

    findings = found("L014", REFERENCE, make_facts(types=types, signals=signals))

    assert [(each.severity, each.where) for each in findings] == [
        ("warning", "health_gates.canary_gate.checks[1]"),
        ("warning", "health_gates.wave_gate.checks[1]"),
        ("note", "rollback_triggers.threshold[1]"),
        ("note", "rollback_triggers.trend[1]"),
    ]
    assert findings[0].message == (
        "6 of 10 devices of type sensor report no latency: the verdict stays inconclusive there"
    )
    assert (
        "10 of 10 devices of type sensor report no temperature: thermal_escalation never fires" in findings[3].message
    )


def test_phase_checks_that_a_type_is_not_judged_by_are_named_once_for_all_types_alike() -> None:
    agent = ("error_rate", "latency", "memory", "cpu", "disk", "temperature")
    types = {"nuc": 20, "pi": 70, "whole": 10}
    signals = {"nuc": announce(20, *agent), "pi": announce(70, *agent), "whole": announce(10, *ALL)}

    (finding,) = found("L014", REFERENCE, make_facts(types=types, signals=signals))

    assert (finding.severity, finding.where) == ("note", "rollout.canary.phases")
    assert finding.message == (
        "a canary among 90 devices of types nuc, pi is not judged by 3 checks unless its samples hold what it does not "
        f"announce: {IMMEDIATE}, {SOAK}"
    )


def test_a_phase_of_no_length_has_no_checks_to_miss() -> None:
    policy = make_policy(rollout={"canary": {"immediate_minutes": 0, "soak_minutes": 0}})
    silent = {"pi": announce(100, *(ALL - {"log_errors", "throttle_events", "quality"}))}

    assert found("L014", policy, make_facts(signals=silent)) == []


def test_devices_that_announce_nothing_are_one_note_and_no_warning() -> None:
    types, signals = {"pi": 90, "sensor": 10}, {"pi": announce(90, *ALL), "sensor": {}}

    (finding,) = found("L014", REFERENCE, make_facts(types=types, signals=signals))

    assert finding.severity == "note"
    assert finding.message.startswith("10 devices of type sensor announce no signals")


def test_device_types_of_which_nothing_is_known_or_everything_are_not_named() -> None:
    assert found("L014", REFERENCE, make_facts(signals={})) == []
    assert found("L014", REFERENCE, make_facts()) == []


def test_every_metric_with_a_baseline_has_a_signal() -> None:
    assert set(SIGNALS) >= COMPARABLE
