"""``tidegate simulate POLICY``: a policy tried out before it is used, on the command line."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from orchestrator.adapters.inventories import read_inventory
from orchestrator.cli.terminal import show
from orchestrator.shelf import load_policy
from schemas.errors import FleetError
from simulator.fault_text import parse_fault
from simulator.materials import DEVICE_TYPES, DeviceSpec, make_fleet
from simulator.rehearsal import WHOLE_MAX, check_size, fleet_of, rehearse
from simulator.rehearsal_plot import plot_svg
from simulator.rehearsal_result import Rehearsal
from simulator.rehearsal_view import IN_BULK, render_many, render_one, summary

_DEVICES: Final = 100
_WRONG: Final = 2
_AGAIN_SECONDS: Final = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what belongs to a policy that is tried out."""
    group = parser.add_argument_group("try a policy out")
    group.add_argument("policy", nargs="?", type=Path, metavar="POLICY", help="the policy file")
    group.add_argument("--fault", default="none", help="what the new version does, for example '5%% of jetson crash'")
    group.add_argument("--inventory", type=Path, metavar="FILE", help="the fleet: CSV, YAML or Ansible's JSON")
    group.add_argument("--types", default=",".join(DEVICE_TYPES), help="device types of a fleet without inventory")
    group.add_argument("--runs", type=int, default=1, help="so many seeds, from --seed on (default 1)")
    group.add_argument("--plot", type=Path, metavar="FILE.svg", help="write a picture of all runs")


def rehearse_policy(options: argparse.Namespace) -> int:
    """Run what the options ask for and return the exit code: 0 it was tried out, 1 tidegate erred, 2 wrong usage."""
    try:
        seen = list(_runs(options))
        if options.plot is not None:
            _write(options.plot, f"{options.policy.name}: {options.fault}", seen)
    except FleetError as error:
        print(f"error: {error}", file=sys.stderr)
        return _WRONG
    if options.json:
        data = {"policy": str(options.policy), "fault": options.fault, "devices": seen[0].targets}
        if any(each.in_bulk for each in seen):
            data["in_bulk"] = IN_BULK
        print(json.dumps({**data, "summary": summary(seen), "runs": [each.as_data() for each in seen]}))
    else:
        show(render_one(seen[0]) if len(seen) == 1 else render_many(seen))
    return 1 if any(each.violations for each in seen) else 0


def _runs(options: argparse.Namespace) -> Iterator[Rehearsal]:
    policy, fleet, fault = load_policy(options.policy), _fleet(options), parse_fault(options.fault)
    first, count = options.seed or 0, max(1, options.runs)
    progress = _Progress(len(fleet), count)
    try:
        for seed in range(first, first + count):
            yield rehearse(policy, fleet, fault, seed, whole_max=WHOLE_MAX, tell=progress.tell)
            progress.next()
    finally:
        progress.end()


class _Progress:
    """Tells on a terminal how far it is, in one line that changes; elsewhere nothing."""

    def __init__(self, devices: int, runs: int) -> None:
        self._devices, self._runs = devices, runs
        self._done = 0
        self._told_at = time.monotonic()
        self._is_open = False

    def tell(self, phase: str, let_go: int) -> None:
        """Say where a run in bulk is, unless something was just said."""
        if time.monotonic() - self._told_at >= _AGAIN_SECONDS:
            words = phase.replace("_", " ")
            self._write(f"run {self._done + 1} of {self._runs}: {words}, {let_go:,} of {self._devices:,} let go")

    def next(self) -> None:
        """Say that another run is done."""
        self._done += 1
        if self._runs > 1:
            self._write(f"{self._done} of {self._runs} runs")

    def end(self) -> None:
        """Go on in a new line."""
        if self._is_open:
            print(file=sys.stderr)

    def _write(self, text: str) -> None:
        self._told_at = time.monotonic()
        if sys.stderr.isatty():
            self._is_open = True
            print(f"\r{text:<72}", end="", file=sys.stderr, flush=True)


def _fleet(options: argparse.Namespace) -> tuple[DeviceSpec, ...]:
    if options.inventory is not None:
        return fleet_of(read_inventory(options.inventory))
    types = tuple(filter(None, (each.strip() for each in options.types.split(","))))
    count = options.devices or _DEVICES
    check_size(count)
    return make_fleet(count, types or DEVICE_TYPES)


class _PlotError(FleetError):
    """The caller's fault: a picture that cannot be written."""


def _write(path: Path, title: str, seen: Sequence[Rehearsal]) -> None:
    if path.suffix.lower() != ".svg":
        raise _PlotError(f"--plot: {path} is no .svg; every browser shows an SVG, and most tools turn it into a PNG")
    try:
        path.write_text(plot_svg(title, seen), encoding="utf-8")
    except OSError as error:
        raise _PlotError(f"--plot: {path} cannot be written: {error.strerror}") from error
