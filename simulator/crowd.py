"""A crowd of devices as columns: what each does with its orders and its application, without its disk and its messages.

Every device prepares, asks, switches, proves itself, crashes, turns back and returns by the rules of the device's own
core, at the times of ``plant``. Where the new version does nothing wrong to the process, the moment at which a device
is proven is computed; otherwise each probe and each exit is played. Many devices that do the same at once say so
together, at the desk.
"""

from enum import IntEnum, auto
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_client.core.codes import ErrorCode, describe
from schemas.messages import Action
from schemas.policy import Policy
from simulator.application import Behavior
from simulator.crowd_desk import Desk
from simulator.crowd_facts import Mask, Rows
from simulator.crowd_trials import Trials
from simulator.materials import NEW_VERSION, OLD_VERSION

_FETCH_SECONDS: Final = (5.0, 40.0)
_INSTALL_SECONDS: Final = (5.0, 20.0)
_VERIFY_SECONDS: Final = 1.0
_SMOKE_TEST_SECONDS: Final = 3.0
_SWITCH_SECONDS: Final = 2.0
_NO_ERROR: Final = ""


class Stage(IntEnum):
    """What a device is about; ``at`` says when it is done with it."""

    IDLE = auto()
    PREPARING = auto()
    ASKING = auto()
    TRIAL = auto()
    """On the new version, until it is proven; then it asks whether it may commit."""
    FAILING = auto()
    """On the new version, which cannot be proven in its time."""
    SERVING = auto()
    ASKING_BACK = auto()
    RETURNING = auto()
    """The old version serves again and is not proven yet."""


class Crowd:
    """Devices by their rows in the inventory; all run the old version at first.

    Args:
        policy: For how the devices check their applications.
        behavior: How the new version behaves on those that have the fault.
        has_fault: Which devices have it.
        rng: Draws every moment.
        now: Seconds since the epoch.

    Attributes:
        stage: What each is about.
        is_new: It runs the new version.
        is_up: Its application runs; it may be restarting.
        started_at: When the application that runs was started.
        restarts: How often it ended by itself.
        granted_at: When it was let go to the new version last; NaN while it was not.
        has_run: It ran the new version at some time.
    """

    def __init__(
        self, policy: Policy, behavior: Behavior, has_fault: Mask, rng: np.random.Generator, now: float
    ) -> None:
        count = len(has_fault)
        self.behavior = behavior
        self.has_fault = has_fault
        self.stage = np.full(count, Stage.IDLE, dtype=np.uint8)
        self.is_new = np.zeros(count, dtype=np.bool_)
        self.is_up = np.ones(count, dtype=np.bool_)
        self.has_run = np.zeros(count, dtype=np.bool_)
        self.started_at = np.full(count, now)
        self.restarts = np.zeros(count, dtype=np.int32)
        self.granted_at = np.full(count, np.nan)
        self._at = np.full(count, np.inf)
        self._has_prepared = np.zeros(count, dtype=np.bool_)
        self._errors = np.zeros(count, dtype=np.uint8)
        self._codes: list[str] = [_NO_ERROR]
        check = policy.rolling_update.health_check
        self._beat_seconds = check.interval_seconds
        self._beat_at = now + rng.random(count) * check.interval_seconds
        self._successes = check.success_threshold
        ready = int(np.ceil(policy.rolling_update.min_ready_seconds / check.interval_seconds))
        self._proving_seconds = max(check.success_threshold - 1, ready) * check.interval_seconds
        self._deadline_seconds = policy.rolling_update.progress_deadline
        self._commits_alone = policy.commit_on == "local_health"
        self._tries_beside = policy.strategy != "rolling"
        self._rng = rng
        self._trials = Trials.of(self, policy, rng) if _ends_or_sickens(behavior) else None

    @property
    def next_at(self) -> float:
        """When something happens next; infinite while nobody is about anything."""
        soonest = float(self._at.min(initial=np.inf))
        return soonest if self._trials is None else min(soonest, self._trials.next_at)

    @property
    def is_under_way(self) -> bool:
        """Whether any device prepares, switches or returns, or would if it were let."""
        return bool((self._at < np.inf).any() or (self.stage == Stage.TRIAL).any())

    def is_serving(self, rows: Rows) -> Mask:
        """Say which have committed to the new version and run it."""
        serving: Mask = np.isin(self.stage[rows], (Stage.SERVING, Stage.ASKING_BACK))
        return serving

    def first_probe_at(self, rows: Rows, after: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return when each device asks its application next, after a moment."""
        beat = self._beat_seconds
        found: NDArray[np.float64] = after + np.mod(self._beat_at[rows] - after, beat)
        return found

    def obey(self, rows: Rows, action: Action, desk: Desk, now: float) -> None:
        """Take a new order."""
        stages = self.stage[rows]
        match action:
            case "install":
                idle = rows[stages == Stage.IDLE]
                fetching = self._rng.uniform(*_FETCH_SECONDS, len(idle)) + _VERIFY_SECONDS
                fetching += self._rng.uniform(*_INSTALL_SECONDS, len(idle))
                test = _SMOKE_TEST_SECONDS if self._tries_beside else 0.0
                self._go(idle, Stage.PREPARING, now + np.where(self._has_prepared[idle], 0.0, fetching) + test)
                waiting = rows[stages == Stage.ASKING]
                self._at[waiting] = now  # A newer order lets them ask at once.
            case "hold":
                held = rows[(stages == Stage.PREPARING) | (stages == Stage.ASKING)]
                self._go(held, Stage.IDLE, np.inf)
            case "rollback":
                self._turn_back(rows[(stages == Stage.TRIAL) | (stages == Stage.FAILING)], "", now)
                self._go(rows[stages == Stage.SERVING], Stage.ASKING_BACK, now)
                desk.report(rows[~self.is_new[rows] & (stages != Stage.RETURNING)], "idle", OLD_VERSION, now)

    def play(self, desk: Desk, now: float) -> None:
        """Let everything happen that is due."""
        if self._trials is not None:
            self._trials.play(now)
        due = np.flatnonzero(self._at <= now)
        if not len(due):
            return
        due = due[np.argsort(self._at[due], kind="stable")]
        stages = self.stage[due]
        ready = self._prepare(due[stages == Stage.PREPARING], desk, now)
        self._start(np.concatenate([due[stages == Stage.ASKING], ready]), desk, now)
        self._commit(due[stages == Stage.TRIAL], desk, now)
        self._turn_back(due[stages == Stage.FAILING], ErrorCode.DEADLINE_EXCEEDED, now)
        self._return(due[stages == Stage.ASKING_BACK], desk, now)
        self._arrive(due[stages == Stage.RETURNING], desk, now)

    def _prepare(self, rows: Rows, desk: Desk, now: float) -> Rows:
        """Have it installed in standby, or find that it does not start there; return those that are ready."""
        self._has_prepared[rows] = True
        fails = self.has_fault[rows] & (not self.behavior.starts and self._tries_beside)
        failed, ready = rows[fails], rows[~fails]
        error = describe(ErrorCode.SMOKE_TEST_FAILED, "smoke_test", "simulated")
        desk.report(failed, "failed", OLD_VERSION, now, error)
        self._go(failed, Stage.IDLE, np.inf)
        desk.report(ready, "ready", OLD_VERSION, now)
        self._go(ready, Stage.ASKING, now)
        return ready

    def _start(self, rows: Rows, desk: Desk, now: float) -> None:
        """Ask whether to switch, and switch."""
        goes, self._at[rows] = desk.ask(rows, "activate", now)
        rows = rows[goes]
        desk.report(rows, "draining", OLD_VERSION, now)
        self.granted_at[rows] = now
        self.is_new[rows] = self.has_run[rows] = True
        self.started_at[rows] = now + _SWITCH_SECONDS
        first_at = self.first_probe_at(rows, self.started_at[rows])
        proven_at = first_at + self._proving_seconds
        deadline_at = self.started_at[rows] + self._deadline_seconds
        is_late = proven_at > deadline_at
        self._go(rows, Stage.TRIAL, proven_at)
        self._go(rows[is_late], Stage.FAILING, deadline_at[is_late])
        if self._trials is not None:
            ill = rows[self.has_fault[rows]]
            self._go(ill, Stage.TRIAL, np.inf)
            self._trials.begin(ill, self.started_at[ill])

    def proven(self, rows: Rows, at: NDArray[np.float64]) -> None:
        """Let devices ask whether they may commit; their trials are played one probe after the other."""
        self._at[rows] = at

    def left(self, rows: Rows, code: ErrorCode, now: float) -> None:
        """Let devices leave the new version, because of what they saw of it themselves."""
        for each in np.unique(self.stage[rows]).tolist():
            if each in (Stage.TRIAL, Stage.SERVING):
                self._turn_back(rows[self.stage[rows] == each], code, now)

    def _commit(self, rows: Rows, desk: Desk, now: float) -> None:
        if not self._commits_alone:
            goes, self._at[rows] = desk.ask(rows, "commit", now)
            rows = rows[goes]
        self._go(rows, Stage.SERVING, np.inf)
        desk.report(rows, "idle", NEW_VERSION, now)

    def _turn_back(self, rows: Rows, code: str, now: float) -> None:
        """Go back to the old version, which has to prove itself as well."""
        if code not in self._codes:
            self._codes.append(code)
        self._errors[rows] = self._codes.index(code)
        self.is_new[rows], self.is_up[rows] = False, True
        self.started_at[rows] = now + _SWITCH_SECONDS
        first_at = self.first_probe_at(rows, self.started_at[rows])
        self._go(rows, Stage.RETURNING, first_at + (self._successes - 1) * self._beat_seconds)
        if self._trials is not None:
            self._trials.end(rows)

    def _return(self, rows: Rows, desk: Desk, now: float) -> None:
        goes, self._at[rows] = desk.ask(rows, "activate", now)
        self._turn_back(rows[goes], _NO_ERROR, now)

    def _arrive(self, rows: Rows, desk: Desk, now: float) -> None:
        """Serve the old version again, and say why."""
        self._go(rows, Stage.IDLE, np.inf)
        for number, code in enumerate(self._codes):
            back = rows[self._errors[rows] == number]
            error = describe(ErrorCode(code), "trial", "simulated") if code else None
            desk.report(back, "rolled_back", OLD_VERSION, now, error)

    def _go(self, rows: Rows, stage: Stage, at: NDArray[np.float64] | float) -> None:
        self.stage[rows], self._at[rows] = stage, at


def _ends_or_sickens(behavior: Behavior) -> bool:
    """Say whether a version does anything to its own process, so that trials do not all pass."""
    return behavior.crashes_per_minute > 0 or behavior.sick_after_seconds is not None or not behavior.starts
