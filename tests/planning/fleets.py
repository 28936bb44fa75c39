"""Fleets for the planner's tests: by hand, or of any size from a seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from orchestrator.lint.facts import FleetFacts, GroupFacts
from orchestrator.planning.columns import Column
from orchestrator.planning.fleet import OFFLINE, Fleet
from orchestrator.planning.names import Names
from orchestrator.planning.plan import Plan

UNFIT = ("", OFFLINE, "single point of failure", "known issue: fan")


class Target(NamedTuple):
    """One row of a fleet."""

    name: str
    device_type: str = "pi"
    region: str = "north"
    signal_count: int = 1
    unfit: str = ""


def encode(texts: Sequence[str]) -> Column:
    values = sorted(set(texts))
    return Column(np.array([values.index(text) for text in texts], dtype=np.int32), values)


def fleet_of(*targets: Target) -> Fleet:
    rows = sorted(targets)
    return Fleet(
        names=np.array([each.name for each in rows], dtype=np.bytes_),
        device_type=encode([each.device_type for each in rows]),
        region=encode([each.region for each in rows]),
        signal_count=np.array([each.signal_count for each in rows], dtype=np.int32),
        unfit=encode([each.unfit for each in rows]),
    )


def targets_of(fleet: Fleet) -> list[Target]:
    columns = (fleet.device_type, fleet.region, fleet.unfit)
    types, regions, unfit = ([each.values[code] for code in each.codes.tolist()] for each in columns)
    names = [name.decode() for name in fleet.names.tolist()]
    rows = zip(names, types, regions, fleet.signal_count.tolist(), unfit, strict=True)
    return [Target(*row) for row in rows]


def fleet_from_seed(count: int, seed: int, *, types: int = 6, regions: int = 12, unfit_percent: float = 3) -> Fleet:
    """Return ``count`` devices; the first type and region have most of them, and the first device is fit."""
    rng = np.random.default_rng(seed)

    def column(name: str, kinds: int) -> Column:
        codes = np.minimum(rng.integers(0, kinds, count), rng.integers(0, kinds, count))
        return Column(codes.astype(np.int32), [f"{name}-{kind:02d}" for kind in range(kinds)])

    unfit = np.where(rng.random(count) * 100 < unfit_percent, rng.integers(1, len(UNFIT), count), 0)
    unfit[0] = 0
    return Fleet(
        names=Names(" ".join(f"device-{number:07d}" for number in range(count))).array(),
        device_type=column("type", types),
        region=column("region", regions),
        signal_count=rng.integers(0, 12, count).astype(np.int32),
        unfit=Column(unfit.astype(np.int32), UNFIT),
    )


def relabelled(fleet: Fleet) -> Fleet:
    """Return the same fleet with other codes for the same texts, and with a text that no device has."""

    def turned(column: Column) -> Column:
        values = ["nobody has this", *reversed(column.values)]
        return Column((len(column.values) - column.codes).astype(np.int32), values)

    turned_columns: dict[str, Any] = {name: turned(getattr(fleet, name)) for name in ("device_type", "region", "unfit")}
    return Fleet(names=fleet.names.astype("S64"), signal_count=fleet.signal_count, **turned_columns)


def tally(column: Column) -> dict[str, int]:
    """Return how many devices have each text that occurs."""
    counts = np.bincount(column.codes, minlength=len(column.values)).tolist()
    return {text: count for text, count in zip(column.values, counts, strict=True) if count}


def facts_of(plan: Plan, fleet: Fleet) -> FleetFacts:
    """Return what lint is told of a fleet of one group that is known."""
    waves = {wave.name: len(wave.members) for wave in plan.waves}
    return FleetFacts(
        waves=waves,
        offline=plan.offline_count,
        types=tally(fleet.device_type),
        regions=tally(fleet.region),
        uncovered=plan.uncovered,
        groups={"vision": GroupFacts(len(fleet), waves["canary"], error_rate=0.003)},
    )
