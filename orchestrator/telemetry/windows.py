"""What some devices did over a window: read from the columns and the cohorts, for all of them at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.cells import Cell, merged
from orchestrator.telemetry.cohorts import Cohort, Cohorts, codes_of
from orchestrator.telemetry.columns import Columns, Rows
from orchestrator.telemetry.devices import Counted, Devices, Names
from orchestrator.telemetry.roster import UNKNOWN
from orchestrator.telemetry.sketch import Sketch

BAD_SAMPLES_MAX: Final = 2
"""With more bad samples than this in a window, nothing can be said of a device for certain."""


@dataclass(frozen=True)
class Window:
    """What some devices did over a window while they ran one version; no device is named before it is asked for.

    Attributes:
        device_count: Devices that were asked about.
        fresh: Devices with a fresh good sample of that version.
        silent: The others. What is known of them within the window is still counted.
        suspect: Devices with more than two bad samples in the window.
        sample_count: Good samples.
        request_count: Requests whose errors were counted as well.
        restarts: How often each device restarted, or its application, for those that did.
        log_errors: Errors in the log of each device that had some; ``throttles`` likewise.
        healthy_count: Fresh devices that are healthy.
        unhealthy: Fresh devices that are not.
        undecided: Fresh devices that do not say.
        without_traffic: Fresh devices that count no requests or no errors.
        without_restarts: Fresh devices that count no restarts; log errors and throttle events likewise.
        without_cpu: Fresh devices that do not measure their processors' use.
        without_quality: Fresh devices that do not measure one of the application's own measures, by its name.
        cells: What the devices of the same places did on the version, cell by cell; see ``cohorts``.
    """

    device_count: int
    fresh: Names
    silent: Names
    suspect: Names
    sample_count: int
    request_count: int
    error_count: int
    restarts: Counted
    log_errors: Counted
    throttles: Counted
    healthy_count: int
    unhealthy: Names
    undecided: Names
    without_traffic: Names
    without_restarts: Names
    without_log_errors: Names
    without_throttles: Names
    without_cpu: Names
    without_quality: Mapping[str, Names]
    cells: tuple[Cell, ...]

    @property
    def error_rate(self) -> float | None:
        """Errors per request, 0..1; None without requests."""
        return min(self.error_count / self.request_count, 1.0) if self.request_count else None

    @property
    def well(self) -> NDArray[np.bool_]:
        """Say which of the devices are fresh and healthy without a doubt."""
        found = np.ones(self.device_count, dtype=np.bool_)
        for names in (self.silent, self.suspect, self.unhealthy, self.undecided):
            found[names.places] = False
        return found

    @property
    def crash_count(self) -> int:
        """Restarts of the applications and of the devices."""
        return self.restarts.total

    @cached_property
    def together(self) -> Cell:
        """What the devices measured together, merged when first asked for: most questions are not about it."""
        return merged(self.cells)

    @property
    def latency(self) -> Sketch:
        """All latencies of the devices that send sketches."""
        return self.together.latency


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
    freshly = fresh(columns, there, stale_after=stale_after, seconds=seconds, now=now)
    is_fresh = np.zeros(len(devices), dtype=np.bool_)
    is_fresh[found] = freshly
    counted = partial(Counted, devices, found)
    flags = columns.flags[there]
    is_down = ~np.isnan(columns.down_since[there])
    is_healthy = ((flags & c.HEALTHY) != 0) & ~is_down
    is_decided = is_down | ((flags & c.SAYS_HEALTH) != 0)
    good, bad = columns.halves(columns.sample_ring, there, places)
    restarts, throttles = columns.halves(columns.event_ring, there, places)
    requests, errors = (float(each.sum()) for each in columns.each_traffic(there, places))

    def named(mask: NDArray[Any]) -> Names:
        return Names(devices, found[mask])

    def without(flag: np.uint16) -> Names:
        return named(freshly & ((flags & flag) == 0))

    return Window(
        device_count=len(devices),
        fresh=devices.some(is_fresh),
        silent=devices.some(~is_fresh),
        suspect=named(bad > BAD_SAMPLES_MAX),
        sample_count=int(good.sum()),
        request_count=round(requests),
        error_count=round(errors),
        restarts=counted(restarts),
        log_errors=counted(_log_errors(columns, there, places)),
        throttles=counted(throttles),
        healthy_count=int((freshly & is_healthy).sum()),
        unhealthy=named(freshly & is_decided & ~is_healthy),
        undecided=named(freshly & ~is_decided),
        without_traffic=without(c.TRAFFIC),
        without_restarts=without(c.RESTARTS),
        without_log_errors=without(c.LOG_ERRORS),
        without_throttles=without(c.THROTTLES),
        without_cpu=without(c.CPU),
        without_quality=_without_quality(columns, cohorts, there, lambda lacks: named(freshly & lacks)),
        cells=tuple(cohorts.cells(_cohorts(columns, there), columns.start_of(since), now)),
    )


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


def _without_quality(
    columns: Columns, cohorts: Cohorts, rows: Rows, named: Callable[[NDArray[Any]], Names]
) -> dict[str, Names]:
    if not columns.has("qualities"):
        return {}
    held = columns.qualities[rows]
    return {name: named((held >> np.uint16(bit) & 1) == 0) for bit, name in enumerate(cohorts.qualities)}


def _cohorts(columns: Columns, rows: Rows) -> list[Cohort]:
    """Return the cohorts that devices belong to now."""
    codes = np.unique(codes_of(columns.place[rows], columns.version[rows]))
    return [Cohort.of_code(code) for code in codes.tolist()]
