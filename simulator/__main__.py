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

from simulator import rehearsing, replaying
from simulator.world import simulate

_DEVICES: Final = 20


def main() -> int:
    """Run one seed or many and return the exit code."""
    parser = argparse.ArgumentParser(prog="tidegate simulate", description="Whole rollouts with faults, from a seed.")
    rehearsing.add_options(parser)
    replaying.add_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="run this one")
    which.add_argument("--seeds", type=int, metavar="COUNT", help="run 0 to COUNT - 1, stop at the first violation")
    parser.add_argument("--devices", type=int, help="devices of the fleet (default 20, with POLICY 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.devices is not None and options.devices < 1:
        parser.error("--devices: a fleet has at least one device")
    if options.policy is not None:
        if options.seeds is not None or _replays(options):
            parser.error(
                "--seeds, --trace, --explain, --shrink, --only are for rollouts without a POLICY; with one: --runs"
            )
        return rehearsing.rehearse_policy(options)
    if options.seed is None and _replays(options):
        parser.error("--trace, --explain, --shrink and --only are for one seed: --seed N")
    if options.seed is None and options.seeds is None:
        parser.error("name a POLICY to try out, or --seed or --seeds for the simulator's own")
    device_count = options.devices or _DEVICES
    if options.seed is not None:
        return replaying.replay_seed(options, device_count)
    return _run_many(options.seeds, device_count, as_json=options.json)


def _replays(options: argparse.Namespace) -> bool:
    return bool(options.trace or options.explain or options.shrink or options.only is not None)


def _run_many(count: int, device_count: int, *, as_json: bool) -> int:
    started_at = time.monotonic()
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        result = simulate(seed, device_count=device_count)
        outcomes.update(result.outcomes.values())
        if result.violations:
            print(f"seed {seed}: {result.violations[0]}", file=sys.stderr)
            print(f"replay: tidegate simulate --seed {seed} --devices {device_count} --explain", file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())
