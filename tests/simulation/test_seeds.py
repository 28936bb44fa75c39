"""Five hundred seeds of everything that goes wrong, and the seeds that once found something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import simulate

SEEDS = range(500)
CHUNK = 25
DEVICE_COUNT = 10
CORPUS = Path(__file__).with_name("corpus.txt")


def check(seed: int) -> None:
    code = f"from simulator import simulate; print(*simulate({seed}, device_count={DEVICE_COUNT}).trace, sep='\\n')"
    replay = f'seed={seed}; replay with: python -c "{code}"'
    try:
        result = simulate(seed, device_count=DEVICE_COUNT)
    except Exception as error:
        error.add_note(replay)
        raise
    assert not result.violations, "\n".join((replay, *result.violations))


@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_no_invariant_breaks_when_everything_goes_wrong(first: int) -> None:
    for seed in SEEDS[first : first + CHUNK]:
        check(seed)


def test_no_invariant_breaks_when_seeds_that_once_found_a_bug_run_again() -> None:
    lines = [line.split("#", 1)[0].strip() for line in CORPUS.read_text().splitlines()]
    for line in filter(None, lines):
        check(int(line))


def test_rollouts_end_in_every_way_when_seeds_vary() -> None:
    outcomes = {phase for seed in range(20) for phase in simulate(seed, device_count=DEVICE_COUNT).outcomes.values()}
    assert {"completed", "rolled_back", "halted"} <= outcomes


def test_trace_is_the_same_when_a_seed_runs_again_with_another_hash_seed() -> None:
    hashes = f"[simulate(seed, device_count={DEVICE_COUNT}).trace_hash for seed in range(4)]"
    code = f"from simulator import simulate; print({hashes})"

    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    first = run("1")
    assert first == run("2")
    assert len(set(first.split(","))) == 4
