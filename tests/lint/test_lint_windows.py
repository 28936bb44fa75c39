"""L004 and L005: over what a threshold is taken, and what its percent means."""

from typing import Any

import pytest

from schemas.policy_text import parse_policy
from tests.lint.lint_bench import REFERENCE, found, make_facts, make_policy

TEXT = """
health_gates:
  canary_gate:
    checks:
      - {type: error_rate, threshold: baseline + 2%, window: 15m}
      - {type: latency_p95, threshold: baseline + 20%, window: 15m}
  wave_gate:
    checks:
      - {type: error_rate, threshold: baseline + 5pp, window: 10m}
      - {type: latency_p95, threshold: baseline + 30% rel, window: 10m}
      - {type: quality, threshold: baseline - 5%}
rollback_triggers:
  threshold:
    - {name: spike, condition: error_rate > baseline + 10 %, window: 5m, scope: all_deployed, action: rollback_all}
    - {name: slow, condition: p95_latency > baseline * 2.0, window: 5m, scope: all_deployed, action: rollback_all}
"""


def make_windows(gate: str, window: str, *soaks: float, **canary: float) -> Any:  # noqa: ANN401 - a policy's blocks
    check = {"type": "error_rate", "threshold": "5%", "window": window}
    waves = [
        {"name": f"wave-{number}", "percentage": 100, "soak_minutes": soak}
        for number, soak in enumerate(soaks, start=1)
    ]
    return {"health_gates": {gate: {"checks": [check]}}, "rollout": {"waves": waves, "canary": canary}}


def test_the_references_completion_gate_looks_back_behind_the_last_soak() -> None:
    finding, *trends = found("L004", REFERENCE)

    assert finding.severity == "warning"
    assert finding.where == "health_gates.completion_gate.checks[0].window"
    assert finding.message == (
        "looks 30 min back, but wave-3 soaks 10 min: "
        "of those devices it sees less, the minutes after the switch included"
    )
    assert finding.remedy == "soak_minutes: 30 for wave-3, or window: 10m"
    assert [each.where for each in trends] == ["rollback_triggers.threshold[2]", "rollback_triggers.trend[1]"]


def test_trends_of_devices_that_nobody_watches_for_so_long_are_named() -> None:
    _, memory, _ = found("L004", REFERENCE)

    assert memory.severity == "note"
    assert memory.message.startswith(
        "memory_leak looks 30 min back, but wave-3 soaks 10 min and then nothing is watched"
    )
    assert found("L004", make_policy(**make_windows("wave_gate", "10m", 15, 30))) == []


@pytest.mark.parametrize(
    ("window", "soaks", "message"),
    [
        ("15m", (15, 30), None),
        ("20m", (15, 30), "looks 20 min back, but wave-1 soaks 15 min: "),
        ("31m", (15, 30), "looks 31 min back, but wave-1 and 1 other wave soaks 15 min: "),
    ],
)
def test_a_wave_gate_is_held_against_every_wave(window: str, soaks: tuple[float, ...], message: str | None) -> None:
    findings = found("L004", make_policy(**make_windows("wave_gate", window, *soaks)))

    assert len(findings) == (message is not None)
    assert all(message is not None and each.message.startswith(message) for each in findings)


@pytest.mark.parametrize(("window", "is_named"), [("60m", False), ("61m", True)])
def test_a_canary_is_watched_from_short_term_to_the_end_of_its_soak(window: str, *, is_named: bool) -> None:
    policy = make_policy(**make_windows("canary_gate", window, 30))

    assert bool(found("L004", policy)) is is_named


def test_the_last_wave_that_has_devices_is_the_last_one() -> None:
    policy = make_policy(**make_windows("completion_gate", "10m", 30, 5))

    assert [each.message.split(":")[0] for each in found("L004", policy) if "completion" in each.where] == [
        "looks 10 min back, but wave-2 soaks 5 min"
    ]
    assert found("L004", policy, make_facts(waves={"canary": 1, "wave-1": 1})) == []


def test_a_soak_lasts_one_health_check_at_least() -> None:
    assert [each.where for each in found("L004", make_policy(**make_windows("wave_gate", "30s", 0, 30)))] == []
    assert len(found("L004", make_policy(**make_windows("wave_gate", "31s", 0, 30)))) == 1


def test_unmarked_percentages_are_read_aloud_once_for_each_reading() -> None:
    points, relative = found("L005", parse_policy(TEXT), text=TEXT)

    assert points.where == "health_gates.canary_gate.checks[0].threshold"
    assert points.message == (
        "baseline + 2% of error_rate adds 2 percentage points: a baseline of 1% may become 3% "
        "(and in 1 other place the same way)"
    )
    assert "'baseline + 2pp' says so" in points.remedy
    assert relative.where == "health_gates.canary_gate.checks[1].threshold"
    assert relative.message == (
        "baseline + 20% of latency_p95 is a share of the baseline: 100 may become 120 "
        "(and in 1 other place the same way)"
    )


def test_marked_percentages_and_defaults_are_not_ambiguous() -> None:
    marked = TEXT.replace("2%", "2pp").replace("20%", "20% rel").replace("10 %", "10pp").replace("- 5%", "- 5% rel")

    assert found("L005", parse_policy(marked), text=marked) == []
    assert found("L005", REFERENCE, text="strategy: rolling") == []
    assert found("L005", parse_policy(TEXT)) == []


def test_the_remedies_of_ambiguous_percentages_are_read_the_same() -> None:
    findings = found("L005", parse_policy(TEXT), text=TEXT)
    written = [each.remedy.split("'")[1] for each in findings]
    marked = TEXT.replace("baseline + 2%", written[0]).replace("baseline + 20%", written[1])

    assert parse_policy(marked) == parse_policy(TEXT)
