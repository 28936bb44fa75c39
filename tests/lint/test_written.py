"""The file as it was written: what it says at a path, and where."""

import pytest

from orchestrator.lint.written import Written

TEXT = """\
rollout:
  canary: {percentage: 3, max_devices: 10}
health_gates:
  wave_gate:
    checks:
      - type: error_rate
        threshold: baseline + 2%
      - {type: crash_count, threshold: 0}
lint:
  silence:
    L003: small
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("rollout.canary.max_devices", (2, 27)),
        ("rollout.canary.phases.soak.checks[0]", (2, 3)),
        ("rollout.waves[2].failure_threshold_percent", (1, 1)),
        ("health_gates.wave_gate.checks[0].threshold", (7, 9)),
        ("health_gates.wave_gate.checks[1]", (8, 9)),
        ("health_gates.wave_gate.checks[1].window", (8, 9)),
        ("health_gates.wave_gate.checks[2]", (5, 5)),
        ("lint.silence.L003", (11, 5)),
        ("rollback_triggers", None),
        ("release", None),
    ],
)
def test_a_path_is_found_as_deep_as_the_file_goes(path: str, place: tuple[int, int] | None) -> None:
    assert Written(TEXT).place(path) == place


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("health_gates.wave_gate.checks[0].threshold", "baseline + 2%"),
        ("health_gates.wave_gate.checks[1].threshold", "0"),
        ("health_gates.wave_gate.checks[1].window", ""),
        ("health_gates.wave_gate.checks", ""),
        ("strategy", ""),
    ],
)
def test_the_files_own_words_are_found_and_defaults_are_empty(path: str, text: str) -> None:
    assert Written(TEXT).text(path) == text


def test_without_a_file_there_is_no_place_and_no_word() -> None:
    assert not Written()
    assert Written().place("rollout") is None
    assert Written().text("rollout") == ""
