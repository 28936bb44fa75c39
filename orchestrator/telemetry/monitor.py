"""The fleet as its health samples show it: the one fold that gates, triggers and summaries ask."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from math import inf
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.batch import Batch, Versions
from orchestrator.telemetry.cells import Cell
from orchestrator.telemetry.cohorts import Cohort, Cohorts
from orchestrator.telemetry.columns import CELLS, UNSAID, Columns, Rows
from orchestrator.telemetry.devices import Counted, Devices
from orchestrator.telemetry.fold import SampleOutcome, fold
from orchestrator.telemetry.group_windows import GroupWindow, read_group_windows
from orchestrator.telemetry.history import GroupHistory, Interval
from orchestrator.telemetry.places import Place, Places
from orchestrator.telemetry.readings import Signal, Traffic, read_levels, read_traffic
from orchestrator.telemetry.roster import UNKNOWN, Roster
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sample_table import SampleTable
from orchestrator.telemetry.trends import Slopes, fit
from orchestrator.telemetry.windows import Window, fresh, read_restarts, read_traffic_by_group, read_window, running
from orchestrator.telemetry.worst import Worst, read_worst

LONGEST_SECONDS: Final = 1800.0
"""The longest window of the reference."""

WAITING_MAX: Final = 4096
"""Samples that wait to be folded in together."""

_GROWTH: Final = 1.25
_SIGNALS: Final = (
    (c.TRAFFIC, "error_rate"), (c.LOG_ERRORS, "log_errors"), (c.THROTTLES, "throttle_events"), (c.CPU, "cpu"),
    (c.MEMORY, "memory"), (c.DISK, "disk"), (c.TEMPERATURE, "temperature"),
)  # fmt: skip


class _Waiting(NamedTuple):
    """Samples that came together and are not folded in yet."""

    rows: Rows
    places: NDArray[np.int32]
    samples: Sequence[Sample] | SampleTable
    at: float


def _together(parts: Sequence[_Waiting], versions: Versions) -> Batch:
    rows, places, samples, times = zip(*parts, strict=True)
    return Batch.of(
        np.concatenate(rows),
        np.concatenate(places),
        np.repeat(times, list(map(len, rows))),
        SampleTable.joined(list(_tables(samples))),
        versions,
    )


def _tables(parts: Iterable[Sequence[Sample] | SampleTable]) -> Iterator[SampleTable]:
    """Yield the parts as tables, those made of samples that follow each other as one."""
    for is_table, alike in groupby(parts, key=lambda each: isinstance(each, SampleTable)):
        if is_table:
            yield from cast("Iterator[SampleTable]", alike)
        else:
            yield SampleTable.of(list(chain.from_iterable(cast("Iterator[Sequence[Sample]]", alike))))


class Monitor:
    """Folds health samples; mutable, and bounded by the devices and groups that the caller lets in.

    Time is cut into cells, a thirtieth of the longest window each. A window of ``seconds`` begins with the cell in
    which ``now - seconds`` lies, so it holds at most one cell more than asked for and nothing less; one of None, or one
    longer than the longest, holds the 31 cells that are kept. What devices did on another version is in none.

    Args:
        history_seconds: How far back a baseline can reach.
        longest_seconds: The longest window that will be asked for; see ``cover``.
        stale_after_seconds: The age at which a device's last good sample is no longer fresh. None: three times the
            device's own usual interval, at least a second. It must also be later than ``now - seconds``.

    Attributes:
        outcomes: How many samples of each outcome there were.
    """

    def __init__(
        self,
        history_seconds: float = 24 * 3600,
        *,
        longest_seconds: float = LONGEST_SECONDS,
        stale_after_seconds: float | None = None,
    ) -> None:
        self.outcomes: Counter[SampleOutcome] = Counter()
        self._history_seconds = history_seconds
        self._stale_after = stale_after_seconds
        self._roster = Roster()
        self._versions = Versions()
        self._places = Places()
        self._row_at = np.full(1, UNKNOWN, dtype=np.int32)
        self._columns = Columns(longest_seconds / (CELLS - 1))
        self._cohorts = Cohorts()
        self._histories: dict[str, GroupHistory] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_count = 0
        self._refused: list[Rows] = []
        self._alarmed: list[Rows] = []
        self._slopes: dict[tuple[object, ...], Slopes] = {}
        self._now = 0.0
        self._latest = 0.0

    # Samples.

    @property
    def nbytes(self) -> int:
        """What is known of devices takes so much memory once all windows have filled."""
        return self._columns.nbytes + self._roster.nbytes + self._row_at.nbytes

    def reserve(self, count: int) -> None:
        """Make room for ``count`` devices at once: growing bit by bit takes time, and memory in between."""
        self._roster.reserve(count)
        self._columns.reserve(count)

    def find(self, devices: Sequence[str]) -> Rows:
        """Return each device's row; ``UNKNOWN`` where it was never admitted."""
        return self._roster.find(devices)

    def names(self, rows: Rows) -> list[str]:
        """Return the devices of rows."""
        return self._roster.names(rows)

    def rows_at(self, homes: NDArray[Any]) -> Rows:
        """Return the rows of devices by the numbers that the caller has for them; ``UNKNOWN`` where none was told."""
        found: Rows = self._row_at[np.where(homes < len(self._row_at), homes, UNKNOWN)].astype(np.intp)
        return found

    def admit(self, devices: Sequence[str], places: Sequence[Place], homes: Sequence[int] = ()) -> Rows:
        """Note where devices belong from now on, and return their rows, new ones where they are new.

        Args:
            devices: Their names.
            places: Where each belongs.
            homes: The caller's own number for each, see ``rows_at``; none is needed.
        """
        rows = self._roster.add(devices)
        if homes:
            need, have = max(homes) + 2, len(self._row_at)  # The last entry is nobody's.
            if need > have:
                more = max(need, int(_GROWTH * have)) - have
                self._row_at = np.pad(self._row_at, (0, more), constant_values=UNKNOWN)
            self._row_at[list(homes)] = rows
        self._columns.reserve(len(self._roster))
        self._columns.place[rows] = list(map(self._places.code, places))
        return rows

    def observe(self, rows: Rows, samples: Sequence[Sample] | SampleTable, received_at: float) -> None:
        """Fold in samples of devices that were admitted, in the order in which they came; the rules are in ``fold``."""
        self._latest = max(self._latest, received_at)
        self._waiting.append(_Waiting(rows, self._columns.place[rows], samples, self._latest))
        self._waiting_count += len(rows)
        if self._waiting_count >= WAITING_MAX:
            self.settle()

    def refuse(self, rows: Rows) -> None:
        """Count messages of devices that are no samples: bad ones."""
        self._refused.append(rows)
        if len(self._refused) >= WAITING_MAX:
            self.settle()

    def settle(self) -> None:
        """Fold in what waits: samples wait for each other, because together they cost less; a question settles."""
        waiting, self._waiting, self._waiting_count = self._waiting, [], 0
        for cell, parts in groupby(waiting, lambda each: self._columns.cell_of(each.at)):
            self._turn(cell)
            self._fold(_together(list(parts), self._versions))
        self._now = max(self._now, self._latest)
        self._fold_refused()

    def alarmed(self) -> list[str]:
        """Name the devices that restarted or whose endpoint was down since this was asked last."""
        self.settle()
        alarmed, self._alarmed = self._alarmed, []
        return self.names(np.unique(np.concatenate(alarmed))) if alarmed else []

    def cover(self, seconds: float) -> None:
        """Cut time so that a window of ``seconds`` can be asked for: longer cells are coarser, shorter ones sharper."""
        cell_seconds = seconds / (CELLS - 1)
        if cell_seconds != self._columns.cell_seconds:
            self.settle()
            self._cohorts.close(self._now, self._tell)
            self._columns.gauge(cell_seconds, self._now)
            self._slopes.clear()

    def _catch_up(self, now: float) -> float:
        """Fold in what waits, and turn to ``now``, which never falls."""
        self.settle()
        self._now = max(self._now, now)
        self._turn(self._columns.cell_of(self._now))
        return self._now

    def _fold(self, batch: Batch) -> None:
        for each in batch.one_by_one():
            folded = fold(self._columns, each)
            self.outcomes.update(folded.outcomes)
            if len(folded.alarmed):
                self._alarmed.append(folded.alarmed)
            rows, qualities = self._cohorts.add(folded)
            if len(rows):
                self._columns.need("qualities")
                self._columns.qualities[rows] |= qualities

    def _fold_refused(self) -> None:
        refused, self._refused = self._refused, []
        if refused:
            rows, counts = np.unique(np.concatenate(refused), return_counts=True)
            self._columns.count_bad(rows, counts)
            self.outcomes[SampleOutcome.BAD] += int(counts.sum())

    def _turn(self, cell: int) -> None:
        columns = self._columns
        if cell <= columns.cell:
            return
        self._cohorts.close((columns.cell + 1) * columns.cell_seconds, self._tell)
        columns.turn(cell)
        self._cohorts.start = cell * columns.cell_seconds
        self._cohorts.forget_idle(columns.start_of(None))
        self._slopes.clear()

    def _tell(self, cohort: Cohort, cell: Cell) -> None:
        """Let what was normal in a cell count for its group's baselines."""
        place = self._places[cohort.place]
        version = self._versions.name(cohort.version)
        if not place.is_normal or version is None:
            return
        if place.group not in self._histories:
            oldest = cell.end - self._history_seconds
            self._histories = {name: kept for name, kept in self._histories.items() if not kept.is_older_than(oldest)}
            self._histories[place.group] = GroupHistory(self._history_seconds)
        self._histories[place.group].add(version, cell)

    def histories(self) -> dict[str, tuple[Interval, ...]]:
        """Return what baselines are taken from, by group, up to the last closed cell; see ``remember``."""
        return {group: history.intervals() for group, history in self._histories.items()}

    def remember(self, histories: Mapping[str, Iterable[Interval]], now: float) -> None:
        """Take up what an earlier monitor had counted, before any sample comes; what lies after ``now`` is left out."""
        for group, kept in histories.items():
            past = [each for each in kept if each.start <= now]
            self._histories[group] = GroupHistory(self._history_seconds, past)

    # Questions.

    def window(self, devices: Collection[str], *, version: str | None, seconds: float | None, now: float) -> Window:
        """Return what ``devices`` did over the last ``seconds`` while they ran ``version``.

        A ``version`` of None takes each device with the version it runs.
        """
        now = self._catch_up(now)
        return read_window(
            self._columns,
            self._cohorts,
            self._asked(devices),
            version=self._version(version),
            seconds=seconds,
            stale_after=self._stale_after,
            now=now,
        )

    def restarts(self, devices: Devices, *, version: str | None, seconds: float | None, now: float) -> Counted:
        """Return only the restarts of ``window``, which cost a tenth of all of it."""
        now = self._catch_up(now)
        since = None if seconds is None else now - seconds
        return read_restarts(self._columns, devices, self._version(version), since)

    def traffic_by_group(
        self, devices: Devices, *, version: str | None, seconds: float | None, now: float
    ) -> dict[str, tuple[int, int]]:
        """Return only the requests and errors of ``window``, of each group's devices."""
        now = self._catch_up(now)
        since = None if seconds is None else now - seconds
        return read_traffic_by_group(self._columns, devices, self._version(version), since)

    def groups(self, *, seconds: float, now: float) -> Mapping[str, GroupWindow]:
        """Return what each group did over the last ``seconds``, for those that were heard at all."""
        return self._group_windows(lambda place: place.group, None, seconds, now)

    def waves(self, *, version: str, seconds: float, now: float) -> Mapping[str, GroupWindow]:
        """Return what devices that run ``version`` did over the last ``seconds``, by the waves of their places."""
        return self._group_windows(lambda place: place.wave, version, seconds, now)

    def _group_windows(
        self, group_of: Callable[[Place], str], version: str | None, seconds: float, now: float
    ) -> Mapping[str, GroupWindow]:
        now = self._catch_up(now)
        return read_group_windows(
            self._columns,
            len(self._roster),
            self._cohorts,
            self._places,
            group_of,
            version=self._version(version),
            seconds=seconds,
            stale_after=self._stale_after,
            now=now,
        )

    def worst(self, devices: Sequence[str], *, limit: int, seconds: float, now: float) -> Worst:
        """Return the ``limit`` worst of ``devices``, each named once, on whatever version they run."""
        now = self._catch_up(now)
        return read_worst(
            self._columns,
            self._versions,
            devices,
            self._roster.find(devices),
            limit=limit,
            seconds=seconds,
            stale_after=self._stale_after,
            now=now,
        )

    def slopes(
        self,
        devices: Collection[str],
        signal: Signal,
        *,
        version: str | None,
        seconds: float,
        now: float,
        reaching: float = inf,
    ) -> Slopes:
        """Return the line through a signal of each device that runs ``version``, one reading for each closed cell.

        Of many devices not all are looked at closely; those that were at ``reaching`` are. See ``fit``.
        """
        now = self._catch_up(now)
        there = self._running(devices, version)
        key = (signal, seconds, reaching, there.rows.tobytes())
        if key not in self._slopes:
            self._slopes[key] = fit(read_levels(self._columns, there, signal, now - seconds), reaching=reaching)
        return self._slopes[key]

    def traffic(
        self, devices: Collection[str], *, version: str | None, seconds: float, count: int, now: float
    ) -> Traffic:
        """Return what devices that run ``version`` did in each of the last ``count`` stretches of ``seconds``.

        Stretches are of whole cells, without the open one; devices count that ran the version from the first one on.
        """
        self._catch_up(now)
        return read_traffic(self._columns, self._running(devices, version), seconds, count)

    def endpoints_down(self, devices: Collection[str], *, version: str | None, now: float) -> dict[str, float]:
        """Return how long each device's health endpoint has been seen down, for those where it is, in seconds.

        It is what samples show, up to the last good one; a silent device is left out, because silence proves no outage.
        """
        now = self._catch_up(now)
        there = self._running(devices, version)
        down = self._columns.good_at[there.rows] - self._columns.down_since[there.rows]
        heard = fresh(self._columns, there.rows, stale_after=self._stale_after, seconds=None, now=now)
        which = np.flatnonzero(heard & (down > 0))
        return dict(sorted(zip(there.names_at(which), down[which].tolist(), strict=True)))

    def signals(self, devices: Collection[str]) -> frozenset[str]:
        """Name what any of the devices shows of the version it runs, in the words of their ``info``."""
        self._catch_up(self._now)
        window = self.window(devices, version=None, seconds=None, now=self._now)
        rows = self._asked(devices).rows
        flags = np.bitwise_or.reduce(self._columns.flags[rows[rows != UNKNOWN]], initial=0)
        shown = {name for flag, name in _SIGNALS if flags & flag}
        cell = window.together
        shown |= {"latency"} if cell.latency.counts or any(each.counts for each in cell.percentiles) else set()
        return frozenset(shown | ({"quality"} if cell.means.keys() - {""} else set()))

    def last_seen(self, device: str) -> float | None:
        """Return when the device's last sample came that was neither late nor a duplicate."""
        self.settle()
        row = self._roster.find([device])[0]
        seen = -inf if row == UNKNOWN else float(self._columns.last_at[row])
        return None if seen == -inf else seen

    def version_of(self, device: str) -> str | None:
        """Return the version that the device named last; None when it is not known."""
        return self.versions_of([device])[device]

    def versions_of(self, devices: Collection[str]) -> dict[str, str | None]:
        """Return the version that each device named last; None where it is not known."""
        self.settle()
        asked = self._asked(devices)
        return {
            name: self._versions.name(code)
            for name, code in zip(asked, self._version_codes(asked.rows).tolist(), strict=True)
        }

    def runs(self, devices: Devices, version: str | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say which devices named ``version`` last, and which named any."""
        self.settle()
        codes = self._version_codes(devices.rows)
        return codes == self._version(version), codes != UNSAID

    def baseline(
        self, group: str, *, now: float, seconds: float, excluding_version: str, min_samples: int
    ) -> Baseline | None:
        """Return what is normal for a group, from the samples of versions other than ``excluding_version``.

        The window's start is rounded to whole intervals (1/288 of the history). Samples without a version never count,
        because they might be of the excluded one.

        Returns:
            None when there are fewer than ``min_samples`` requests or fewer than ``min_samples`` samples.
        """
        now = self._catch_up(now)
        history = self._histories.get(group) or GroupHistory(self._history_seconds)
        return history.baseline(
            group,
            self._newest(group, now),
            now=now,
            seconds=seconds,
            excluding_version=excluding_version,
            min_samples=min_samples,
            device_count=self._count(group, excluding_version, history.start_of(now - seconds)),
        )

    def _newest(self, group: str, now: float) -> Iterator[tuple[str, Cell]]:
        """Yield what is normal in the group in the open cell, with the version."""
        for cohort, cell in self._cohorts.open_cells(now):
            place, version = self._places[cohort.place], self._versions.name(cohort.version)
            if place.group == group and place.is_normal and version is not None:
                yield version, cell

    def _count(self, group: str, excluding_version: str, since: float) -> int:
        columns, count = self._columns, len(self._roster)
        version = columns.version[:count]
        counts = np.isin(columns.place[:count], self._places.normal(group)) & (columns.last_at[:count] >= since)
        return int((counts & (version != UNSAID) & (version != self._versions.find(excluding_version))).sum())

    def _asked(self, devices: Collection[str]) -> Devices:
        """Return those that are asked about; those given by name are sorted, each once."""
        if isinstance(devices, Devices):
            return devices
        names = sorted(set(devices))
        return Devices.named(names, self._roster.find(names))

    def _version_codes(self, rows: Rows) -> NDArray[np.int16]:
        codes: NDArray[np.int16] = np.where(rows == UNKNOWN, np.int16(UNSAID), self._columns.version[rows])
        return codes

    def _version(self, version: str | None) -> int | None:
        return None if version is None else self._versions.find(version)

    def _running(self, devices: Collection[str], version: str | None) -> Devices:
        """Return the devices that name the version they run, and that it is ``version``; None: any."""
        asked = self._asked(devices)
        runs = running(self._columns, asked.rows, self._version(version))
        return asked.take(np.flatnonzero(runs & (self._version_codes(asked.rows) != UNSAID)))
