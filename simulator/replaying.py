"""``tidegate simulate --seed N``: one seed again, told as a story, or shrunk, on the command line."""

import argparse
import json
import sys
from typing import Final

from schemas.errors import FleetError
from simulator.scenario import draw_scenario
from simulator.shrinking import NAMES, NOTHING, Shrunk, keep_only, shrink
from simulator.telling import tell
from simulator.world import Result, World

_WRONG: Final = 2


class _UnknownNameError(FleetError):
    """The caller's fault: nothing of that name goes wrong in a simulation."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what belongs to one seed."""
    group = parser.add_argument_group("replay one seed (--seed)")
    group.add_argument("--trace", action="store_true", help="print every visible step")
    group.add_argument(
        "--explain", action="store_true", help="tell its story: what was drawn, what happened, how it ended"
    )
    group.add_argument("--shrink", action="store_true", help="take away what its violation does not need")
    group.add_argument("--only", metavar="NAMES", help="keep only these faults of it, as --shrink names them")


def replay_seed(options: argparse.Namespace, device_count: int) -> int:
    """Do what the options ask for and return the exit code: 0 nothing was violated, 1 something was, 2 wrong usage."""
    if options.shrink:
        return _shrink(options.seed, device_count, as_json=options.json)
    try:
        names = NAMES if options.only is None else _names(options.only)
    except FleetError as error:
        print(f"error: {error}", file=sys.stderr)
        return _WRONG
    world = World(keep_only(draw_scenario(options.seed, device_count=device_count), names))
    result = world.run()
    beside = sys.stderr if options.json else sys.stdout
    if options.trace:
        print(*result.trace, sep="\n", file=beside)
    if options.explain:
        print(*tell(world, result), sep="\n", file=beside)
    if options.json:
        print(json.dumps(_summary(result)))
    elif not options.explain:
        _print(result)
    if result.violations and options.only is None and sys.stderr.isatty():
        print(f"next: tidegate simulate --seed {options.seed} --devices {device_count} --shrink", file=sys.stderr)
    return 1 if result.violations else 0


def _names(text: str) -> frozenset[str]:
    names = frozenset(filter(None, (each.strip() for each in text.split(",")))) - {NOTHING}
    unknown = sorted(names.difference(NAMES))
    if unknown:
        raise _UnknownNameError(f"--only: there is no {', '.join(unknown)}; there are {', '.join(NAMES)}, {NOTHING}")
    return names


def _shrink(seed: int, device_count: int, *, as_json: bool) -> int:
    def show(run: int, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[Kworld {run}: {what}", end="", file=sys.stderr, flush=True)

    found = shrink(seed, device_count, show)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if as_json:
        print(json.dumps(None if found is None else _shrunk(found)))
    elif found is None:
        print(f"seed {seed} with {device_count} devices violates nothing, so there is nothing to shrink")
    else:
        print(f"violated: {found.violation}")
        print(f"needs {', '.join(found.needed) or 'nothing that goes wrong'} ({found.runs} worlds were tried)")
        print(f"replay: {found.replay}")
    return 0 if found is None else 1


def _shrunk(found: Shrunk) -> dict[str, object]:
    return {
        "seed": found.seed,
        "devices": found.device_count,
        "only": list(found.needed),
        "violation": found.violation,
        "runs": found.runs,
        "replay": found.replay,
    }


def _print(result: Result) -> None:
    ran = ", ".join(f"{len(devices)} ever ran {version}" for version, devices in result.ran.items())
    outcomes = ", ".join(f"{rollout} {phase}" for rollout, phase in result.outcomes.items())
    took = f"{result.virtual_seconds:.0f} virtual seconds"
    print(f"seed {result.seed}: {outcomes}; {ran}; {took}; trace {result.trace_hash}")
    for violation in result.violations:
        print(f"violated: {violation}")


def _summary(result: Result) -> dict[str, object]:
    return {
        "seed": result.seed,
        "violations": list(result.violations),
        "outcomes": dict(result.outcomes),
        "ran": {version: list(devices) for version, devices in result.ran.items()},
        "virtual_seconds": result.virtual_seconds,
        "trace_hash": result.trace_hash,
    }
