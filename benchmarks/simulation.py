"""How long a whole rollout takes in the simulator: 100 devices, an hour of canary, three waves, the careful policy.

Prints the machine, the median of several runs and the ratio to the bar (0.5 s for one run); ``--json`` prints one
object.
"""

import argparse
import json
import os
import platform
import statistics
import time

from simulator import GOOD, World, make_scenario
from simulator.materials import careful_policy

BAR_SECONDS = 0.5
DEVICES = 100
RUNS = 5


def run_once(seed: int) -> float:
    """Simulate one rollout and return the processor time it took, in seconds."""
    world = World(make_scenario(seed=seed, devices=DEVICES, release=GOOD, policy=careful_policy()))
    started_at = time.process_time()
    result = world.run()
    seconds = time.process_time() - started_at
    assert not result.violations, result.violations
    assert set(result.outcomes.values()) == {"completed"}, result.outcomes
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    run_once(0)  # Imports and caches.
    seconds = statistics.median(run_once(seed) for seed in range(1, RUNS + 1))
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    figure = {"figure": round(seconds, 3), "bar": BAR_SECONDS, "ratio": round(seconds / BAR_SECONDS, 2)}
    if as_json:
        print(json.dumps({"name": "simulation_100_devices_seconds", **figure, "machine": machine}))
    else:
        print(machine)
        print(f"{DEVICES} devices: median {seconds:.2f} s of {RUNS} runs, bar {BAR_SECONDS} s, ratio {figure['ratio']}")


if __name__ == "__main__":
    main()
