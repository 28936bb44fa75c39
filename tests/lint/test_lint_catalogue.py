"""The catalogue as a whole: ids, order, silence, and what the reference's own policy is told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lint.catalogue import RULES, as_data, lint_policy, lint_rollout
from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding
from orchestrator.lint.scene import Scene
from orchestrator.lint.written import Written
from schemas.policy_text import parse_policy
from tests.lint.lint_bench import REFERENCE, make_facts, make_group, make_line, make_policy

ROOT = Path(__file__).parents[2]
EVERYTHING = make_facts(
    12,
    offline=3,
    types={"pi": 11, "nuc": 1},
    uncovered=("type nuc",),
    groups={"vision": make_group(12, 1, has_baseline=False, requests_per_minute=0.1)},
    unwell=("d-5",),
    no_space=("d-77",),
    single_points={"wave-3": ("d-3",)},
    signals={"pi": {}},
    is_signed=False,
    lines=(make_line(bytes_per_second=20_000), make_line(over_bus=300, bus_bytes=30_000_000_000)),
    artifact_bytes=100_000_000,
)


def test_every_rule_says_only_its_own_id() -> None:
    policy = make_policy(lint={"silence": {"L099": "we hope so"}})
    text = "health_gates: {canary_gate: {checks: [{threshold: baseline + 2%}]}}"
    for name, rule in RULES.items():
        assert {each.id for each in rule(Scene(policy, EVERYTHING, Written(text)))} == {name}


def test_every_rule_is_explained() -> None:
    explained = re.findall(r"^## (L\d{3})\b", (ROOT / "docs" / "LINT.md").read_text(), flags=re.MULTILINE)

    assert explained == list(RULES)


REFERENCE_FINDINGS = {
    5: [
        "L003 warning rollout.canary",
        "L004 warning health_gates.completion_gate.checks[0].window",
        "L002 note rollout.waves[1].failure_threshold_percent",
        "L002 note health_gates.wave_gate.checks[2]",
        "L002 note health_gates.completion_gate.checks[1]",
        "L002 note health_gates.completion_gate.checks[2]",
        "L004 note rollback_triggers.threshold[2]",
        "L004 note rollback_triggers.trend[1]",
        "L007 note rolling_update.max_unavailable",
        "L010 note rollback_triggers.immediate[2]",
    ],
    100: [
        "L002 warning rollout.waves[0].failure_threshold_percent",
        "L002 warning rollout.waves[1].failure_threshold_percent",
        "L002 warning rollout.waves[2].failure_threshold_percent",
        "L003 warning rollout.canary",
        "L004 warning health_gates.completion_gate.checks[0].window",
        "L002 note health_gates.wave_gate.checks[2]",
        "L004 note rollback_triggers.threshold[2]",
        "L004 note rollback_triggers.trend[1]",
        "L010 note rollback_triggers.immediate[2]",
    ],
    1000: [
        "L002 warning rollout.waves[0].failure_threshold_percent",
        "L002 warning rollout.waves[1].failure_threshold_percent",
        "L002 warning rollout.waves[2].failure_threshold_percent",
        "L002 warning health_gates.wave_gate.checks[3]",
        "L004 warning health_gates.completion_gate.checks[0].window",
        "L003 note rollout.canary",
        "L004 note rollback_triggers.threshold[2]",
        "L004 note rollback_triggers.trend[1]",
        "L009 note rollout.canary.max_devices",
        "L010 note rollback_triggers.immediate[2]",
    ],
}
REFERENCE_NUMBERS = {
    5: ["5% / 10% / 20%", "10 min", "4% of such waves", "means all 5", "means all 5", "means all 5", "30 min", "30 min",
        "10% of 5 devices", "failed > 5%"],
    100: ["26% of such waves", "34% of such waves", "50% of such waves", "14% / 27% / 49%", "10 min",
          "of 18 devices (after wave-1) means all 18", "30 min", "30 min", "failed > 5%"],
    1000: ["149 devices: a failure among the first 19 stops wave-1", "347 devices", "66% of such waves",
           "1,000 devices in 10 min fails in 21%", "10 min", "40% / 65% / 89%", "30 min", "30 min",
           "3% of 1,000 devices is 30; max_devices makes it 10 (1%)", "failed > 5%"],
}  # fmt: skip


@pytest.mark.parametrize("devices", REFERENCE_FINDINGS)
def test_the_reference_is_told_exactly_this(devices: int) -> None:
    findings = lint_rollout(REFERENCE, make_facts(devices))

    assert [f"{each.id} {each.severity} {each.where}" for each in findings] == REFERENCE_FINDINGS[devices]
    for finding, numbers in zip(findings, REFERENCE_NUMBERS[devices], strict=True):
        assert numbers in finding.message


def test_the_reference_can_proceed_and_can_stop() -> None:
    assert not any(each.blocks for each in lint_policy(REFERENCE))
    assert not any(each.blocks for each in lint_rollout(REFERENCE, make_facts(1)))


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_examples_are_told_notes_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    severities = {each.severity for each in lint_policy(parse_policy(text), text=text)}

    assert severities <= {"note", *(["warning"] if path.stem.startswith("reference") else [])}


def test_a_silenced_finding_stays_visible_with_its_reason_and_comes_last() -> None:
    policy = make_policy(lint={"silence": {"L002": "one failure is one too many"}})

    findings = lint_rollout(policy, make_facts(100))

    assert {each.silenced for each in findings if each.id == "L002"} == {"one failure is one too many"}
    assert {each.silenced for each in findings if each.id != "L002"} == {None}
    assert [each.silenced is not None for each in findings] == sorted(each.silenced is not None for each in findings)


def test_an_error_stands_whatever_the_policy_accepts() -> None:
    check = {"type": "error_rate", "threshold": "baseline * 500"}
    gates = {"canary_gate": {"checks": [check]}, "wave_gate": {"checks": [check]}}
    silence = {"silence": dict.fromkeys(("L001", "L012"), "we know")}
    policy = make_policy(health_gates=gates, rollback_triggers={}, lint=silence)
    groups = {"vision": make_group(error_rate=0.003), "new": make_group(has_baseline=False, error_rate=None)}

    errors = [each for each in lint_rollout(policy, make_facts(groups=groups)) if each.severity == "error"]

    assert {each.id for each in errors} == {"L012", "L001"}
    for each in errors:
        assert (each.blocks, each.silenced) == (True, None)
        assert each.remedy.endswith("; an error is not silenced by 'we know'")


def test_findings_travel_as_plain_data() -> None:
    findings = lint_rollout(REFERENCE, EVERYTHING)

    assert tuple(Finding.model_validate(each) for each in as_data(findings)) == findings
    assert "silenced" not in as_data(findings)[0]


FACTS = st.builds(
    FleetFacts,
    waves=st.lists(st.integers(1, 400), min_size=1, max_size=4).map(
        lambda sizes: dict(zip(("canary", "wave-1", "wave-2", "wave-3"), sizes, strict=False))
    ),
    types=st.dictionaries(st.sampled_from(["pi", "nuc"]), st.integers(1, 99)),
    groups=st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.builds(
            make_group,
            st.integers(1, 99),
            st.integers(0, 9),
            error_rate=st.one_of(st.none(), st.floats(0, 1)),
            requests_per_minute=st.one_of(st.none(), st.floats(0, 1e4)),
        ),
    ),
    uncovered=st.just(()) | st.just(("type pi", "region x")),
    signals=st.dictionaries(st.sampled_from(["pi", "nuc"]), st.just({"latency": 1})),
    time_scale=st.sampled_from([1.0, 60.0]),
    sample_seconds=st.one_of(st.none(), st.floats(0.1, 3600)),
    restarts_per_device_day=st.one_of(st.none(), st.floats(0, 1e4)),
).flatmap(lambda facts: st.integers(0, facts.targets).map(lambda offline: make_offline(facts, offline)))


def make_offline(facts: FleetFacts, offline: int) -> FleetFacts:
    return FleetFacts(**{**{name: getattr(facts, name) for name in FleetFacts.__slots__}, "offline": offline})


@given(FACTS, st.sampled_from([1.0, 7.0, 100_000.0]))
def test_every_fleet_is_answered_in_short_plain_sentences(facts: FleetFacts, time_scale: float) -> None:
    for finding in lint_rollout(REFERENCE.scaled(time_scale), facts):
        assert finding.message.isprintable()
        assert 0 < len(finding.message) < 400
        assert 0 < len(finding.remedy) < 300
        assert "nan" not in finding.message
        assert "inf " not in finding.message
