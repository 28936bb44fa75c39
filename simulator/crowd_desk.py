"""What the orchestrator's core says to a crowd: devices that are alike get the answer that one of them gets.

Nothing is decided here. Of all devices that differ in nothing a rule looks at, one reports or asks; what follows from
that by the product's own rules is applied to all of them, as far as there is room.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core import events as e
from orchestrator.core.capacity import unavailable_max, unhealthy_max
from orchestrator.core.grants import Wait, decide_grant
from orchestrator.core.inputs import DeviceReady, DeviceReported
from orchestrator.core.inventory import Device
from orchestrator.core.members import Member, Progress
from orchestrator.core.observe import observe
from orchestrator.core.replies import RETRY_SECONDS_MAX, pause
from orchestrator.core.reports import decide_proven, decide_reported, decide_withdrawn
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.core.table import Field
from schemas.messages import DeviceState, ErrorReport, Ready, Reported, Step
from simulator.crowd_facts import Rows, apply_to_each

_LOOKED_AT: Final = (Member.progress, Member.wave, Member.attempts, Member.is_ahead, Member.is_lost, Member.generation)
_LOOKED_AT_AT_HOME: Final = (
    Device.action, Device.generation, Device.quarantine, Device.is_asking, Device.is_ill, Device.is_unheard,
)  # fmt: skip
_SEEN: Final[tuple[Field[Any], ...]] = (
    Device.heard_at,
    Device.said_at,
    Device.version,
    Device.is_asking,
    Device.has_prepared,
)
"""What a report leaves of the present, beside ``busy_since``."""


class Desk:
    """Where a crowd reports and asks.

    Args:
        state: Of the orchestrator; what is said here changes it.
        rollout: The one they are in.
        rng: Draws when those ask again who may not go yet.
    """

    def __init__(self, state: State, rollout: Rollout, rng: np.random.Generator) -> None:
        self.rollout = rollout
        self._state = state
        self._rng = rng
        self._said_count = 0

    def report(self, rows: Rows, said: DeviceState, version: str, now: float, error: ErrorReport | None = None) -> None:
        """Let devices say where they are and what they run."""
        devices = self._state.devices
        for alike in self._alike(rows):
            first = devices.names[alike[0]]
            reported = Reported(
                observed_generation=devices[first].generation, seq=self._count(), state=said, installed_version=version,
                boot_id="crowd", error=error,
            )  # fmt: skip
            was_asking = devices[first].is_asking
            for fact in decide_reported(self._state, first, reported, now):
                apply_to_each(self._state, fact, alike, now)
            observe(self._state, DeviceReported(first, reported), now)
            seen = (*_SEEN, Device.busy_since) if was_asking and not devices[first].is_asking else _SEEN
            for field in seen:
                cells = devices.column(field)
                cells[alike] = cells[alike[0]]

    def ask(self, rows: Rows, step: Step, now: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Let devices ask whether they may take a step, the first first; say which may, and when the others ask again.

        Those that wait ask as late as the product tells them, each at a moment of its own.
        """
        goes = np.zeros(len(rows), dtype=np.bool_)
        again_at = np.full(len(rows), np.inf)
        places = np.arange(len(rows))
        for alike in self._alike(rows, places):
            left = alike
            while len(left):
                decision = self._decide(rows[left], step, now)
                if isinstance(decision, Wait):
                    least, spread = pause(self.rollout, decision)
                    seconds = least + self._rng.random(len(left)) * spread
                    again_at[left] = now + np.minimum(seconds, RETRY_SECONDS_MAX)
                    break
                count = len(left) if step == "commit" else min(len(left), max(self._room(decision), 1))
                apply_to_each(self._state, decision, rows[left[:count]], now)
                goes[left[:count]] = True
                left = left[count:]
        return goes, again_at

    def _decide(self, rows: Rows, step: Step, now: float) -> e.GrantIssued | Wait:
        """Let the first of devices that are alike ask; what is known of it then is known of all."""
        state, devices = self._state, self._state.devices
        first = devices.names[rows[0]]
        ready = Ready(generation=devices[first].generation, step=step, nonce=f"{self._count():032x}")
        decision = decide_grant(state, first, ready, now=now)
        observe(state, DeviceReady(first, ready), now)
        for field in (Device.heard_at, Device.said_at):
            devices.fill(rows, field, now)
        if isinstance(decision, Wait):
            state.grant_seq += len(rows)  # As the engine counts its refusals.
            facts = decide_proven(state, first, decision) + decide_withdrawn(state, first, ready, decision)
            for fact in facts:
                apply_to_each(state, fact, rows, now)
        return decision

    def _room(self, issued: e.GrantIssued) -> int:
        """Return how many devices may go one after the other, the one that was let go included, before one may not."""
        members = self.rollout.members
        limit = self.rollout.policy.rollout.global_.max_parallel_deploys
        if self._state.devices[issued.device].action == "rollback":
            returning = members.where(Member.progress, Progress.RETURNING) & members.was_granted
            return limit - int(returning.sum())
        in_flight, unavailable, serving = issued.in_flight or 0, issued.unavailable or 0, issued.serving or 0
        most = unavailable_max(self.rollout, unavailable + serving)
        room = min(limit - in_flight, most - unavailable)
        if not issued.was_healthy:
            return room  # Those that are unwell are alike in that.
        present, healthy = issued.present or 0, issued.healthy or 0
        return min(room, unhealthy_max(self.rollout, present) - (present - healthy))

    def _alike(self, rows: Rows, places: Rows | None = None) -> Iterator[Rows]:
        """Yield rows, or their places, of devices that differ in nothing a rule looks at, in their order."""
        if not len(rows):
            return
        members, devices = self.rollout.members, self._state.devices
        own = members.at(rows)
        key = np.zeros(len(rows), dtype=np.int64)
        columns = [members.column(field)[own] for field in _LOOKED_AT]
        columns += [devices.column(field)[rows] for field in _LOOKED_AT_AT_HOME]
        columns += [np.isnan(members.column(field)[own]) for field in (Member.granted, Member.staged_bytes)]
        columns.append(self._zones(rows))
        for column in columns:
            if (column != column[0]).any():
                key = np.unique(key * (int(column.max()) + 1) + column.astype(np.int64), return_inverse=True)[1]
        for code in np.unique(key).tolist():
            which = np.flatnonzero(key == code)
            yield rows[which] if places is None else places[which]

    def _zones(self, rows: Rows) -> Rows:
        """Return a number for each device's time zone, where it matters."""
        if self.rollout.policy.maintenance_window is None:
            return np.zeros(len(rows), dtype=np.intp)
        zones = [info.time_zone for info in self._state.devices.vocabularies["info"].values]
        names = sorted({str(zone) for zone in zones})
        numbers = np.array([names.index(str(zone)) for zone in zones], dtype=np.intp)
        found: Rows = numbers[self._state.devices.column(Device.info)[rows]]
        return found

    def _count(self) -> int:
        self._said_count += 1
        return self._said_count
