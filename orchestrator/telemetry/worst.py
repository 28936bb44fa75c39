"""The devices that are worst off, for people: all are looked at together, only those are named, none is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.batch import Versions
from orchestrator.telemetry.columns import CELLS, Columns, Floats, Rows
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.readings import Signal, read_levels
from orchestrator.telemetry.roster import UNKNOWN
from orchestrator.telemetry.trends import fit
from orchestrator.telemetry.window import BAD_SAMPLES_MAX
from orchestrator.telemetry.windows import fresh

GROWTH_SECONDS: Final = 600.0

_Mask = NDArray[np.bool_]
_Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """How one device is; None: not known.

    Attributes:
        version: What it named last.
        healthy: What its last good sample says; an endpoint that is down is not healthy.
        down_seconds: How long its endpoint has been seen down; None where it is not, or where the device is silent.
        bad_samples: Over all that is kept; ``restarts`` likewise.
        silent: It has no fresh good sample.
        sample_age_seconds: How old its last good sample is.
        requests: Over the window, where their errors were counted as well; ``errors`` likewise.
        memory_growth: Relative, in ten minutes; None also where it does not grow beyond chance.
    """

    device: str
    version: str | None
    healthy: bool | None
    down_seconds: float | None
    bad_samples: int
    silent: bool
    sample_age_seconds: float | None
    requests: int
    errors: int
    restarts: int
    memory_growth: float | None

    @property
    def error_rate(self) -> float | None:
        """Errors per request, 0..1; None without requests."""
        return min(self.errors / self.requests, 1.0) if self.requests else None


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst of some devices.

    Attributes:
        devices: The worst first: those that are not well, then those with more than two bad samples, then the silent,
            then by error rate and by restarts; equal ones in the order in which they were given.
        unwell_count: Of all that were asked about, those that say so now or whose endpoint is down.
        suspect_count: Those with more than two bad samples, of which nothing can be said for certain.
        silent_count: Those without a fresh good sample.
        kept_seconds: Over how long bad samples and restarts are counted.
    """

    devices: tuple[DeviceHealth, ...]
    unwell_count: int
    suspect_count: int
    silent_count: int
    kept_seconds: float


def read_worst(
    columns: Columns,
    versions: Versions,
    names: Sequence[str],
    rows: Rows,
    *,
    limit: int,
    seconds: float,
    stale_after: float | None,
    now: float,
) -> Worst:
    """Read how devices are and return at most ``limit`` of them.

    Args:
        columns: Turned to ``now``.
        versions: What the numbers in ``columns`` mean.
        names: Each once.
        rows: Of these; unknown ones too.
        limit: How many to name.
        seconds: The window of requests and errors.
        stale_after: The age of a last good sample that is not fresh; None: each device's own.
        now: Seconds.
    """
    seen = _look(columns, rows, seconds, stale_after, now)
    order = seen.worst_first()[:limit]
    growths = _memory_growths(columns, [names[index] for index in order.tolist()], seen.rows[order])
    return Worst(
        tuple(
            _device(columns, versions, seen, index, name=names[index], growth=growth, now=now)
            for index, growth in zip(order.tolist(), growths, strict=True)
        ),
        unwell_count=int(seen.is_unwell.sum()),
        suspect_count=int(seen.is_suspect.sum()),
        silent_count=int(seen.is_silent.sum()),
        kept_seconds=(CELLS - 1) * columns.cell_seconds,
    )


class _Seen(NamedTuple):
    """What the columns hold of the devices, an entry for each; what they hold of others counts for nothing."""

    rows: Rows
    is_known: _Mask
    is_silent: _Mask
    is_down: _Mask
    is_well: _Mask
    is_decided: _Mask
    bad: _Counts
    restarts: _Counts
    requests: Floats
    errors: Floats

    @property
    def is_unwell(self) -> _Mask:
        return ~self.is_silent & self.is_decided & ~self.is_well

    @property
    def is_suspect(self) -> _Mask:
        return self.bad > BAD_SAMPLES_MAX

    def worst_first(self) -> Rows:
        rates = np.minimum(self.errors / np.maximum(self.requests, 1.0), 1.0)
        badness = self.is_unwell * np.uint8(4) + self.is_suspect * np.uint8(2) + self.is_silent
        order: Rows = np.lexsort((-self.restarts, -rates, np.uint8(7) - badness))
        return order


def _look(columns: Columns, rows: Rows, seconds: float, stale_after: float | None, now: float) -> _Seen:
    is_known = rows != UNKNOWN
    there = np.where(is_known, rows, 0)
    flags, is_down = columns.flags[there], ~np.isnan(columns.down_since[there])
    requests, errors = columns.each_traffic(there, columns.places(now - seconds))
    _, bad = columns.halves(columns.sample_ring, there, columns.places(None))
    restarts, _ = columns.halves(columns.event_ring, there, columns.places(None))
    return _Seen(
        rows=there,
        is_known=is_known,
        is_silent=~(is_known & fresh(columns, there, stale_after=stale_after, seconds=None, now=now)),
        is_down=is_down,
        is_well=(flags & c.HEALTHY != 0) & ~is_down,
        is_decided=is_known & (is_down | (flags & c.SAYS_HEALTH != 0)),
        bad=bad.astype(np.int64) * is_known,
        restarts=restarts.astype(np.int64) * is_known,
        requests=requests * is_known,
        errors=errors * is_known,
    )


def _device(
    columns: Columns, versions: Versions, seen: _Seen, index: int, *, name: str, growth: float | None, now: float
) -> DeviceHealth:
    row, is_known, is_silent = seen.rows[index], bool(seen.is_known[index]), bool(seen.is_silent[index])
    good_at = float(columns.good_at[row]) if is_known else -inf
    is_down = bool(seen.is_down[index]) and not is_silent
    return DeviceHealth(
        device=name,
        version=versions.name(int(columns.version[row])) if is_known else None,
        healthy=bool(seen.is_well[index]) if seen.is_decided[index] else None,
        down_seconds=good_at - float(columns.down_since[row]) if is_down else None,
        bad_samples=int(seen.bad[index]),
        silent=is_silent,
        sample_age_seconds=None if good_at == -inf else now - good_at,
        requests=round(float(seen.requests[index])),
        errors=round(float(seen.errors[index])),
        restarts=int(seen.restarts[index]),
        memory_growth=growth if is_known else None,
    )


def _memory_growths(columns: Columns, names: list[str], rows: Rows) -> list[float | None]:
    """Return by how much each device's memory grows in ten minutes; None where that is not more than chance."""
    slopes = fit(read_levels(columns, Devices.named(names, rows), Signal.MEMORY, columns.start_of(None)))
    amounts = slopes.per_second * GROWTH_SECONDS / np.maximum(slopes.first, 1.0)
    return [amount if rises else None for amount, rises in zip(amounts.tolist(), slopes.rises().tolist(), strict=True)]
