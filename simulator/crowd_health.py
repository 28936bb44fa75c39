"""What the agents of a crowd measure: tables of samples of all that are heard, as ``application`` has them.

Latencies are of cohorts, so one device of each cohort tells those of all; every other number is each device's own.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.members import Member
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.columns import Floats
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Latency
from orchestrator.telemetry.sample_table import NUMBERS, SampleTable
from orchestrator.telemetry.sketch import GAMMA
from simulator import application as app
from simulator.crowd import Crowd
from simulator.crowd_facts import Mask, Rows
from simulator.crowd_trials import is_sick
from simulator.materials import NEW_VERSION, OLD_VERSION

HEARD_MAX: Final = 100_000
"""Devices that are heard at a time at most; of more each is heard in turn."""
NORMAL_MAX: Final = 500
"""Devices of a group that show what is normal, before the rollout."""
_AT_ONCE: Final = 8_192
_QUALITY: Final = {"confidence": app.CONFIDENCE}
_BOOT: Final = "crowd"
_VERSIONS: Final = {False: OLD_VERSION, True: NEW_VERSION}
_MEASURED: Final = ("memory_bytes", "disk_free_bytes", "temperature_celsius", "cpu_ratio")
"""What is only known of an application that runs."""


class Words(NamedTuple):
    """What a table holds of a sample beside its numbers."""

    latency: Latency | None
    quality: Mapping[str, float] | None


class Health:
    """The samples of a crowd, and that it is there.

    Args:
        state: Notes who is heard.
        monitor: Folds the samples.
        crowd: Whose they are.
        seconds: Between two samples of a device, if the fleet is not too large for that.
        seconds_max: Between two in a fleet of any size.
        tick_seconds: How often somebody is heard.
        tells_quality: Whether anybody looks at it in waves; canaries always tell it, and so do devices before.
        rng: Rounds errors.
        now: Seconds since the epoch; all devices have started.
    """

    def __init__(
        self, state: State, monitor: Monitor, crowd: Crowd, *, seconds: float, seconds_max: float,
        tick_seconds: float, tells_quality: bool,
        rng: np.random.Generator, now: float,
    ) -> None:  # fmt: skip
        count = len(state.devices)
        self._devices = state.devices
        self._monitor = monitor
        self._crowd = crowd
        self._tells_quality = tells_quality
        self._rng = rng
        self._turn = 0
        self._turns_min = max(1, round(seconds / tick_seconds))
        self._turns_max = max(self._turns_min, int(seconds_max / tick_seconds))
        self._silent = np.zeros(0, dtype=np.intp)
        self._requests, self._errors = np.zeros(count), np.zeros(count)
        self._seq = np.zeros(count, dtype=np.int32)
        self._since = np.full(count, now)
        self._named = np.full(count, -1, dtype=np.int8)
        """Which version each named last: 0 is the old one; -1 before the first."""
        self._wave = np.full(count, -1, dtype=np.int16)
        groups = [info.group for info in state.devices.vocabularies["info"].values]
        self._groups = sorted(set(groups))
        numbers = np.array([self._groups.index(group) for group in groups], dtype=np.int32)
        self._group = numbers[state.devices.column(Device.info)]
        self._speakers = self._normal()
        self._targets: Rows | None = None
        self._devices.column(Device.interval_seconds)[:] = max(seconds, tick_seconds)
        self._admit(self._speakers, [Place(group) for group in self._groups])

    def _normal(self) -> Rows:
        """Return the first devices of each group."""
        found = [np.flatnonzero(self._group == number)[:NORMAL_MAX] for number in range(len(self._groups))]
        return np.concatenate(found)

    def watch(self, rollout: Rollout) -> None:
        """Take the plan: from now on those are heard that were let go to the new version."""
        self._speakers = np.zeros(0, dtype=np.intp)
        members = rollout.members
        at_home = members.column(Member.device_row).astype(np.intp)
        self._wave[at_home] = members.column(Member.wave)
        for number in range(len(rollout.plan.waves)):
            place = rollout.place_of(number)
            self._admit(
                at_home[members.of_wave(number)], [Place(each, place, is_normal=False) for each in self._groups]
            )
        self._targets = at_home

    def hear(self, now: float) -> None:
        """Let telemetry have what devices send, and note that all that are not silent were heard."""
        crowd, devices = self._crowd, self._devices
        if self._targets is not None:
            self._speakers = self._targets[crowd.has_run[self._targets]]
        self._note_silent(now)
        for field in (Device.heard_at, Device.sampled_at):
            cells = devices.column(field)
            before = cells[self._silent]
            cells[:] = now
            cells[self._silent] = before
        parts = max(self._turns_min, min(-(-len(self._speakers) // HEARD_MAX), self._turns_max))
        turn, size = self._turn % parts, -(-len(self._speakers) // parts)
        heard = self._speakers[turn * size : (turn + 1) * size]  # side by side in telemetry's columns as well
        self._turn += 1
        if len(self._silent):
            heard = heard[~np.isin(heard, self._silent)]
        starts = range(0, len(heard), _AT_ONCE)
        wordy = [self._tell(heard[start : start + _AT_ONCE], now) for start in starts]
        if wordy:
            rows, tables = zip(*wordy, strict=True)
            self._observe(np.concatenate(rows), SampleTable.joined(tables), now)

    def _note_silent(self, now: float) -> None:
        crowd, after = self._crowd, self._crowd.behavior.silent_after_seconds
        if after is not None:
            is_silent = crowd.is_new & crowd.has_fault & crowd.is_up & (now - crowd.started_at >= after)
            self._silent = np.flatnonzero(is_silent)

    def _tell(self, rows: Rows, now: float) -> tuple[Rows, SampleTable]:
        """Send the samples of some devices, and return those that have latencies or quality beside their numbers."""
        crowd, is_new = self._crowd, self._crowd.is_new[rows]
        ill = self._is_ill(rows, now)
        numbers = self._numbers(rows, ill, now)
        is_known = (self._named[rows] == is_new) & crowd.is_up[rows]  # A version's first sample brings nothing.
        self._named[rows] = is_new
        words: dict[int, Words] = {}
        tells = crowd.is_up[rows] & (self._tells_quality | (self._wave[rows] <= 0))
        for place in np.flatnonzero(tells).tolist():
            words[place] = Words(None, _QUALITY)
        is_slow = ill & (crowd.behavior.latency_factor != 1.0)
        cohort = ((self._group[rows] * 256 + self._wave[rows]) * 2 + is_new) * 2 + is_slow
        known = np.flatnonzero(is_known)
        _, firsts, counts = np.unique(cohort[known], return_index=True, return_counts=True)
        for place, count in zip(known[firsts].tolist(), counts.tolist(), strict=True):
            factor = crowd.behavior.latency_factor if is_slow[place] else 1.0
            latency = Latency(GAMMA, app.latency_offset(factor), tuple(count * each for each in app.LATENCY_SHAPE))
            words[place] = Words(latency, words[place].quality if place in words else None)
        wordy = np.zeros(len(rows), dtype=np.bool_)
        wordy[list(words)] = True
        self._observe(rows[~wordy], _table(numbers[:, ~wordy], is_new[~wordy], None), now)
        return rows[wordy], _table(numbers[:, wordy], is_new[wordy], [words[each] for each in sorted(words)])

    def _is_ill(self, rows: Rows, now: float) -> Mask:
        """Say on which the new version's fault shows at this moment."""
        crowd = self._crowd
        has_begun = now - crowd.started_at[rows] >= crowd.behavior.begins_after_seconds
        found: Mask = crowd.is_new[rows] & crowd.has_fault[rows] & has_begun
        return found

    def _numbers(self, rows: Rows, ill: Mask, now: float) -> Floats:
        """Return the numbers of samples as ``Application.work`` and ``measure`` give them."""
        crowd, behavior = self._crowd, self._crowd.behavior
        is_up, started_at = crowd.is_up[rows], crowd.started_at[rows]
        ill_seconds = np.where(ill, now - started_at - behavior.begins_after_seconds, 0.0)
        seconds = np.where(is_up, np.maximum(now - np.maximum(self._since[rows], started_at), 0.0), 0.0)
        requests = np.floor(seconds * app.REQUESTS_PER_SECOND)
        error_ratio = behavior.error_ratio + behavior.error_ratio_per_minute * ill_seconds / 60
        ratio = np.minimum(app.ERROR_RATIO + ill * error_ratio, 1.0)
        self._requests[rows] += requests
        self._errors[rows] += np.floor(requests * ratio + self._rng.random(len(rows)) * is_up)
        self._since[rows] = np.where(is_up, now, self._since[rows])
        self._seq[rows] += 1
        is_well = is_up & ~(ill & is_sick(behavior, now - started_at))
        memory = app.MEMORY_BYTES + behavior.leak_bytes_per_second * ill_seconds
        told = {
            "requests_total": self._requests[rows],
            "errors_total": self._errors[rows],
            "restarts_total": crowd.restarts[rows],
            "log_errors_total": 0.0,
            "throttle_events_total": 0.0,
            "memory_bytes": np.floor(memory),
            "disk_free_bytes": app.DISK_FREE_BYTES,
            "temperature_celsius": app.CELSIUS,
            "cpu_ratio": app.CPU_RATIO,
            "healthy": is_well,
            "endpoint_up": is_well,
            "seq": self._seq[rows],
        }
        numbers = np.full((len(NUMBERS), len(rows)), np.nan)
        for name, values in told.items():
            numbers[NUMBERS.index(name)] = values
        if not is_up.all():
            for name in _MEASURED:
                numbers[NUMBERS.index(name), ~is_up] = np.nan
        return numbers

    def _observe(self, rows: Rows, table: SampleTable, now: float) -> None:
        if len(rows):
            self._monitor.observe(self._monitor.rows_at(rows), table, now)
            self._monitor.settle()  # What waits together is folded together, and words cost time.

    def _admit(self, rows: Rows, places: Sequence[Place]) -> None:
        """Let telemetry know devices, with the place of each group."""
        names = self._devices.names
        codes = self._group[rows].tolist()
        self._monitor.admit([names[row] for row in rows.tolist()], [places[code] for code in codes], rows.tolist())


def _table(numbers: Floats, is_new: Mask, words: list[Words] | None) -> SampleTable:
    held = None
    if words is not None:
        held = np.empty(len(words), dtype=object)
        held[:] = words
    count = len(is_new)
    versions = [NEW_VERSION] * count if is_new.all() else [_VERSIONS[each] for each in is_new.tolist()]
    return SampleTable(numbers, [_BOOT] * count, versions, held)
