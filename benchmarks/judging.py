"""How long one look at a million deployed devices takes: all triggers of the careful policy, and a wave's gate.

It is done once in each tick, while nothing else is, so the bar of the triggers is a tenth of a tick, which is a second.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from scene import machine

from orchestrator.examples import find_examples
from orchestrator.shelf import load_policy
from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.triggers import judge_trigger

BAR_SECONDS: Final = 0.1
GROUPS: Final = 40
SAMPLES: Final = 4
INTERVAL_SECONDS: Final = 30.0
_AT_ONCE: Final = 4_000


def make_fleet(count: int) -> tuple[Monitor, Devices, float]:
    """Return devices that have run the new version for a while, and when their last sample came."""
    monitor = Monitor()
    monitor.reserve(count)
    names = [f"device-{number:07d}" for number in range(count)]
    groups = np.arange(count) % GROUPS
    starts = range(0, count, _AT_ONCE)
    for start in starts:
        places = [Place(f"group-{group}", "r-1/1", is_normal=False) for group in groups[start : start + _AT_ONCE]]
        monitor.admit(names[start : start + _AT_ONCE], places)
    rows = monitor.find(names)
    now = 0.0
    for seq in range(SAMPLES):
        sample = Sample(
            seq=seq, boot_id="b", version="2", requests_total=100.0 * seq, errors_total=float(seq), restarts_total=0.0,
            memory_bytes=1e8, cpu_ratio=0.2, healthy=True, endpoint_up=True, latency_p95_seconds=0.1,
        )  # fmt: skip
        for start in starts:
            now = INTERVAL_SECONDS * (seq + start / count)
            part = rows[start : start + _AT_ONCE]
            monitor.observe(part, [sample] * len(part), now)
    monitor.settle()
    devices = Devices(
        rows,
        lambda places: [names[place] for place in places.tolist()],
        groups,
        [f"group-{number}" for number in range(GROUPS)],
    )
    return monitor, devices, now


def normal(group: str) -> Baseline:
    """Return a baseline that the fleet keeps."""
    return Baseline(
        group=group, error_rate=0.01, error_rate_deviation=0.0, error_rate_trend="stable", latency_p50_seconds=0.1,
        latency_p95_seconds=0.1, latency_p99_seconds=0.1, request_count=100_000, sample_count=1000, device_count=1000,
        window_seconds=86_400.0,
    )  # fmt: skip


def _median_seconds(look: Callable[[], object], runs: int) -> float:
    spent = []
    for _ in range(runs):
        began = time.perf_counter()
        look()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def measure(count: int, runs: int) -> tuple[float, float]:
    """Return how long the triggers take, and the gate, in seconds."""
    monitor, devices, now = make_fleet(count)
    policy = load_policy(find_examples() / "policies" / "careful.yaml")
    baselines = {f"group-{number}": normal(f"group-{number}") for number in range(GROUPS)}

    def triggers() -> None:
        for trigger in policy.rollback_triggers.all:
            firing = judge_trigger(
                trigger, devices, baselines, monitor, version="2", thermal_limit_celsius=85.0, failed=(),
                wave_size=count, now=now,
            )  # fmt: skip
            assert firing is None, firing

    def gate() -> None:
        judge_gate(policy.health_gates.wave_gate, devices, baselines, monitor, version="2", now=now)

    return _median_seconds(triggers, runs), _median_seconds(gate, runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    triggers, gate = measure(options.devices, options.runs)
    ratio = triggers / BAR_SECONDS
    if options.json:
        print(json.dumps({
            "name": "judging", "figure": round(triggers, 4), "bar": BAR_SECONDS, "ratio": round(ratio, 3), "unit": "s",
            "gate_seconds": round(gate, 4), "devices": options.devices, "machine": machine(),
        }))  # fmt: skip
        return
    print(machine())
    print(f"{options.devices:,} deployed devices in {GROUPS} groups, median of {options.runs} looks:")
    print(
        f"  all triggers of the careful policy  {triggers * 1000:.0f} ms, bar {BAR_SECONDS * 1000:g}, ratio {ratio:.2f}"
    )
    print(f"  the gate of a wave                  {gate * 1000:.0f} ms")


if __name__ == "__main__":
    main()
