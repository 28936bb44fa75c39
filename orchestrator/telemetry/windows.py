"""What some devices did over a window: read from the columns and the cohorts, for all of them at a time."""

from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.cohorts import Cohort, Cohorts, codes_of
from orchestrator.telemetry.columns import Columns, Rows
from orchestrator.telemetry.devices import Counted, Devices
from orchestrator.telemetry.roster import UNKNOWN
from orchestrator.telemetry.window import BAD_SAMPLES_MAX, Heard, Window, is_healthy


def running(columns: Columns, rows: Rows, version: int | None) -> NDArray[np.bool_]:
    """Say which rows are of devices that run a version, given by its number; None: any."""
    known: NDArray[np.bool_] = rows != UNKNOWN
    return known if version is None else known & (columns.version[rows] == version)


def fresh(
    columns: Columns, rows: Rows, *, stale_after: float | None, seconds: float | None, now: float
) -> NDArray[np.bool_]:
    """Say which devices' last good sample is fresh, and later than ``now - seconds``."""
    limit = columns.stale_after[rows] if stale_after is None else stale_after
    age = now - columns.good_at[rows]
    is_fresh: NDArray[np.bool_] = (age <= limit) & (age < (inf if seconds is None else seconds))
    return is_fresh


def read_window(
    columns: Columns,
    cohorts: Cohorts,
    devices: Devices,
    *,
    version: int | None,
    seconds: float | None,
    stale_after: float | None,
    now: float,
) -> Window:
    """Read the window that begins with the cell in which ``now - seconds`` lies; None: all cells that are kept.

    Args:
        columns: Turned to ``now``.
        cohorts: Of the same samples.
        devices: Who is asked about; those that were never heard as well.
        version: The number of the version that counts; None: whatever each device runs.
        seconds: At most what the columns keep.
        stale_after: The age of a last good sample that is not fresh; None: each device's own.
        now: Seconds.
    """
    since = None if seconds is None else now - seconds
    places = columns.places(since)
    found = np.flatnonzero(running(columns, devices.rows, version))
    there = devices.rows[found]
    good, bad = columns.halves(columns.sample_ring, there, places)
    restarts, throttles = columns.halves(columns.event_ring, there, places)
    requests, errors = columns.each_traffic(there, places)
    heard = Heard(
        places=found,
        is_fresh=fresh(columns, there, stale_after=stale_after, seconds=seconds, now=now),
        is_down=~np.isnan(columns.down_since[there]),
        flags=columns.flags[there],
        bad=bad,
        restarts=restarts,
        throttles=throttles,
        log_errors=_log_errors(columns, there, places),
        qualities=columns.qualities[there] if columns.has("qualities") else None,
    )
    return Window(
        device_count=len(devices),
        sample_count=int(good.sum()),
        request_count=round(float(requests.sum())),
        error_count=round(float(errors.sum())),
        cells=tuple(cohorts.cells(_cohorts(columns, there), columns.start_of(since), now)),
        _devices=devices,
        _heard=heard,
        _quality_names=tuple(cohorts.qualities),
    )


def read_well(
    columns: Columns,
    rows: Rows,
    *,
    version: int | None,
    seconds: float | None,
    stale_after: float | None,
    now: float,
) -> NDArray[np.bool_]:
    """Say which devices are fresh and healthy without a doubt, as a window would show them; see ``read_window``."""
    found = np.flatnonzero(running(columns, rows, version))
    there = rows[found]
    well = np.zeros(len(rows), dtype=np.bool_)
    _, bad = columns.halves(columns.sample_ring, there, columns.places(None if seconds is None else now - seconds))
    well[found] = (
        fresh(columns, there, stale_after=stale_after, seconds=seconds, now=now)
        & is_healthy(columns.flags[there], ~np.isnan(columns.down_since[there]))
        & (bad <= BAD_SAMPLES_MAX)
    )
    return well


def read_traffic_by_group(
    columns: Columns, devices: Devices, version: int | None, since: float | None
) -> dict[str, tuple[int, int]]:
    """Read the requests and errors of each group's devices that run a version, as ``read_window`` would count them."""
    there = devices.take(np.flatnonzero(running(columns, devices.rows, version)))
    requests, errors = (there.sums(each) for each in columns.each_traffic(there.rows, columns.places(since)))
    return {group: (round(requests[group]), round(errors[group])) for group in requests}


def read_restarts(columns: Columns, devices: Devices, version: int | None, since: float | None) -> Counted:
    """Read how often devices that run a version have restarted since a moment; None: in all cells that are kept."""
    found = np.flatnonzero(running(columns, devices.rows, version))
    return Counted(devices, found, columns.halves(columns.event_ring, devices.rows[found], columns.places(since))[0])


def _log_errors(columns: Columns, rows: Rows, places: NDArray[np.intp]) -> NDArray[Any]:
    counts: NDArray[Any] = np.zeros(len(rows), dtype=np.int64)
    if columns.has("log_ring"):
        if len(rows) * len(places) <= c.FEW:
            counts += columns.log_ring[places[:, None], rows].sum(axis=0, dtype=np.int64)
            return counts
        for place in places.tolist():
            counts += columns.log_ring[place, rows]
    return counts


def _cohorts(columns: Columns, rows: Rows) -> list[Cohort]:
    """Return the cohorts that devices belong to now."""
    codes = np.unique(codes_of(columns.place[rows], columns.version[rows]))
    return [Cohort.of_code(code) for code in codes.tolist()]
