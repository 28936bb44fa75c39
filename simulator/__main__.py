"""The simulator as a program: ``python -m simulator``, or ``tidegate simulate``.

With a policy it is tried out on a virtual fleet; without one, whole rollouts with faults are held against invariants.
Exit codes: 0 no invariant was violated, 1 one was, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import sys
from typing import Final

from simulator import rehearsing, replaying
from simulator.campaign import processors, run_campaign
from simulator.campaign_view import Progress, as_data, render
from simulator.scenario import draw_device_count

_INTERRUPTED: Final = 130


def main() -> int:
    """Run one seed or many and return the exit code."""
    parser = argparse.ArgumentParser(prog="tidegate simulate", description="Whole rollouts with faults, from a seed.")
    rehearsing.add_options(parser)
    replaying.add_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="run this one")
    which.add_argument("--seeds", type=int, metavar="COUNT", help="run so many, stop at the first violation")
    parser.add_argument(
        "--first", type=int, default=0, metavar="SEED", help="with --seeds: begin here, where another campaign ended"
    )
    parser.add_argument(
        "--jobs", type=int, help="with --seeds: processes side by side (default: one for each processor)"
    )
    parser.add_argument("--devices", type=int, help="devices of the fleet (default: 3 to 10 by seed, with POLICY 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.devices is not None and options.devices < 1:
        parser.error("--devices: a fleet has at least one device")
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs: there is at least one process")
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
    if options.seed is not None:
        return replaying.replay_seed(options, options.devices or draw_device_count(options.seed))
    if options.first < 0 or options.seeds < 1:
        parser.error("--first, --seeds: seeds begin at 0, and one is run at least")
    seeds = range(options.first, options.first + options.seeds)
    return _run_many(seeds, options.devices, options.jobs or processors(), as_json=options.json)


def _replays(options: argparse.Namespace) -> bool:
    return bool(options.trace or options.explain or options.shrink or options.only is not None)


def _run_many(seeds: range, device_count: int | None, jobs: int, *, as_json: bool) -> int:
    progress = Progress(len(seeds))
    campaign = run_campaign(seeds, device_count=device_count, jobs=jobs, tell=progress.tell)
    progress.end()
    print(json.dumps(as_data(campaign, device_count, jobs)) if as_json else render(campaign, len(seeds), jobs))
    if campaign.failed is not None:
        seed = campaign.failed.seed
        devices = device_count or draw_device_count(seed)
        print(f"seed {seed}: {campaign.failed.violations[0]}", file=sys.stderr)
        print(f"replay: tidegate simulate --seed {seed} --devices {devices} --explain", file=sys.stderr)
        return 1
    return _INTERRUPTED if campaign.was_interrupted else 0


def run() -> int:
    """Run it for somebody who may read only the first lines, as ``head`` does; then the exit code is 1."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(run())
