from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import PolicyError
from schemas.policy_text import parse_policy

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"

# The blocks of the reference as they stand there.
ROLLOUT = """\
# Example rollout configuration
rollout:
  canary:
    percentage: 3
    min_devices: 1
    max_devices: 10
    soak_minutes: 30
    require_human_approval_after: true

  waves:
    - name: wave-1
      percentage: 15
      soak_minutes: 15
      failure_threshold_percent: 5
      auto_rollback: true

    - name: wave-2
      percentage: 35
      soak_minutes: 10
      failure_threshold_percent: 5
      auto_rollback: true

    - name: wave-3
      percentage: 100    # remaining devices
      soak_minutes: 10
      failure_threshold_percent: 3
      auto_rollback: true

  global:
    max_parallel_deploys: 50
    deploy_timeout_minutes: 10
    health_check_interval_seconds: 30
    health_check_retries: 3
    offline_device_policy: skip_and_queue
"""
ROLLING_UPDATE = """\
rolling_update:
  max_unavailable: 10%      # Max devices being updated at once
  min_available: 90%         # Minimum healthy devices at all times
  health_check:
    path: /health
    port: 8080
    interval_seconds: 30
    timeout_seconds: 10
    success_threshold: 3     # Consecutive successes to mark healthy
    failure_threshold: 3     # Consecutive failures to mark unhealthy
  min_ready_seconds: 60      # Must be healthy for 60s before proceeding
  progress_deadline: 300     # Seconds before declaring wave stuck
  rollback_on_failure: true
"""
GATES = """\
health_gates:
  canary_gate:
    checks:
      - type: error_rate
        threshold: baseline + 2%
        window: 15m
      - type: latency_p95
        threshold: baseline + 20%
        window: 15m
      - type: application_health
        threshold: all_healthy
      - type: crash_count
        threshold: 0
        window: 30m
    verdict: all_checks_pass
  wave_gate:
    checks:
      - type: device_health
        threshold: healthy_percentage >= 95%
rollback_triggers:
  immediate:
    - name: crash_loop
      condition: device restarts > 3 in 5 minutes
      scope: single_device
      action: rollback_device
"""
WHOLE = ROLLOUT + ROLLING_UPDATE + GATES


def refusal(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, source="p.yaml")
    return str(caught.value)


def test_the_blocks_of_the_reference_load_unchanged() -> None:
    policy = parse_policy(WHOLE)

    canary, update = policy.rollout.canary, policy.rolling_update
    assert (canary.percentage, canary.min_devices, canary.max_devices, canary.soak_minutes) == (3, 1, 10, 30)
    assert canary.require_human_approval_after
    waves = [(w.name, w.percentage, w.soak_minutes, w.failure_threshold_percent) for w in policy.rollout.waves]
    assert waves == [("wave-1", 15, 15, 5), ("wave-2", 35, 10, 5), ("wave-3", 100, 10, 3)]
    assert (policy.rollout.global_.max_parallel_deploys, policy.rollout.global_.deploy_timeout_minutes) == (50, 10)
    assert (update.max_unavailable, update.min_available, update.health_check.port) == (10.0, 90.0, 8080)
    assert (update.min_ready_seconds, update.progress_deadline) == (60, 300)
    assert [str(check.threshold) for check in policy.health_gates.canary_gate.checks] == [
        "error_rate <= baseline + 2pp",
        "latency_p95 <= baseline + 20% rel",
        "healthy_percentage >= 100%",
        "crash_count <= 0",
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads(path: Path) -> None:
    assert parse_policy(path.read_text()).rollout.waves


def test_what_is_left_out_has_the_defaults_of_the_reference() -> None:
    policy = parse_policy(ROLLOUT + GATES)

    assert policy.rolling_update.max_unavailable == 10.0
    assert policy.rolling_update.health_check.interval_seconds == 30.0


@pytest.mark.parametrize(
    ("before", "after", "message", "line", "caret"),
    [
        ("soak_minutes: 15", "soak_minuts: 15", "unknown key 'soak_minuts'; did you mean 'soak_minutes'?",
         "      soak_minuts: 15", 6),
        ("  global:", "  globl:", "unknown key 'globl'; did you mean 'global'?", "  globl:", 2),
        ("skip_and_queue", "skip_and_que",
         "offline_device_policy: 'skip_and_que' is none of 'skip_and_queue'; did you mean 'skip_and_queue'?",
         "    offline_device_policy: skip_and_que", 4),
        ("type: latency_p95", "type: latency_p59",
         "type: 'latency_p59' is none of 'error_rate', 'latency_p50', 'latency_p95'", "      - type: latency_p59", 8),
        ("max_unavailable: 10%  ", "max_unavailable: 10x  ", "max_unavailable: Input should be a valid number",
         "  max_unavailable: 10x      # Max devices being updated at once", 2),
        ("percentage: 100 ", "percentage: 101 ", "percentage: Input should be less than or equal to 100",
         "      percentage: 101    # remaining devices", 6),
        ("- name: wave-2", "- name: wave-1", "rollout: two waves are called 'wave-1'", "rollout:", 0),
        ("max_unavailable: 10%  ", "max_unavailable: 20%  ",
         "rolling_update: max_unavailable 20% and min_available 90%", "# Example rollout configuration", 0),
        ("window: 30m", "window: 30 moons", "window: cannot read it from column 4 on", "        window: 30 moons", 8),
        ("threshold: all_healthy", "threshold: all_happy", "threshold: cannot read it from column 1 on",
         "        threshold: all_happy", 8),
        ("device restarts > 3 in", "devices restart > 3 in", "condition: cannot read it from column 7 on",
         "      condition: devices restart > 3 in 5 minutes", 6),
        ("device restarts > 3 in", "device restarts < 3 in", "condition: 'device restarts < 3 in 5 min' is what must",
         "      condition: device restarts < 3 in 5 minutes", 6),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_with_its_place_and_a_remedy(
    before: str, after: str, message: str, line: str, caret: int
) -> None:
    text = WHOLE.replace(before, after, 1)
    assert text != WHOLE

    first, *_, shown, pointer = refusal(text).splitlines()

    number = text.splitlines().index(line) + 1
    assert first.startswith(f"p.yaml:{number}:{caret + 1}: {message}")
    assert (shown, pointer) == (line, " " * caret + "^")


def test_a_misspelt_block_is_named_and_not_the_one_it_should_be() -> None:
    assert "unknown key 'health_gate'; did you mean 'health_gates'?" in refusal(
        WHOLE.replace("health_gates:", "health_gate:")
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "p.yaml:1:1: expected a mapping"),
        ("- a\n- b\n", "p.yaml:1:1: expected a mapping"),
        ("rollout: [", "p.yaml:"),
        ("rollout:\n\tcanary: 1\n", "p.yaml:2:1:"),
        ("a: 1\na: 2\n", "p.yaml:2:1: found duplicate key"),
        ("a: 1\n---\nb: 2\n", "p.yaml:2:1: but found another document"),
        ("a: &x 1\nb: *x\n", "p.yaml:1:4: anchors and aliases are not allowed"),
        ("a: [*a]\n", "p.yaml:1:5: anchors and aliases are not allowed"),
        ("a: " + "[" * 17 + "]" * 17, "p.yaml:1:19: nested deeper than 16"),
        ("a: " + "[" * 30_000, "nested deeper than 16"),
        ("a: \x00\n", "p.yaml"),
        ("rollout: !!python/object:os.system x\n", "p.yaml:1:10: tags such as"),
        ("? [a]\n: b\n", "p.yaml:1:3: a list or a mapping is no key"),
        ("a:\n- {b: 1, {c: 2}: 3}\n", "p.yaml:2:10: a list or a mapping is no key"),
        ("x" * (64 * 1024 + 1), "65537 characters, at most 65536"),
    ],
)
def test_hostile_yaml_is_refused_with_its_place(text: str, why: str) -> None:
    assert why in refusal(text)


@given(st.text(max_size=60), st.integers(0, len(WHOLE)))
def test_a_policy_with_anything_in_it_is_a_policy_or_a_policy_error(text: str, place: int) -> None:
    message = "policy:"
    try:
        parse_policy(WHOLE[:place] + text + WHOLE[place:])
    except PolicyError as error:
        message = str(error)
    assert message.startswith("policy:")
