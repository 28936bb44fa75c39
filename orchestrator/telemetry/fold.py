"""One batch of samples into the columns: counters since boot become what was counted in each cell.

Rules, in the order in which they apply to each sample:

* A sample of an earlier boot, or with a lower ``seq`` in this boot, is late; the same ``seq`` is a duplicate. Neither
  changes anything.
* Another ``version`` starts all anew. Its first sample says how the device is, but brings no differences: its counters
  and its latencies may hold what the version before did.
* A sample without a version, after one with, is of an application that may be down, or of another one. Only its bad
  news is believed: restarts, ill health, an endpoint that is down. Nothing good, no traffic, no latencies.
* Inside one boot, the differences to the sample before are counted when the sample arrives.
* The first sample of a new boot of the same version is compared with zero: counters are since boot, and that boot began
  after the last sample we know. The boot itself is one restart, because a device that goes down with its software has
  crashed as well. The very first sample of a device brings no differences: its boot may be days old.
* What a device measures at a moment (memory, free disk, temperature) is kept of good samples that name the version.
  Processor use, quality and latencies are of the interval before: a version's first sample has none.
* Requests and errors count only together; requests whose errors nobody counted would dilute the rate. Where counters
  are missing, the next ones are compared with the last known in this boot.
* A counter that falls inside one boot, or that rises faster than any device can count, makes a bad sample: it is
  counted, its restarts are counted if they rose, nothing else of it is believed, and its counters are what the next
  sample is compared with.

Source:
    DECISIONS.md, 40.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.batch import Batch
from orchestrator.telemetry.columns import CELLS, NIBBLE, Columns, Floats, Rows
from orchestrator.telemetry.compact import packed, packed_celsius
from orchestrator.telemetry.medians import medians
from orchestrator.telemetry.sample_table import NUMBERS

REQUESTS_PER_SECOND_MAX: Final = 1e7
"""A counter of requests that rises faster is no counter."""

STALE_INTERVALS: Final = 3
STALE_SECONDS_MIN: Final = 1.0
INTERVAL_SECONDS: Final = 30.0
"""What is taken for the time between two samples while fewer than two have been seen: the wire's default."""

_REQUESTS, _ERRORS = np.uint16(1 << 14), np.uint16(1 << 15)
_HALF_TRAFFIC: Final = _REQUESTS | _ERRORS
"""Only both together are traffic."""
_NO_FLAG: Final = np.uint16(0)
_FLAGS: Final = {
    "healthy": c.SAYS_HEALTH, "requests_total": _REQUESTS, "errors_total": _ERRORS, "restarts_total": c.RESTARTS,
    "log_errors_total": c.LOG_ERRORS, "throttle_events_total": c.THROTTLES, "cpu_ratio": c.CPU,
    "memory_bytes": c.MEMORY, "disk_free_bytes": c.DISK, "temperature_celsius": c.TEMPERATURE,
}  # fmt: skip
_SAYS: Final = np.array([_FLAGS.get(name, _NO_FLAG) for name in NUMBERS], dtype=np.uint16)[:, None]
"""What a device says of its version when it gives each of the numbers."""
_KIB: Final = 1024.0
_LOG_MAX: Final = 255
_Mask = NDArray[np.bool_]


class SampleOutcome(StrEnum):
    """What became of a sample."""

    ACCEPTED = "accepted"
    RESET = "reset"
    """The first of the device or of a version: nothing to compare it with."""
    DUPLICATE = "duplicate"
    LATE = "late"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Folded:
    """What a batch brought: the samples that count for their version, and how many of each outcome there were.

    Attributes:
        requests: The differences; 0 where they are not known. ``errors`` likewise.
        alarmed: Devices that restarted, or whose endpoint is down.
    """

    batch: Batch
    requests: Floats
    errors: Floats
    alarmed: Rows
    outcomes: dict[SampleOutcome, int]


def fold(columns: Columns, batch: Batch) -> Folded:
    """Fold in samples in which each device stands once; all of them belong to the open cell."""
    outcomes: dict[SampleOutcome, int] = {}
    batch = _current(columns, batch, outcomes)
    rows = batch.rows
    if not len(rows):
        return Folded(batch, np.zeros(0), np.zeros(0), rows, outcomes)
    columns.place[rows] = batch.places
    is_new_boot = _note_boots(columns, batch)
    _note_times(columns, batch)
    switched = (batch.versions != c.UNSAID) & (batch.versions != columns.version[rows])
    if switched.any():
        columns.restart(rows[switched])
        columns.version[rows[switched]] = batch.versions[switched]
    is_attributed = batch.versions == columns.version[rows]
    is_first = np.isnan(columns.first_at[rows])
    columns.first_at[rows[is_first]] = batch.at[is_first]
    names, rises = _rises(columns, batch, is_attributed, is_new_boot & ~is_first)
    falls = np.fmin.reduce(rises) < 0
    gap = np.maximum(columns.gaps[0, rows].astype(np.float64), 1.0)
    with np.errstate(invalid="ignore"):  # no gap yet
        is_bad = ~is_first & (falls | (rises[names.index("requests")] > REQUESTS_PER_SECOND_MAX * gap))
    is_accepted = ~is_first & ~is_bad
    is_down = batch.number("endpoint_up") == 0
    is_good = is_first | (is_accepted & (is_attributed | is_down | (batch.number("healthy") == 0)))
    crashes = np.where(is_first, 0.0, np.fmax(rises[names.index("restarts")], 0.0) + is_new_boot)
    counted = dict(zip(names, np.fmax(rises, 0.0) * is_accepted, strict=True))
    _count(columns, rows, counted | {"restarts": crashes}, is_good, is_bad)
    _measure(columns, batch, is_attributed & ~is_bad)
    _believe(columns, batch, is_good)
    outcomes[SampleOutcome.RESET] = int(np.count_nonzero(is_first))
    outcomes[SampleOutcome.BAD] = int(np.count_nonzero(is_bad))
    outcomes[SampleOutcome.ACCEPTED] = len(rows) - outcomes[SampleOutcome.RESET] - outcomes[SampleOutcome.BAD]
    alarmed = rows[(crashes > 0) | (is_down & is_good)]
    requests, errors, counts = counted["requests"], counted["errors"], is_accepted & is_attributed
    if not counts.all():
        batch, requests, errors = batch.take(counts), requests[counts], errors[counts]
    return Folded(batch, requests, errors, alarmed, outcomes)


def _current(columns: Columns, batch: Batch, outcomes: dict[SampleOutcome, int]) -> Batch:
    """Leave out what is late or came before."""
    rows = batch.rows
    seq, is_boot = columns.seq[rows], columns.boots[:, rows] == batch.boots
    is_repeated = is_boot[0] & (batch.seq == seq)
    is_late = np.where(is_boot[0], batch.seq < seq, np.logical_or.reduce(is_boot[1:]))
    outcomes[SampleOutcome.DUPLICATE] = int(np.count_nonzero(is_repeated))
    outcomes[SampleOutcome.LATE] = int(np.count_nonzero(is_late))
    dropped = is_repeated | is_late
    batch = batch.take(~dropped) if dropped.any() else batch
    columns.seq[batch.rows] = batch.seq
    return batch


def _note_boots(columns: Columns, batch: Batch) -> _Mask:
    is_new: _Mask = columns.boots[0, batch.rows] != batch.boots
    if is_new.any():
        rows = batch.rows[is_new]
        columns.boots[1:, rows] = columns.boots[:-1, rows]
        columns.boots[0, rows] = batch.boots[is_new]
    return is_new


def _note_times(columns: Columns, batch: Batch) -> None:
    """Note when each device was heard, and when it will be missed: after three of its usual intervals."""
    rows = batch.rows
    gap = batch.at - columns.last_at[rows]
    gap[np.isinf(gap)] = np.nan
    columns.last_at[rows] = batch.at
    gaps = np.concatenate((gap[None], columns.gaps[:-1, rows]))
    columns.gaps[:, rows] = np.minimum(gaps, 60_000)  # what half a float holds
    usual = medians(gaps)
    usual[np.isnan(usual)] = INTERVAL_SECONDS
    columns.stale_after[rows] = np.maximum(STALE_INTERVALS * usual, STALE_SECONDS_MIN)


def _rises(columns: Columns, batch: Batch, is_attributed: _Mask, from_zero: _Mask) -> tuple[list[str], Floats]:
    """Return the counters' names and by how much each rose, NaN where that is not known, and take the counters over."""
    rows = batch.rows
    requests, errors = batch.number("requests_total"), batch.number("errors_total")
    is_known = is_attributed & ~np.isnan(requests) & ~np.isnan(errors)
    found = {
        "requests": np.where(is_known, requests, np.nan),
        "errors": np.where(is_known, errors, np.nan),
        "restarts": batch.number("restarts_total"),
    }
    for name, field in (("log_errors", "log_errors_total"), ("throttles", "throttle_events_total")):
        numbers = batch.number(field)
        if columns.has(name) or not np.isnan(numbers).all():
            columns.need(name, "log_ring")
            found[name] = numbers
    held, now = [getattr(columns, name) for name in found], np.array(list(found.values()))
    before = np.where(from_zero, 0.0, np.array([column[rows] for column in held]))
    for column, numbers in zip(held, np.where(np.isnan(now), before, now), strict=True):
        column[rows] = numbers
    return list(found), now - before


def _count(columns: Columns, rows: Rows, counted: dict[str, Floats], is_good: _Mask, is_bad: _Mask) -> None:
    place = columns.cell % CELLS
    columns.open_requests[rows] += counted["requests"]
    columns.open_errors[rows] += counted["errors"]
    _add_halves(columns.sample_ring[place], rows, is_good, is_bad)
    throttles = counted.get("throttles", np.zeros(len(rows)))
    has_events = np.flatnonzero((counted["restarts"] > 0) | (throttles > 0))
    if len(has_events):
        _add_halves(columns.event_ring[place], rows[has_events], counted["restarts"][has_events], throttles[has_events])
    if "log_errors" in counted:
        cell = columns.log_ring[place]
        cell[rows] = np.minimum(cell[rows] + counted["log_errors"], _LOG_MAX)


def _add_halves(cell: NDArray[np.uint8], rows: Rows, low: NDArray[Any], high: NDArray[Any]) -> None:
    held = cell[rows]
    lower = np.minimum((held & NIBBLE) + low, NIBBLE).astype(np.uint8)
    cell[rows] = lower | np.minimum((held >> 4) + high, NIBBLE).astype(np.uint8) << 4


def _measure(columns: Columns, batch: Batch, is_of_version: _Mask) -> None:
    place = columns.cell % CELLS
    levels = np.array((batch.number("memory_bytes"), batch.number("disk_free_bytes")))
    celsius = batch.number("temperature_celsius")
    # What is less than one KiB is one: 0 stands for none.
    known, codes = is_of_version & ~np.isnan(levels), packed(np.maximum(levels / _KIB, 1.0))
    for ring, which, code in zip(("memory_ring", "disk_ring"), known, codes, strict=True):
        if which.any():
            columns.need(ring)
            getattr(columns, ring)[place, batch.rows[which]] = code[which]
    which = np.flatnonzero(is_of_version & ~np.isnan(celsius))
    if len(which):
        columns.need("temperature_ring")
        columns.temperature_ring[place, batch.rows[which]] = packed_celsius(celsius[which])


def _believe(columns: Columns, batch: Batch, is_good: _Mask) -> None:
    """Take over what good samples say of the device as it is."""
    good = batch if is_good.all() else batch.take(is_good)
    rows, healthy, up = good.rows, good.number("healthy"), good.number("endpoint_up")
    columns.good_at[rows] = good.at
    flags = np.bitwise_or.reduce(np.where(np.isnan(good.numbers), _NO_FLAG, _SAYS), axis=0)
    flags = np.where(flags & _HALF_TRAFFIC == _HALF_TRAFFIC, flags | c.TRAFFIC, flags) & ~_HALF_TRAFFIC
    flags |= (healthy == 1) * c.HEALTHY
    columns.flags[rows] = flags
    # Only an answer ends an outage; a sample that does not mention the endpoint is no answer.
    down = columns.down_since[rows]
    down = np.where((up == 0) & np.isnan(down), good.at, down)
    columns.down_since[rows] = np.where(up == 1, np.nan, down)
