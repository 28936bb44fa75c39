"""How long a rehearsal of a whole rollout to a million devices takes: an hour of canary, three waves, a good version.

The policy is the careful one, for a large fleet: up to 1,000 canaries, and a tenth of the fleet may be out of service
at a time. Devices are played in bulk; planner, limits, gates, triggers and telemetry are the product's. Prints the
machine, the processor time of a run (the median of several), the time by the clock, the peak of memory, and the ratios
to the bars (60 s, 2 GB for the whole process); ``--json`` prints one object.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import time

from orchestrator.examples import find_examples
from orchestrator.shelf import load_policy
from schemas.policy import Policy
from simulator.fault_text import parse_fault
from simulator.materials import make_fleet
from simulator.rehearsal import rehearse

BAR_SECONDS = 60.0
BAR_BYTES = 2 * 10**9
DEVICES = 1_000_000
CANARIES = 1_000


def large_fleet_policy(devices: int) -> Policy:
    """Return the careful policy with the limits that a fleet of this size needs."""
    policy = load_policy(find_examples() / "policies" / "careful.yaml")
    rollout = policy.rollout
    canary = rollout.canary.model_copy(update={"max_devices": CANARIES})
    limits = rollout.global_.model_copy(update={"max_parallel_deploys": devices // 10})
    return policy.model_copy(update={"rollout": rollout.model_copy(update={"canary": canary, "global_": limits})})


def run_once(devices: int, seed: int) -> tuple[float, float]:
    """Rehearse one rollout, its fleet and all; return the processor time it took and the time by the clock."""
    began, spent = time.perf_counter(), time.process_time()
    seen = rehearse(large_fleet_policy(devices), make_fleet(devices), parse_fault("none"), seed)
    assert (seen.outcome, seen.exposed, len(seen.waves)) == ("completed", devices, 4), seen.told
    return time.process_time() - spent, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    runs = [run_once(options.devices, seed) for seed in range(1, options.runs + 1)]
    seconds, clock_seconds = (round(statistics.median(each), 1) for each in zip(*runs, strict=True))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ratio, memory_ratio = round(seconds / BAR_SECONDS, 2), round(peak_bytes / BAR_BYTES, 2)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    if options.json:
        figure = {"figure": seconds, "unit": "s", "bar": BAR_SECONDS, "ratio": ratio, "clock_seconds": clock_seconds}
        memory = {"peak_bytes": peak_bytes, "peak_bar": BAR_BYTES, "peak_ratio": memory_ratio}
        name = f"rehearsal_{options.devices}_devices_seconds"
        print(json.dumps({"name": name, **figure, **memory, "runs": len(runs), "machine": machine}))
    else:
        print(machine)
        print(
            f"{options.devices:,} devices: median {seconds} s of {len(runs)} runs ({clock_seconds} s by the clock), "
            f"bar {BAR_SECONDS:g} s, ratio {ratio}"
        )
        print(f"peak memory {peak_bytes / 1e6:.0f} MB, bar {BAR_BYTES / 1e6:.0f} MB, ratio {memory_ratio}")


if __name__ == "__main__":
    main()
