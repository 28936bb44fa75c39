"""One look of the guardian, and what follows from it.

A restoration is written down first and done after: check, write, stop, switch, start, lead clients there. After a power
cut anywhere in it one verified slot is active, and the next look goes on from what it finds. A router that does not
follow is told again with each look.
"""

import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_client.adapters.boot import boot_id, boot_seconds
from device_client.adapters.heartbeat import read_beat
from device_client.adapters.layout import LOCK, STATE, read_link, write_link
from device_client.adapters.router import RouterError
from device_client.guardian import slots
from device_client.guardian.decision import Action, EndAgent, Restore, Start, Stay, TakeLock, Wait, count_boot, decide
from device_client.guardian.documents import Memory, read_memory, read_trial, write_memory
from device_client.guardian.seen import Boots, Lock, Outcome, Patience, Seen
from device_client.guardian.settings import Place

if TYPE_CHECKING:
    from device_client.adapters.hosting import Instance

GUARDIAN_LOCK: Final = "guardian.lock"
PAUSE_SECONDS_MAX: Final = 30.0

_log = logging.getLogger("guardian")


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path`` if it is free; gives whether we do."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Guardian:
    """Watches one device's folder.

    Args:
        place: Where the application is and runs, and who leads clients to it.
        patience: How long an agent may be silent.
    """

    def __init__(self, place: Place, patience: Patience) -> None:
        self._root, self._ports, self._host, self._router = place.root, place.ports, place.host, place.router
        self._state = place.root / STATE
        self._patience = patience
        self._routed: tuple[int, str] | None = None
        self._boot_id = boot_id()
        self._looked_at = self._heard_at = boot_seconds()
        self._memory = read_memory(self._state)
        self._previous: slots.Content | None = None
        self._started: Instance | None = None

    def look(self) -> Action:
        """Look once, do what is to be done, and return what that was.

        Raises:
            OSError: It cannot be done; the next look tries again.
        """
        self._host.tidy()
        if self._started is not None and not self._host.is_running(self._started):
            self._started = None
        now = boot_seconds()
        if now - self._looked_at > PAUSE_SECONDS_MAX:
            self._heard_at = now  # the device slept, and so did the agent: who did not listen has heard no silence
        self._looked_at = now
        action = decide(self._see(Lock.UNTRIED), now)
        if not isinstance(action, TakeLock):
            return action
        with locked(self._state / LOCK) as is_ours:
            seen = self._see(Lock.OURS if is_ours else Lock.HELD)
            action = decide(seen, boot_seconds())
            self._do(action)
        return action

    def _see(self, lock: Lock) -> Seen:
        trial, beat = read_trial(self._state), read_beat(self._state)
        if beat is not None and beat.boot_id != self._boot_id:
            beat = None
        if beat is not None and not beat.is_starting:
            self._heard_at = max(self._heard_at, beat.at_seconds)
        seen = Seen(self._boot_id, trial, read_link(self._root), self._heard_at, lock=lock, patience=self._patience)
        if trial is None:
            return seen
        memory = self._remember(boots=count_boot(self._memory.boots, trial, self._boot_id))
        may_act = lock is Lock.OURS and trial.previous is not None
        self._previous = slots.check(self._root, str(trial.previous)) if may_act else None
        return replace(
            seen,
            boots=memory.boots,
            outcome=memory.outcome,
            running=self._running() if memory.outcome or seen.active == trial.previous else None,
            is_routed=self._router is None or self._routed == (trial.generation, seen.active),
            is_previous_sound=self._previous is not None,
            is_starting=beat is not None and beat.is_starting,
            agent_lives=beat is not None and beat.process.is_alive(),
        )

    def _do(self, action: Action) -> None:
        match action:
            case Wait() | TakeLock():
                pass
            case EndAgent():
                self._end_agent()
            case Stay(outcome):
                _log.error("guardian.stays slot=%s code=%s message=%s", outcome.slot, outcome.code, outcome.message)
                self._remember(outcome=outcome)
            case Restore(outcome):
                _log.warning(
                    "guardian.restores slot=%s code=%s message=%s", outcome.slot, outcome.code, outcome.message
                )
                self._remember(outcome=outcome)
                slots.end_others(self._host, outcome.slot)
                write_link(self._root, outcome.slot)
                self._start(outcome.slot, self._previous)
                self._lead_to(outcome.slot, self._previous)
            case Start(slot):
                content = slots.check(self._root, slot)  # before anything is ended, since it may take long
                slots.end_others(self._host, slot)
                self._start(slot, content)
                self._lead_to(slot, content)

    def _remember(self, **changes: Boots | Outcome) -> Memory:
        """Make what has changed durable, if the disk lets us: a full one must not keep a bad version serving."""
        memory = replace(self._memory, **changes)  # type: ignore[arg-type] # one of its two fields
        if memory != self._memory:
            self._memory = memory
            try:
                write_memory(self._state, memory)
            except OSError as error:
                _log.error("guardian.forgets reason=%s", error)
        return memory

    def _start(self, slot: str, content: slots.Content | None) -> None:
        """Let the application of ``slot`` run, for as long as there is no agent that does."""
        if self._running() == slot:
            return
        if content is None:
            raise OSError(f"{slot}: its files are not those that were verified; it is not started")
        self._started = slots.start(self._host, slot, content, self._ports[slot])
        _log.info("guardian.started slot=%s version=%s", slot, content.version)

    def _running(self) -> str | None:
        """Return the slot whose application runs."""
        found = slots.serving(self._host)
        return None if found is None else found.slot

    def _lead_to(self, slot: str, content: slots.Content | None) -> None:
        """Let clients reach what serves, and remember for which trial they do."""
        trial = read_trial(self._state)
        if self._router is None or trial is None or content is None:
            return
        try:
            self._router.lead_to(slot, content.version, self._ports[slot])
        except RouterError as error:
            raise OSError(str(error)) from error
        self._routed = (trial.generation, slot)

    def _end_agent(self) -> None:
        beat = read_beat(self._state)
        if beat is not None and beat.process.is_alive():
            _log.error("guardian.ends_agent pid=%d", beat.pid)
            os.kill(beat.pid, signal.SIGKILL)
