"""Devices whose new version ends by itself or is ill, probe by probe and exit by exit: ``trial`` in columns.

Source:
    ``device_client.core.trial`` and ``probe``; a test holds both together.
"""

import math
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from device_client.core.codes import ErrorCode
from device_client.core.probe import CRASH_WINDOW_SECONDS, CRASHES_MAX, UNREACHABLE_SECONDS, scaled
from schemas.policy import Policy
from simulator.application import Behavior
from simulator.crowd_facts import Mask, Rows

if TYPE_CHECKING:
    from simulator.crowd import Crowd

_RESTART_SECONDS: Final = 2.0
Moments = NDArray[np.float64]


class Trials:
    """Those of a crowd that have the fault, a place for each.

    Args:
        crowd: Whose they are; told when a device is proven or leaves.
        rows: Theirs in it.
        policy: For how they check their applications.
        rng: Draws when an application ends.
    """

    def __init__(self, crowd: "Crowd", rows: Rows, policy: Policy, rng: np.random.Generator) -> None:
        count = len(rows)
        self._crowd = crowd
        self._rows = rows
        self._place_of = np.zeros(len(crowd.has_fault), dtype=np.intp)
        self._place_of[rows] = np.arange(count)
        self._rng = rng
        self._check = policy.rolling_update.health_check
        self._min_ready_seconds = policy.rolling_update.min_ready_seconds
        self._deadline_seconds = policy.rolling_update.progress_deadline
        self._probe_at, self._exit_at, self._up_at, self._deadline_at = (np.full(count, np.inf) for _ in range(4))
        self._exits = np.full((CRASHES_MAX + 1, count), -np.inf)
        self._successes = np.zeros(count, dtype=np.int32)
        self._failures = np.zeros(count, dtype=np.int32)
        self._well_since, self._ill_since = np.full(count, np.nan), np.full(count, np.nan)
        self._was_healthy, self._is_proven = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        self._next_at = np.full(count, np.inf)

    @classmethod
    def of(cls, crowd: "Crowd", policy: Policy, rng: np.random.Generator) -> Self:
        """Return those of a crowd that have the fault."""
        return cls(crowd, np.flatnonzero(crowd.has_fault), policy, rng)

    @property
    def next_at(self) -> float:
        """When the next of them is probed or ends."""
        return float(self._next_at.min(initial=np.inf))

    def begin(self, rows: Rows, started_at: Moments) -> None:
        """Let trials begin with applications that start at these moments."""
        places = self._place_of[rows]
        self._exits[:, places] = -np.inf
        self._successes[places] = self._failures[places] = 0
        self._well_since[places] = self._ill_since[places] = np.nan
        self._was_healthy[places] = self._is_proven[places] = False
        self._probe_at[places] = self._crowd.first_probe_at(rows, started_at)
        self._deadline_at[places] = started_at + (self._deadline_seconds if self._crowd.behavior.starts else 0.0)
        self._crowd.is_up[rows] = self._crowd.behavior.starts
        self._start(places, started_at)

    def end(self, rows: Rows) -> None:
        """Forget devices that have left the new version."""
        places = self._place_of[rows[self._crowd.has_fault[rows]]]
        for moments in (self._probe_at, self._exit_at, self._up_at, self._deadline_at, self._next_at):
            moments[places] = np.inf

    def play(self, now: float) -> None:
        """Let every probe and every exit happen up to ``now``, of each device one after the other."""
        while len(places := np.flatnonzero(self._next_at <= now)):
            at = self._next_at[places]
            is_exit = self._exit_at[places] == at
            is_start = self._up_at[places] == at
            is_over = self._deadline_at[places] == at
            self._exit(places[is_exit], at[is_exit], now)
            self._restart(places[is_start & ~is_exit], at[is_start & ~is_exit])
            over = places[is_over & ~is_exit & ~is_start]
            self._deadline_at[over] = np.inf
            starts = self._crowd.behavior.starts
            self._leave(over, ErrorCode.DEADLINE_EXCEEDED if starts else ErrorCode.START_FAILED, now)
            rest = ~(is_exit | is_start | is_over)
            self._probe(places[rest], at[rest], now)
            self._look_ahead(places)

    def _start(self, places: Rows, at: Moments) -> None:
        behavior = self._crowd.behavior
        self._exit_at[places] = at + exits_after(behavior, self._rng, len(places))
        self._look_ahead(places)

    def _look_ahead(self, places: Rows) -> None:
        soonest = np.minimum(self._probe_at[places], self._exit_at[places])
        later = np.minimum(self._up_at[places], self._deadline_at[places])
        self._next_at[places] = np.minimum(soonest, later)

    def _exit(self, places: Rows, at: Moments, now: float) -> None:
        rows = self._rows[places]
        self._crowd.is_up[rows] = False
        self._crowd.restarts[rows] += 1
        self._exit_at[places], self._up_at[places] = np.inf, at + _RESTART_SECONDS
        self._exits[:-1, places] = self._exits[1:, places]
        self._exits[-1, places] = at
        self._successes[places], self._well_since[places] = 0, np.nan
        window_seconds = scaled(CRASH_WINDOW_SECONDS, self._check)
        is_loop = ((at - self._exits[:, places]) <= window_seconds).sum(axis=0) > CRASHES_MAX
        self._leave(places[is_loop], ErrorCode.CRASH_LOOP, now)

    def _restart(self, places: Rows, at: Moments) -> None:
        rows = self._rows[places]
        self._up_at[places] = np.inf
        self._crowd.is_up[rows] = True
        self._crowd.started_at[rows] = at
        self._start(places, at)

    def _probe(self, places: Rows, at: Moments, now: float) -> None:
        crowd, check = self._crowd, self._check
        rows = self._rows[places]
        ok = crowd.is_up[rows] & ~is_sick(crowd.behavior, at - crowd.started_at[rows])
        self._probe_at[places] = at + check.interval_seconds
        well, ill = places[ok], places[~ok]
        self._successes[well] += 1
        self._failures[well] = self._successes[ill] = 0
        self._failures[ill] += 1
        self._well_since[well] = np.where(self._successes[well] == 1, at[ok], self._well_since[well])
        self._ill_since[ill] = np.where(self._failures[ill] == 1, at[~ok], self._ill_since[ill])
        self._ill_since[well] = self._well_since[ill] = np.nan
        self._was_healthy[well] |= self._successes[well] >= check.success_threshold
        is_relapse = self._was_healthy[ill] & (self._failures[ill] >= check.failure_threshold) & ~self._serves(ill)
        is_gone = self._serves(ill) & (at[~ok] - self._ill_since[ill] > scaled(UNREACHABLE_SECONDS, check))
        self._leave(ill[is_relapse | is_gone], ErrorCode.UNHEALTHY, now)
        enough = (self._successes[well] >= check.success_threshold) & ~self._is_proven[well]
        enough &= at[ok] - self._well_since[well] >= self._min_ready_seconds
        self._is_proven[well[enough]] = True
        self._deadline_at[well[enough]] = np.inf
        crowd.proven(self._rows[well[enough]], at[ok][enough])

    def _serves(self, places: Rows) -> Mask:
        """Say which have committed: they are left for other reasons than those on trial."""
        serves: Mask = self._crowd.is_serving(self._rows[places])
        return serves

    def _leave(self, places: Rows, code: ErrorCode, now: float) -> None:
        self._crowd.left(self._rows[places], code, now)


def exits_after(behavior: Behavior, rng: np.random.Generator, count: int) -> Moments:
    """Draw when processes end by themselves, as ``Application.crash_after_seconds`` does; infinite is never."""
    chance = behavior.crashes_per_minute
    if chance <= 0:
        return np.full(count, np.inf)
    seconds: Moments = behavior.begins_after_seconds + rng.exponential(-60 / math.log(1 - min(chance, 0.999999)), count)
    return seconds


def is_sick(behavior: Behavior, seconds: Moments) -> Mask:
    """Say whose health endpoint says no, by how long each application has run, as ``Application.is_well`` does."""
    sick_after = math.inf if behavior.sick_after_seconds is None else behavior.sick_after_seconds
    found: Mask = seconds >= max(sick_after, behavior.begins_after_seconds)
    return found
