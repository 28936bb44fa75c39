"""What samples leave behind: devices by row, what they did cell by cell, and what is normal for their groups."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.batch import Batch, Versions
from orchestrator.telemetry.cells import Cell
from orchestrator.telemetry.cohorts import Cohort, Cohorts
from orchestrator.telemetry.columns import CELLS, Columns, Rows
from orchestrator.telemetry.fold import SampleOutcome, fold
from orchestrator.telemetry.history import GroupHistory, Interval
from orchestrator.telemetry.places import Place, Places
from orchestrator.telemetry.roster import UNKNOWN, Roster
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sample_table import SampleTable

WAITING_MAX: Final = 4096
"""Samples that wait to be folded in together."""

_GROWTH: Final = 1.25


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


class Recorder:
    """Takes samples in; mutable, and bounded by the devices and groups that the caller lets in.

    Time is cut into cells, a thirtieth of the longest window each; the open one and the 30 before it are kept.

    Args:
        history_seconds: How far back a baseline can reach.
        longest_seconds: The longest window that will be asked for; see ``cover``.

    Attributes:
        outcomes: How many samples of each outcome there were.
    """

    def __init__(self, history_seconds: float, longest_seconds: float) -> None:
        self.outcomes: Counter[SampleOutcome] = Counter()
        self._history_seconds = history_seconds
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
        self._now = 0.0
        self._latest = 0.0

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
        return self._row_at.take(homes, mode="clip").astype(np.intp)  # Beyond the last is nobody, like the last.

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

    def forget_alarms(self) -> None:
        """Name nobody whose alarming samples have been folded in so far; those that wait go on waiting."""
        self._alarmed = []

    def cover(self, seconds: float) -> None:
        """Cut time so that a window of ``seconds`` can be asked for: longer cells are coarser, shorter ones sharper."""
        cell_seconds = seconds / (CELLS - 1)
        if cell_seconds != self._columns.cell_seconds:
            self.settle()
            self._cohorts.close(self._now, self._tell)
            self._columns.gauge(cell_seconds, self._now)

    def _catch_up(self, now: float) -> float:
        """Fold in what waits, and turn to ``now``, which never falls."""
        self.settle()
        self._now = max(self._now, now)
        self._turn(self._columns.cell_of(self._now))
        return self._now

    def _fold(self, batch: Batch) -> None:
        for each in batch.one_by_one():
            folded = fold(self._columns, each)
            for outcome, count in folded.outcomes.items():
                self.outcomes[outcome] += count
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
        """Take up what an earlier one had counted, before any sample comes; what lies after ``now`` is left out.

        So are groups of which nothing was heard for as long as a baseline reaches back.
        """
        for group, kept in histories.items():
            history = GroupHistory(self._history_seconds, [each for each in kept if each.start <= now])
            if not history.is_older_than(now - self._history_seconds):
                self._histories[group] = history
