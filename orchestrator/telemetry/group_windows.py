"""What whole groups did over a window: read once for all of them, and without naming a single device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.cells import Cell, merged
from orchestrator.telemetry.cohorts import Cohorts
from orchestrator.telemetry.columns import Columns
from orchestrator.telemetry.places import Places
from orchestrator.telemetry.windows import fresh


@dataclass(frozen=True, slots=True)
class GroupWindow:
    """What a group did.

    Attributes:
        fresh_count: Devices with a fresh good sample.
        healthy_count: Of these, those that are healthy.
        together: What they did together, on whatever version.
    """

    fresh_count: int = 0
    healthy_count: int = 0
    together: Cell = field(default_factory=lambda: merged(()))


NOTHING: Final = GroupWindow()


def read_group_windows(
    columns: Columns,
    device_count: int,
    cohorts: Cohorts,
    places: Places,
    *,
    seconds: float,
    stale_after: float | None,
    now: float,
) -> Mapping[str, GroupWindow]:
    """Read the window that begins with the cell in which ``now - seconds`` lies.

    Args:
        columns: Turned to ``now``.
        device_count: How many rows are taken.
        cohorts: Of the same samples.
        places: What the numbers in ``columns`` mean.
        seconds: At most what the columns keep.
        stale_after: The age of a last good sample that is not fresh; None: each device's own.
        now: Seconds.
    """
    every = np.arange(device_count)
    is_fresh = fresh(columns, every, stale_after=stale_after, seconds=seconds, now=now)
    is_well = (columns.flags[every] & c.HEALTHY != 0) & np.isnan(columns.down_since[every])
    of = columns.place[every]
    fresh_counts = _by_group(np.bincount(of[is_fresh]), places)
    healthy_counts = _by_group(np.bincount(of[is_fresh & is_well]), places)
    since = columns.start_of(now - seconds)
    cells: dict[str, list[Cell]] = {}
    for cohort in cohorts.members():
        cells.setdefault(places[cohort.place].group, []).extend(cohorts.cells([cohort], since, now))
    return {
        group: GroupWindow(fresh_counts.get(group, 0), healthy_counts.get(group, 0), merged(cells.get(group, ())))
        for group in {*fresh_counts, *cells}
    }


def _by_group(counts: NDArray[np.intp], places: Places) -> dict[str, int]:
    found: dict[str, int] = {}
    for code in np.flatnonzero(counts).tolist():
        group = places[code].group
        found[group] = found.get(group, 0) + int(counts[code])
    return found
