"""The fleet as its health samples show it: the one fold that gates, triggers and summaries ask."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.cells import Cell
from orchestrator.telemetry.columns import UNSAID, Rows
from orchestrator.telemetry.devices import Counted, Devices
from orchestrator.telemetry.group_windows import GroupWindow, read_group_windows
from orchestrator.telemetry.history import GroupHistory
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.readings import Signal, Traffic, read_levels, read_traffic
from orchestrator.telemetry.recorder import Recorder
from orchestrator.telemetry.roster import UNKNOWN
from orchestrator.telemetry.trends import Slopes, fit
from orchestrator.telemetry.window import Window
from orchestrator.telemetry.windows import fresh, read_restarts, read_traffic_by_group, read_well, read_window, running
from orchestrator.telemetry.worst import Worst, read_worst

LONGEST_SECONDS: Final = 1800.0
"""The longest window of the reference."""

_SIGNALS: Final = (
    (c.TRAFFIC, "error_rate"), (c.LOG_ERRORS, "log_errors"), (c.THROTTLES, "throttle_events"), (c.CPU, "cpu"),
    (c.MEMORY, "memory"), (c.DISK, "disk"), (c.TEMPERATURE, "temperature"),
)  # fmt: skip


class Monitor(Recorder):
    """A recorder that answers: what gates, triggers and summaries ask of the fleet's health.

    A window of ``seconds`` begins with the cell in which ``now - seconds`` lies, so it holds at most one cell more than
    asked for and nothing less; one of None, or one longer than the longest, holds the 31 cells that are kept. What
    devices did on another version is in none. A question folds in what waits.

    Args:
        history_seconds: How far back a baseline can reach.
        longest_seconds: The longest window that will be asked for; see ``cover``.
        stale_after_seconds: The age at which a device's last good sample is no longer fresh. None: three times the
            device's own usual interval, at least a second. It must also be later than ``now - seconds``.
    """

    def __init__(
        self,
        history_seconds: float = 24 * 3600,
        *,
        longest_seconds: float = LONGEST_SECONDS,
        stale_after_seconds: float | None = None,
    ) -> None:
        super().__init__(history_seconds, longest_seconds)
        self._stale_after = stale_after_seconds
        self._slopes: dict[tuple[object, ...], Slopes] = {}
        """Of the cells that are closed; when another closes, they are fitted anew."""
        self._slopes_until = (0, 0.0)

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

    def well(self, devices: Devices, *, version: str | None, seconds: float | None, now: float) -> NDArray[np.bool_]:
        """Say which devices ``window`` shows as fresh and healthy without a doubt."""
        now = self._catch_up(now)
        return read_well(
            self._columns,
            devices.rows,
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
        until = (self._columns.cell, self._columns.cell_seconds)
        if until != self._slopes_until:
            self._slopes, self._slopes_until = {}, until
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
        if np.isnan(self._columns.down_since[: len(self._roster)]).all():
            return {}
        there = self._running(devices, version)
        down = self._columns.good_at[there.rows] - self._columns.down_since[there.rows]
        heard = fresh(self._columns, there.rows, stale_after=self._stale_after, seconds=None, now=now)
        which = np.flatnonzero(heard & (down > 0))
        return dict(sorted(zip(there.names_at(which), down[which].tolist(), strict=True)))

    def ill(self, homes: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which devices, by the caller's numbers, are not healthy, by their last good sample however old it is.

        So are those of which only bad samples came for three intervals. No window is read for it.
        """
        self.settle()
        columns, count = self._columns, len(self._roster)
        flags = columns.flags[:count]
        is_ill = (flags & c.SAYS_HEALTH != 0) & (flags & c.HEALTHY == 0) | ~np.isnan(columns.down_since[:count])
        is_bad = columns.last_at[:count] > columns.good_at[:count] + columns.stale_after[:count]
        found: NDArray[np.bool_] = np.append(is_ill | is_bad, False)[self.rows_at(homes)]  # The last one is nobody's.
        return found

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
        self.settle()
        (code,) = self._version_codes(self._roster.find([device])).tolist()
        return self._versions.name(code)

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
