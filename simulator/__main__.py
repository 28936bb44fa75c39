"""The simulator as a program: ``python -m simulator``, or ``tidegate simulate``.

With a policy it is tried out on a virtual fleet; without one, whole rollouts with faults are held against invariants.
Exit codes: 0 no invariant was violated, 1 one was, 2 wrong usage.
"""

import argparse
import json
import sys
import time
from collections import Counter
from typing import Final

from simulator.rehearsing import add_options, rehearse_policy
from simulator.world import Result, simulate

_DEVICES: Final = 20


def main() -> int:
    """Run one seed or many and return the exit code."""
    parser = argparse.ArgumentParser(prog="tidegate simulate", description="Whole rollouts with faults, from a seed.")
    add_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="run this one")
    which.add_argument("--seeds", type=int, metavar="COUNT", help="run 0 to COUNT - 1, stop at the first violation")
    parser.add_argument("--devices", type=int, help="devices of the fleet (default 20, with POLICY 100)")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell every visible step")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.devices is not None and options.devices < 1:
        parser.error("--devices: a fleet has at least one device")
    if options.policy is not None:
        if options.seeds is not None or options.trace:
            parser.error("--seeds and --trace are for rollouts without a POLICY; with one: --runs")
        return rehearse_policy(options)
    if options.seed is None and options.seeds is None:
        parser.error("name a POLICY to try out, or --seed or --seeds for the simulator's own")
    device_count = options.devices or _DEVICES
    if options.seed is not None:
        return _run_one(options.seed, device_count, tells=options.trace, as_json=options.json)
    return _run_many(options.seeds, device_count, as_json=options.json)


def _run_one(seed: int, device_count: int, *, tells: bool, as_json: bool) -> int:
    result = simulate(seed, device_count=device_count)
    if tells:
        for line in result.trace:
            print(line, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(_summary(result)))
    else:
        ran = ", ".join(f"{len(devices)} ever ran {version}" for version, devices in result.ran.items())
        outcomes = ", ".join(f"{rollout} {phase}" for rollout, phase in result.outcomes.items())
        print(
            f"seed {seed}: {outcomes}; {ran}; {result.virtual_seconds:.0f} virtual seconds; trace {result.trace_hash}"
        )
        for violation in result.violations:
            print(f"violated: {violation}")
    return 1 if result.violations else 0


def _run_many(count: int, device_count: int, *, as_json: bool) -> int:
    started_at = time.monotonic()
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        result = simulate(seed, device_count=device_count)
        outcomes.update(result.outcomes.values())
        if result.violations:
            print(f"seed {seed}: {result.violations[0]}", file=sys.stderr)
            print(f"replay: tidegate simulate --seed {seed} --devices {device_count} --trace", file=sys.stderr)
            return 1
        if sys.stderr.isatty():
            print(f"\r{seed + 1} of {count} seeds", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started_at
    summary = {
        "seeds": count,
        "violations": 0,
        "seconds": round(seconds, 1),
        "outcomes": dict(sorted(outcomes.items())),
    }
    print(
        json.dumps(summary)
        if as_json
        else f"{count} seeds, no violation, {count / seconds:.1f} seeds/s: {dict(outcomes)}"
    )
    return 0


def _summary(result: Result) -> dict[str, object]:
    return {
        "seed": result.seed,
        "violations": list(result.violations),
        "outcomes": dict(result.outcomes),
        "ran": {version: list(devices) for version, devices in result.ran.items()},
        "virtual_seconds": result.virtual_seconds,
        "trace_hash": result.trace_hash,
    }


if __name__ == "__main__":
    sys.exit(main())
