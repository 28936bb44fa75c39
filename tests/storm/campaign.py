"""Storms and floods against a real orchestrator over a real broker, with thousands of devices on as many connections.

``make storm``: a rollout in waves runs while the broker is killed and comes back, the orchestrator is killed, one
device floods, or the disk under the journal is slow. Everybody must come to the new version in time, nothing may happen
twice, commands must be answered and memory must stay bounded. Each figure stands beside its bar.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from schemas.topics import Kind
from tests.storm.figures import Outcome
from tests.storm.flooder import Flood
from tests.storm.scenarios import be_flooded, lose_the_broker, lose_the_orchestrator, slow_disk, slow_the_disk
from tests.storm.scene import Shape, raise_limits

Scenario = Callable[[Shape, Path], Awaitable[Outcome]]
NAMES: Final = ("reconnect", "no-jitter", "kill", "flood-health", "flood-control", "slow-disk")
FEW_DEVICES: Final = 1000
"""Where the fleet's size is not the point."""
CONTROL: Final = (Kind.REPORTED, Kind.READY, Kind.INFO, Kind.DEVICE_EVENT)
TOLD_SECONDS: Final = 10.0
"""How often a line says how far it is where there is no terminal."""


def scenarios(options: argparse.Namespace) -> dict[str, tuple[Scenario, Shape]]:
    """Return what can be done, by name, each with its scene."""
    shape = Shape(
        options.devices, broker=options.broker, processes=options.processes, seed=options.seed,
    )  # fmt: skip
    few = replace(shape, devices=min(options.devices, FEW_DEVICES))
    return {
        "reconnect": (lose_the_broker, shape),
        "no-jitter": (lose_the_broker, replace(shape, jitter=False)),
        "kill": (lose_the_orchestrator, shape),
        "flood-health": (partial(be_flooded, flood=Flood((Kind.HEALTH,), options.flood_rate)), few),
        "flood-control": (partial(be_flooded, flood=Flood(CONTROL, options.flood_rate)), few),
        "slow-disk": (slow_the_disk, replace(few, under=slow_disk(options.disk_seconds))),
    }


def storm(name: str, scenario: Scenario, shape: Shape, folder: Path | None) -> Outcome:
    """Run one scenario and show how far it is."""
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix=".storm-", dir=folder or Path.cwd()) as here,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task(name, total=shape.devices)

        told_at = time.monotonic()

        def show(seen: Counter[str], known: Mapping[str, Any]) -> None:
            nonlocal told_at
            words = f"{name}: {seen['connected']} connected, {known.get('phase', 'no rollout')} {known.get('wave', '')}"
            progress.update(bar, completed=seen["committed"], description=words)
            if not console.is_terminal and time.monotonic() - told_at >= TOLD_SECONDS:
                told_at = time.monotonic()
                say(f"{words}, {seen['committed']} committed")

        def say(text: str) -> None:
            console.print(f"{name}: {text}", highlight=False, soft_wrap=True)

        return asyncio.run(scenario(replace(shape, say=say, progress=show), Path(here)))  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; return 1 if a bar was missed or something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=5000, help="%(default)s")
    parser.add_argument("--scenario", choices=NAMES, action="append", help="may be given several times; default all")
    parser.add_argument("--runs", type=int, default=1, help="of each scenario, each with the next seed (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what devices draw (%(default)s)")
    parser.add_argument("--broker", choices=("mosquitto", "embedded"), default="mosquitto")
    parser.add_argument("--processes", type=int, default=2, help="that the devices live in (%(default)s)")
    parser.add_argument(
        "--flood-rate", type=float, default=10_000, help="messages of a flood in a second (%(default)s)"
    )
    parser.add_argument("--disk-seconds", type=float, default=0.05, help="that a slow disk takes (%(default)s)")
    parser.add_argument("--folder", type=Path, help="on the disk that is meant; default is the current folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if "slow-disk" in (options.scenario or NAMES) and shutil.which("strace") is None:
        raise SystemExit("strace is not installed: apt install strace; or name other scenarios with --scenario")
    raise_limits(options.devices)
    outcomes = []
    for name in options.scenario or NAMES:
        for run in range(options.runs):
            scenario, shape = scenarios(options)[name]
            outcome = storm(name, scenario, replace(shape, seed=shape.seed + run), options.folder)
            outcomes.append(outcome)
            if not options.json:
                _print(outcome)
    if options.json:
        print(json.dumps({"name": "storm", "outcomes": [each.facts() for each in outcomes]}))
    return 0 if all(each.holds for each in outcomes) else 1


def _print(outcome: Outcome) -> None:
    print(f"{outcome.scenario} (load {outcome.load}): {'holds' if outcome.holds else 'DOES NOT HOLD'}")
    for figure in outcome.figures:
        print(f"  {figure}")
    for wrong in outcome.wrong:
        print(f"  WRONG: {wrong}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
