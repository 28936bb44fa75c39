"""How long the plan for a million devices takes, and how much memory: canary, waves, reasons, digest, durable journal.

What is measured is what ``start`` does with an inventory of a million: decide who is a target and who may be a canary,
plan, digest, write the fact, append it to the journal on this disk. The devices have 6 types, 12 regions and 40 groups
and were announced in no order, one of them since the last plan; 3% may be no canary and 5% are no targets. ``first`` is
the same where no plan was made before, so that the inventory is in no order yet; ``evolve`` is what the state then
takes to hold the rollout. Prints the
machine, the median of several runs, the peak of memory and the ratios to the bars (1 s, 1 GB for the whole process);
``--json`` prints one object.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from orchestrator.adapters.journal import Journal
from orchestrator.core.events import RolloutStarted
from orchestrator.core.inventory import Device
from orchestrator.core.releases import StoredArtifact, StoredRelease
from orchestrator.core.state import State, evolve
from orchestrator.core.targets import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.shelf import load_policy
from schemas.messages import Info
from schemas.policy import Policy

BAR_SECONDS = 1.0
BAR_BYTES = 10**9
DEVICES = 1_000_000
EXCLUDED_PERCENT = 5
UNFIT_PERCENT = 3
NOW = 1_700_000_000.0
RUNS = 5
PARTS = ("plan", "digest", "fact", "journal")
POLICY = Path(__file__).parents[1] / "examples" / "policies" / "careful.yaml"
_DIGEST = "ab" * 32


def make_state(seed: int) -> State:
    """Return what an orchestrator knows after a million devices have announced themselves."""
    rng = np.random.default_rng(seed)
    state = State(epoch=1)
    devices = state.devices
    rows = devices.add([f"device-{number:07d}" for number in rng.permutation(DEVICES).tolist()])
    kinds = [
        Info(
            session=0, boot_id="-", agent="agent/1", arch="aarch64", device_type=f"type-{number % 6}",
            region=f"region-{number % 12}", group=f"group-{number % 40}", signals=("latency",) * (number % 2),
        )
        for number in range(240)
    ]  # fmt: skip
    kind_of = rng.integers(0, len(kinds), DEVICES).tolist()
    for field in (Device.said, Device.info):
        devices.write(rows, field, (kinds[kind] for kind in kind_of))
    devices.fill(rows, Device.version, "1.0.0")
    devices.fill(rows[rng.random(DEVICES) * 100 < EXCLUDED_PERCENT], Device.version, "2.0.0")
    devices.fill(rows, Device.is_online, value=True)
    devices.fill(rows[rng.random(DEVICES) * 100 < UNFIT_PERCENT], Device.is_online, value=False)
    return state


def make_release() -> StoredRelease:
    """Return a release of one artifact for all."""
    artifact = StoredArtifact(
        manifest_sha256=_DIGEST, manifest_size_bytes=1000, artifact_sha256=_DIGEST, artifact_size_bytes=100_000_000,
        arch="noarch", unpacked_bytes=500_000_000, device_types=(),
    )  # fmt: skip
    return StoredRelease(release="app-2.0.0", version="2.0.0", release_counter=1, by_arch={"noarch": artifact})


def run_once(state: State, policy: Policy, rollout: str, journal: Journal) -> dict[str, float]:
    """Plan, store and apply once; return the seconds of each part, and of all until it is durable."""
    release = make_release()
    moments = [time.perf_counter()]
    plan = make_plan(state, release, policy, rollout, now=NOW)
    moments.append(time.perf_counter())
    assert isinstance(plan, Plan)
    assert plan.digest
    moments.append(time.perf_counter())
    fact = RolloutStarted(
        rollout=rollout, by="alice", reason="", release=release, registry_url="http://registry", policy=policy,
        plan=plan, baselines={},
    )  # fmt: skip
    body = fact.model_dump_json()
    moments.append(time.perf_counter())
    journal.append([(fact.kind, body)], NOW)
    moments.append(time.perf_counter())
    evolve(state, fact, NOW)
    moments.append(time.perf_counter())
    assert state.rollouts.pop(rollout).plan.target_count > DEVICES * 0.9
    *seconds, evolved = [after - before for before, after in pairwise(moments)]
    return {**dict(zip(PARTS, seconds, strict=True)), "all": sum(seconds), "evolve": evolved}


def measure() -> dict[str, float]:
    """Return the median of each part, and ``first``."""
    policy = load_policy(POLICY)
    state = make_state(1)
    runs = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be in memory, which is not durable.
        journal = Journal(Path(folder) / "journal.db")
        journal.open_epoch(NOW)
        first = run_once(state, policy, "first", journal)
        for number in range(RUNS):
            state.devices.add([f"new-{number}"])
            runs.append(run_once(state, policy, f"r-{number}", journal))
        journal.close()
    parts = {name: statistics.median(run[name] for run in runs) for name in first}
    return {**parts, "first": first["all"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    parts = {name: round(seconds, 3) for name, seconds in measure().items()}
    seconds = parts.pop("all")
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ratio, memory_ratio = round(seconds / BAR_SECONDS, 2), round(peak_bytes / BAR_BYTES, 2)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    if as_json:
        figure = {"figure": seconds, "bar": BAR_SECONDS, "ratio": ratio, "parts": parts}
        memory = {"peak_bytes": peak_bytes, "peak_bar": BAR_BYTES, "peak_ratio": memory_ratio}
        print(json.dumps({"name": "plan_1000000_devices_seconds", **figure, **memory, "machine": machine}))
    else:
        print(machine)
        print(", ".join(f"{name} {parts[name]:.3f} s" for name in PARTS))
        print(f"{DEVICES} devices: median {seconds:.2f} s of {RUNS} runs, bar {BAR_SECONDS} s, ratio {ratio}")
        print(f"the first plan ever: {parts['first']:.2f} s; held in the state after another {parts['evolve']:.2f} s")
        print(f"peak memory {peak_bytes / 1e6:.0f} MB, bar {BAR_BYTES / 1e6:.0f} MB, ratio {memory_ratio}")


if __name__ == "__main__":
    main()
