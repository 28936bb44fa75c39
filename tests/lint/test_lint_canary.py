"""L003, L008, L009 and L013: what a canary can show, whom it stands for, and who must not be in it."""

import pytest

from tests.lint.lint_bench import REFERENCE, found, make_facts, make_group, make_policy


@pytest.mark.parametrize(
    ("devices", "severity", "seen", "proves", "remedy"),
    [
        (5, "warning", "5% / 10% / 20%", "95%", "no canary in 5 devices shows much more"),
        (100, "warning", "14% / 27% / 49%", "63%", "14 devices show a fault of 20% in 95% of rollouts"),
        (1000, "note", "40% / 65% / 89%", "26%", "59 devices show a fault of 5% in 95% of rollouts"),
    ],
)
def test_what_a_canary_shows_is_computed(devices: int, severity: str, seen: str, proves: str, remedy: str) -> None:
    (finding,) = found("L003", REFERENCE, make_facts(devices))

    assert (finding.severity, finding.where) == (severity, "rollout.canary")
    assert f"a fault of 5% / 10% / 20% of devices shows in {seen} of rollouts" in finding.message
    assert finding.message.endswith(f"proves only (at 95%) that fewer than {proves} fail")
    assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize(("canary", "is_named"), [(58, True), (59, False)])
def test_a_canary_that_rules_out_5_percent_is_large_enough(canary: int, *, is_named: bool) -> None:
    assert bool(found("L003", REFERENCE, make_facts(5000, canary))) is is_named


def test_without_a_fleet_the_maximum_is_judged() -> None:
    (finding,) = found("L003", REFERENCE)

    assert finding.where == "rollout.canary.max_devices"
    assert finding.message.startswith("10 canary devices")
    assert found("L003", make_policy(rollout={"canary": {"percentage": 3}})) == []
    assert found("L003", make_policy(rollout={"canary": {"max_devices": 59}})) == []


def test_an_error_rate_that_the_requests_cannot_show_is_named_with_the_minutes_that_would() -> None:
    groups = {"vision": make_group(100, 3, error_rate=0.003, requests_per_minute=2.0)}

    _, finding = found("L003", REFERENCE, make_facts(groups=groups))

    assert finding.where == "health_gates.canary_gate.checks[0]"
    assert finding.message == (
        "group vision: 3 canary devices make about 90 requests in 15 min; only an error rate of 6.8% or more "
        "(baseline 0.3%, limit 2.3%) is seen in 95% of rollouts"
    )
    assert finding.remedy == "a window and a soak of 41 min show 4.3%; or more canaries, or a looser limit"


@pytest.mark.parametrize(
    "changes", [{"requests_per_minute": 100.0}, {"requests_per_minute": None}, {"error_rate": None}]
)
def test_an_error_rate_is_not_named_with_requests_enough_or_unknown(changes: dict[str, float | None]) -> None:
    groups = {"vision": make_group(100, 3, **{"requests_per_minute": 2.0, **changes})}

    findings = found("L003", REFERENCE, make_facts(groups=groups))

    assert [each.where for each in findings] == ["rollout.canary"]


def test_a_group_without_canaries_shows_nothing_and_is_not_named() -> None:
    groups = {"vision": make_group(100, 0, requests_per_minute=1.0)}

    assert [each.where for each in found("L003", REFERENCE, make_facts(groups=groups))] == ["rollout.canary"]


def test_types_and_regions_without_a_canary_are_named_with_their_devices() -> None:
    facts = make_facts(
        uncovered=("type jetson", "type nuc", "region south"),
        types={"pi": 60, "jetson": 30, "nuc": 10},
        regions={"north": 99, "south": 1},
    )

    by_type, by_region = found("L008", REFERENCE, facts)

    assert by_type.message == (
        "no canary stands for 2 types with 40 devices: jetson, nuc; they meet the version first in a wave"
    )
    assert "for 1 region with 1 device: south;" in by_region.message
    assert by_type.remedy.startswith("min_devices: 3,")
    assert found("L008", REFERENCE, make_facts()) == []


def test_names_that_devices_gave_are_bounded_and_cannot_steer_a_terminal() -> None:
    names = [f"\x1b[31m{number}" * 40 for number in range(9)]
    facts = make_facts(uncovered=tuple(f"type {name}" for name in names), types=dict.fromkeys(names, 1))

    (finding,) = found("L008", REFERENCE, facts)

    assert "\x1b" not in finding.message
    assert "and 4 more" in finding.message
    assert len(finding.message) < 400


def test_coverage_that_needs_more_than_the_cap_is_named() -> None:
    facts = make_facts(100, types=dict.fromkeys("abcdefgh", 10), regions=dict.fromkeys("xyz", 30))

    (finding,) = found("L009", REFERENCE, facts)

    assert finding.severity == "note"
    assert finding.message == (
        "one canary for each of 8 types and 3 regions needs 8, more than 5% of 100 devices (5); 3 planned"
    )


@pytest.mark.parametrize("devices", [1, 5, 100, 333])
def test_one_type_and_one_region_fit_every_cap(devices: int) -> None:
    assert found("L009", REFERENCE, make_facts(devices)) == []


def test_a_maximum_below_the_percentage_is_named() -> None:
    (finding,) = found("L009", REFERENCE, make_facts(1000))

    assert finding.where == "rollout.canary.max_devices"
    assert finding.message == "3% of 1,000 devices is 30; max_devices makes it 10 (1%)"


def test_single_points_of_failure_are_named_where_they_are() -> None:
    facts = make_facts(single_points={"canary": ("gate-1",), "wave-2": ("d-3", "d-2"), "wave-3": ()})

    canary, wave = found("L013", REFERENCE, facts)

    assert (canary.severity, wave.severity) == ("warning", "note")
    assert canary.message == "1 single point of failure in canary: gate-1; they go first"
    assert wave.message == "2 single points of failure in wave-2: d-2, d-3; each is out of service while it restarts"
