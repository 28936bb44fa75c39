"""How long the plan for a million devices takes, and how much memory: canary, waves, reasons, digest, durable journal.

The fleet has 6 types, 12 regions and 40 groups; 3% may be no canary and 5% are excluded. Prints the machine, the median
of several runs, the peak of memory and the ratios to the bars (1 s, 1 GB for the whole process); ``--json`` prints one
object.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from orchestrator.adapters.journal import Journal
from orchestrator.planning.columns import Column
from orchestrator.planning.fleet import OFFLINE, Fleet
from orchestrator.planning.planner import plan_fleet
from orchestrator.shelf import load_policy
from schemas.policy import Policy

BAR_SECONDS = 1.0
BAR_BYTES = 10**9
DEVICES = 1_000_000
EXCLUDED_PERCENT = 5
UNFIT_PERCENT = 3
RUNS = 5
PARTS = ("plan", "digest", "json", "journal")
POLICY = Path(__file__).parents[1] / "examples" / "policies" / "careful.yaml"
REASONS = ("in maintenance", "quarantined: smoke", "runs 2.0.0 already", "100 bytes free, 500 needed")


def make_fleet(seed: int) -> tuple[Fleet, dict[str, list[str]]]:
    """Return the targets, and the excluded devices by reason."""
    rng = np.random.default_rng(seed)
    names = [f"device-{number:07d}" for number in range(DEVICES)]
    out = rng.random(DEVICES) * 100 < EXCLUDED_PERCENT
    excluded: dict[str, list[str]] = {reason: [] for reason in REASONS}
    for place in np.flatnonzero(out).tolist():
        excluded[REASONS[place % len(REASONS)]].append(names[place])
    targets = [names[place] for place in np.flatnonzero(~out).tolist()]
    count = len(targets)
    unfit = np.where(rng.random(count) * 100 < UNFIT_PERCENT, rng.integers(1, 4, count), 0)

    def column(name: str, kinds: int) -> Column:
        return Column(rng.integers(0, kinds, count).astype(np.int32), [f"{name}-{kind}" for kind in range(kinds)])

    fleet = Fleet(
        names=targets,
        device_type=column("type", 6),
        region=column("region", 12),
        group=column("group", 40),
        signal_count=rng.integers(3, 12, count).astype(np.int32),
        unfit=Column(unfit.astype(np.int32), ["", OFFLINE, "single point of failure", "known issue: fan"]),
    )
    return fleet, excluded


def run_once(fleet: Fleet, excluded: dict[str, list[str]], policy: Policy, seed: int, folder: Path) -> dict[str, float]:
    """Plan and store once; return the seconds of each part and of all."""
    journal = Journal(folder / f"{seed}.db")
    journal.open_epoch(0.0)
    moments = [time.perf_counter()]
    plan = plan_fleet(
        replace(fleet),  # Made anew, because a fleet checks its columns.
        policy,
        excluded=excluded,
        seed=seed,
        artifact_bytes=500_000_000,
    )
    moments.append(time.perf_counter())
    digest = plan.digest
    moments.append(time.perf_counter())
    body = plan.model_dump_json()
    moments.append(time.perf_counter())
    journal.append([("rollout_started", body)], 0.0)
    moments.append(time.perf_counter())
    journal.close()
    assert digest
    assert len(plan.targets) == len(fleet)
    seconds = [after - before for before, after in pairwise(moments)]
    return {**dict(zip(PARTS, seconds, strict=True)), "all": sum(seconds)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    policy = load_policy(POLICY)
    fleet, excluded = make_fleet(1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be in memory, which is not durable.
        runs = [run_once(fleet, excluded, policy, seed, Path(folder)) for seed in range(1, RUNS + 1)]
    parts = {name: round(statistics.median(run[name] for run in runs), 3) for name in (*PARTS, "all")}
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ratio, memory_ratio = round(parts["all"] / BAR_SECONDS, 2), round(peak_bytes / BAR_BYTES, 2)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    if as_json:
        figure = {"figure": parts["all"], "bar": BAR_SECONDS, "ratio": ratio, "parts": parts}
        memory = {"peak_bytes": peak_bytes, "peak_bar": BAR_BYTES, "peak_ratio": memory_ratio}
        print(json.dumps({"name": "plan_1000000_devices_seconds", **figure, **memory, "machine": machine}))
    else:
        print(machine)
        print(", ".join(f"{name} {parts[name]:.3f} s" for name in PARTS))
        print(f"{DEVICES} devices: median {parts['all']:.2f} s of {RUNS} runs, bar {BAR_SECONDS} s, ratio {ratio}")
        print(f"peak memory {peak_bytes / 1e6:.0f} MB, bar {BAR_BYTES / 1e6:.0f} MB, ratio {memory_ratio}")


if __name__ == "__main__":
    main()
