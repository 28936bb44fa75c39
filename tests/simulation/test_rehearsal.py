"""A policy is tried out before it is used: what would have happened, and how often."""

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from orchestrator.adapters.inventories import read_inventory
from schemas.inventory import DeviceEntry
from schemas.policy import Policy
from schemas.policy_text import parse_policy
from simulator.__main__ import main
from simulator.application import GOOD, MEMORY_BYTES
from simulator.fault_text import EXAMPLES, FaultError, parse_fault
from simulator.materials import make_fleet
from simulator.rehearsal import DEVICES_MAX, RehearsalError, fleet_of, rehearse
from simulator.rehearsal_view import summary

CAREFUL = Path(__file__).parents[2] / "examples" / "policies" / "careful.yaml"
INVENTORY = CAREFUL.parents[1] / "inventories" / "fleet.csv"
WEAK = """
rollout:
  canary:
    {percentage: 5, min_devices: 1, soak_minutes: 1, immediate_minutes: 1, short_term_minutes: 1,
     require_human_approval_after: false, phases: {
       immediate: {checks: [{type: crash_count, threshold: 0, min_samples: 1}]},
       short_term: {checks: [{type: crash_count, threshold: 0, min_samples: 1}]},
       soak: {checks: [{type: crash_count, threshold: 0, min_samples: 1}]}}}
  waves:
    - {name: wave-1, percentage: 50, soak_minutes: 1, failure_threshold_percent: 99}
    - {name: wave-2, percentage: 100, soak_minutes: 1, failure_threshold_percent: 99}
health_gates:
  canary_gate: {checks: [{type: crash_count, threshold: 0, min_samples: 1}]}
  wave_gate: {checks: [{type: crash_count, threshold: 0, min_samples: 1}]}
"""


def careful() -> Policy:
    return parse_policy(CAREFUL.read_text())


def test_a_version_that_crashes_is_stopped_at_the_canary_and_harms_nobody_else() -> None:
    seen = rehearse(careful(), make_fleet(30), parse_fault("crash"), seed=1)

    assert (seen.outcome, seen.stopped_in, seen.is_stopped) == ("rolled_back", "canary", True)
    assert seen.stopped_by in {"wave_failure_rate", "failure_threshold", "crash_count"}
    assert seen.harmed == seen.exposed == seen.waves[0].devices
    assert [wave.started_at for wave in seen.waves[1:]] == [None, None, None]
    assert seen.violations == ()


def test_a_good_version_reaches_the_whole_fleet_wave_by_wave() -> None:
    seen = rehearse(careful(), make_fleet(20), parse_fault("none"), seed=1)

    assert (seen.outcome, seen.stopped_by, seen.is_stopped) == ("completed", "", False)
    assert (seen.exposed, seen.harmed, seen.targets) == (20, 0, 20)
    assert [wave.verdict for wave in seen.waves] == ["pass"] * 4
    began = [wave.started_at for wave in seen.waves if wave.started_at is not None]
    assert began == sorted(began)
    assert [count for _, count in seen.exposure] == list(range(1, 21))


def test_a_policy_that_looks_at_too_little_lets_the_same_fault_through_and_it_is_said() -> None:
    weak = parse_policy(WEAK)
    fault = parse_fault("error rate +8%")
    fleet = make_fleet(20)

    assert rehearse(careful(), fleet, fault, seed=1).stopped_in == "canary"
    seen = rehearse(weak, fleet, fault, seed=1)

    assert (seen.is_stopped, seen.exposed, seen.harmed) == (False, 20, 20)
    assert seen.reached_last_wave


def test_the_same_seed_gives_the_same_rehearsal_and_another_one_other_devices() -> None:
    fleet, fault = make_fleet(30), parse_fault("10% of jetson crash")
    first, again, other = (rehearse(careful(), fleet, fault, seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert first.affected == other.affected == 2


def test_many_runs_become_chances_and_ranges() -> None:
    fleet, fault = make_fleet(20), parse_fault("crash")
    seen = [rehearse(careful(), fleet, fault, seed) for seed in range(3)]

    told = summary(seen)

    assert (told["runs"], told["stopped_before_last_wave"]) == (3, 3)
    assert told["exposed"]["min"] <= told["exposed"]["p50"] <= told["exposed"]["p95"] <= told["exposed"]["max"]
    assert told["stopped_in"] == {"canary": 3}


def test_what_an_inventory_declares_holds_in_the_rehearsal() -> None:
    entries = {f"cam-{number:02d}": DeviceEntry(device_type="cam", region="eu", group="g") for number in range(12)}
    entries["cam-00"] = DeviceEntry(device_type="cam", region="eu", group="g", maintenance=True)
    fleet = fleet_of(entries)

    seen = rehearse(careful(), fleet, parse_fault("crash"), seed=1)

    assert [each.maintenance for each in fleet].count(True) == 1
    assert (seen.stopped_in, seen.targets) == ("canary", 11)


def test_our_example_of_an_inventory_can_be_tried_out() -> None:
    assert rehearse(careful(), fleet_of(read_inventory(INVENTORY)), parse_fault("crash"), seed=1).is_stopped


@pytest.mark.parametrize("text", EXAMPLES)
def test_each_fault_that_is_shown_as_an_example_can_be_read(text: str) -> None:
    assert (parse_fault(text).behavior == GOOD) == (text == "none")


def test_faults_mean_what_they_say() -> None:
    some = parse_fault("5% of Jetson crash")
    leak = parse_fault("leak 2%/10 min").behavior

    assert (some.share, some.device_type) == (0.05, "jetson")
    assert leak.leak_bytes_per_second == pytest.approx(MEMORY_BYTES * 0.02 / 600)
    assert parse_fault("p95 +30%").behavior.latency_factor == pytest.approx(1.3)
    assert parse_fault("error rate +3% after 20 min").behavior.begins_after_seconds == 1200
    assert parse_fault("silent 10%").share == pytest.approx(0.1)
    assert parse_fault("10% silent after 5 min").behavior.silent_after_seconds == 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crsh", "did you mean 'crash'?"),
        ("0% crash", "write a share above 0 and up to 100"),
        ("200% crash", "write a share above 0 and up to 100"),
        ("leak 2%/banana", "'banana' is no duration"),
        ("", "Write for example: none, crash"),
    ],
)
def test_a_fault_that_cannot_be_read_is_refused_with_examples(text: str, says: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)

    assert says in str(caught.value)


def test_a_fault_that_hits_nobody_and_a_fleet_that_is_too_large_are_refused() -> None:
    with pytest.raises(RehearsalError, match="the fault is about pi, and the fleet has none; there are jetson"):
        rehearse(careful(), make_fleet(4), parse_fault("5% of pi crash"), seed=1)
    with pytest.raises(RehearsalError, match="2,000,001 devices: from 1 to 2,000,000 can be simulated"):
        rehearse(careful(), make_fleet(1) * (DEVICES_MAX + 1), parse_fault("none"), seed=1)


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["simulator", *arguments])
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, *capsys.readouterr()


def test_the_command_tells_the_story_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "runs.svg"
    code, told, _ = simulate(capsys, str(CAREFUL), "--devices", "10", "--fault", "crash", "--plot", str(picture))

    assert code == 0
    assert told.startswith("It stops in canary after ")
    root = ET.fromstring(picture.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{*}path[@class='run']")) == 1


def test_the_command_gives_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, told, _ = simulate(capsys, str(CAREFUL), "--devices", "10", "--fault", "crash", "--runs", "2", "--json")

    found = json.loads(told)
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert found["summary"]["stopped_before_last_wave"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a POLICY to try out, or --seed or --seeds"),
        ((str(CAREFUL), "--seeds", "3"), "are for rollouts without a POLICY"),
        ((str(CAREFUL), "--fault", "crsh"), "did you mean 'crash'?"),
        ((str(CAREFUL), "--plot", "a.png", "--devices", "2", "--fault", "crash"), "is no .svg"),
        (("nowhere.yaml",), "nowhere.yaml: cannot be read"),
    ],
)
def test_wrong_usage_is_refused_with_the_remedy(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = simulate(capsys, *arguments)

    assert code == 2
    assert says in told
