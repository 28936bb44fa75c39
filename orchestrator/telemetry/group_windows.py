"""What whole groups or waves did over a window: read once for all of them, without naming a single device."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.cells import Cell, merged
from orchestrator.telemetry.cohorts import Cohorts
from orchestrator.telemetry.columns import Columns
from orchestrator.telemetry.places import Place, Places
from orchestrator.telemetry.windows import fresh, running


@dataclass(frozen=True, slots=True)
class GroupWindow:
    """What the devices of a group, or of a wave, did.

    Attributes:
        fresh_count: Devices with a fresh good sample.
        healthy_count: Of these, those that are healthy.
        together: What they did together.
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
    group_of: Callable[[Place], str],
    *,
    version: int | None,
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
        group_of: Which places are read together; those for which it is empty are left out.
        version: The number of the version that counts; None: whatever each device runs.
        seconds: At most what the columns keep.
        stale_after: The age of a last good sample that is not fresh; None: each device's own.
        now: Seconds.
    """
    every = np.arange(device_count)
    every = every[running(columns, every, version)]
    is_fresh = fresh(columns, every, stale_after=stale_after, seconds=seconds, now=now)
    is_well = (columns.flags[every] & c.HEALTHY != 0) & np.isnan(columns.down_since[every])
    of = columns.place[every]

    def counted(some: NDArray[np.int32]) -> Counter[str]:
        counts, found = np.bincount(some), Counter[str]()
        for code in np.flatnonzero(counts).tolist():
            if group := group_of(places[code]):
                found[group] += int(counts[code])
        return found

    fresh_counts, healthy_counts = counted(of[is_fresh]), counted(of[is_fresh & is_well])
    since = columns.start_of(now - seconds)
    cells: dict[str, list[Cell]] = {}
    for cohort in cohorts.members():
        group = group_of(places[cohort.place])
        if group and version in {None, cohort.version}:
            cells.setdefault(group, []).extend(cohorts.cells([cohort], since, now))
    return {
        group: GroupWindow(fresh_counts[group], healthy_counts[group], merged(cells.get(group, ())))
        for group in {*fresh_counts, *cells}
    }
