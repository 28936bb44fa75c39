"""Sixty seeds of everything that goes wrong, in chunks for all workers; CI runs 2,000 with `tidegate simulate`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.intake import Intake
from orchestrator.reporting.build import build_report
from orchestrator.telemetry.monitor import Monitor
from simulator import Faults, World, simulate
from simulator.faults import RARER, draw_faults
from simulator.scenario import draw_device_count, draw_scenario
from tests.reporting.report_agrees import compare

SEEDS = range(60)
CHUNK = 10
DEVICE_COUNT = 10
HASHED = [0, 1, 2, 17]
"""The last has two devices that appear late."""
FOUND = [
    (1146, 6),
    (71, 10),
    (52, 8),
    (612, 10),
    (1486, 10),
    (1523, 10),
    (1856, 10),
    (251, 9),
    (719, 10),
    (1478, 10),
    (761, 10),
    (3255, 8),
    (4017, 5),
    (4344, 4),
    (888, 4),
    (2926, 9),
]
"""Seeds, each with its number of devices, that found a bug."""


def check(seed: int, device_count: int | None = None) -> None:
    device_count = device_count or draw_device_count(seed)
    replay = f"seed={seed}; replay with: tidegate simulate --seed {seed} --devices {device_count} --explain"
    try:
        world = World(draw_scenario(seed, device_count=device_count))
        result = world.run()
        assert not result.violations, "\n".join(result.violations)
        reports_agree(world)
    except Exception as error:
        error.add_note(replay)
        raise


def reports_agree(world: World) -> None:
    """Hold the report of each rollout against what the orchestrator knows of it."""
    assert world.orchestrator.engine is not None
    entries = list(world.orchestrator.journal.read())
    for rollout in world.orchestrator.engine.state.rollouts.values():
        compare(build_report(entries, rollout.id, entries[-1].at), rollout)


@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_no_invariant_breaks_when_everything_goes_wrong(first: int) -> None:
    for seed in SEEDS[first : first + CHUNK]:
        check(seed)


@pytest.mark.parametrize(("seed", "device_count"), FOUND)
def test_no_invariant_breaks_again_where_one_broke(seed: int, device_count: int) -> None:
    check(seed, device_count)


def test_what_devices_do_counts_where_they_belong_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Intake.take
    kinds: set[tuple[bool, bool]] = set()

    def checked(intake: Intake, devices: Sequence[str], *message: Any) -> Any:  # noqa: ANN401 - as it is
        homes = take(intake, devices, *message)
        monitor = intake._monitor
        assert isinstance(monitor, Monitor)
        for device, row in zip(devices, monitor.find(devices).tolist(), strict=True):
            located = intake._locate(device)
            if located is not None:
                kinds.add((bool(located.place.wave), located.place.is_normal))
                assert located.place == monitor._places[monitor._columns.place[row]]
        return homes

    monkeypatch.setattr(Intake, "take", checked)
    for seed in range(10):
        simulate(seed, device_count=DEVICE_COUNT)
    assert len(kinds) == 4, "in a wave and in none, normal and not"


EVERYTHING = frozenset({
    "completed", "rolled_back", "halted",
    "devices_joined", "device_retried", "device_skipped", "soak_extended", "rollout_resumed",
    "fleet_frozen", "fleet_thawed", "rollback_verified", "device_returned", "hangs,",
})  # fmt: skip
"""How rollouts end, and what the orchestrator does on the way."""


def test_everything_happens_in_some_seed() -> None:
    missing = set(EVERYTHING)
    for seed in range(40):
        result = simulate(seed, device_count=DEVICE_COUNT)
        missing -= {str(phase) for phase in result.outcomes.values()}
        missing -= {line.split()[2] for line in result.trace if line.split()[1] == "orchestrator"}
        if not missing:
            return
    pytest.fail(f"never seen: {missing}")


HARDSHIP = (
    "clock 1970", "clock ahead", "clock jumps", "clock slow", "rots: ", "which is active",
    "cannot remember: ", "is copied: ", ", unheard", "unhearing for ", "lies: long_flood", "lies: be_a_stranger",
    "lies: send_no_numbers", "lies: use_another_name", "cannot write its journal", "doubles: ",
    "is put back from a backup", ": the old one is obeyed no more", "authority      revokes app-",
)  # fmt: skip
"""What the trace says of each fault of machines."""


def test_every_hardship_is_drawn_and_happens() -> None:
    drawn = [draw_faults(seed) for seed in range(200)]
    assert all(sum(bool(getattr(each, name)) for each in drawn) >= 10 for name in RARER)
    assert {each.queued_max for each in drawn} == {None, 0, 1, 2}

    worst = Faults(**RARER)  # type: ignore[arg-type] # all of these are numbers
    missing = set(HARDSHIP)
    for seed in range(6):
        lines = simulate(seed, device_count=6, faults=worst).trace if missing else ()
        missing -= {word for word in missing if any(word in line for line in lines)}

    assert missing == set()


def test_trace_is_the_same_when_a_seed_runs_again_with_another_hash_seed() -> None:
    hashes = f"[simulate(seed, device_count={DEVICE_COUNT}).trace_hash for seed in {HASHED}]"
    code = f"from simulator import simulate; print({hashes})"

    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    first = run("1")
    assert first == run("2")
    assert len(set(first.split(","))) == len(HASHED)
