"""All processes of one application, also those that have tried to get away: found, and ended.

A process belongs to an application if it carries the variables that it was started with, descends from one that does,
or shares a session with one. A process that has shed all of these, by forking twice with another environment, becomes
our child when its parent ends, because we adopt orphans; it then belongs to the youngest application that is older, but
for what an operator's command has put into the background, which bears a mark and belongs to nobody.
"""

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters import cgroups
from device_client.adapters.children import bear_no_mark, settled
from device_client.adapters.proc import Status, alive, ended_children
from device_client.adapters.processes import Process, kin, marks_of

_PR_SET_CHILD_SUBREAPER: Final = 36
_KILL_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
_ROUNDS_MAX: Final = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Family:
    """One application with everything that it has started.

    Attributes:
        home: The device's folder.
        slot: Whose application it is.
        role: Whether it serves or is tested.
        leader: What was started; None if only its descendants are left.
        group: Its control group; None if it has none.
        next_ticks: When the next application was started, in clock ticks since the boot; orphans from then on are its.
    """

    home: Path
    slot: str
    role: str
    leader: Process | None = None
    group: Path | None = None
    next_ticks: int | None = None

    def members(self) -> list[Process]:
        """Return who lives."""
        me, my_session = os.getpid(), os.getsid(0)
        everybody = alive()
        seeds = {status.pid for status in everybody if self._is_seed(status, me, my_session)}
        seeds |= set() if self.group is None else cgroups.members(self.group)
        return [Process(s.pid, s.started_ticks) for s in kin(everybody, seeds, my_session) if s.pid != me]

    def end(self, grace_seconds: float) -> bool:
        """End every member, politely first, and say whether nobody is left."""
        if grace_seconds > 0:
            if self.leader is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self.leader.pid, signal.SIGTERM)
            for member in self.members():
                _send(member, signal.SIGTERM)
                _send(member, signal.SIGCONT)  # who is stopped hears nothing
            if _wait_until(lambda: not self.members(), grace_seconds):
                return True
        return _wait_until(self._kill, _KILL_SECONDS)

    def _kill(self) -> bool:
        """Kill whoever is left and say whether nobody was; they are stopped first, since who is stopped cannot fork."""
        if self.group is not None:
            cgroups.kill(self.group)
        stopped: set[Process] = set()
        for _ in range(_ROUNDS_MAX):
            fresh = set(self.members()) - stopped
            if not fresh:
                break
            for member in fresh:
                _send(member, signal.SIGSTOP)
            stopped |= fresh
        for member in stopped:
            _send(member, signal.SIGKILL)
        return not stopped

    def _is_seed(self, status: Status, me: int, my_session: int) -> bool:
        if self.leader is not None and self.leader.pid in (status.pid, status.group, status.session):
            return True
        marks = marks_of(status)
        if marks is not None:
            return marks == (str(self.home), self.slot, self.role)
        is_adopted = status.parent == me and status.session != my_session  # we start nothing else in other sessions
        return is_adopted and not status.is_command and self._is_of_our_time(status)

    def _is_of_our_time(self, status: Status) -> bool:
        since_ticks = 0 if self.leader is None else self.leader.started_ticks
        return since_ticks <= status.started_ticks and (
            self.next_ticks is None or status.started_ticks < self.next_ticks
        )


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, for who buries them; a kernel may refuse.

    Then there is less to find them by.
    """
    bear_no_mark()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        _log.warning("orphans.not_adopted reason=%s", os.strerror(ctypes.get_errno()))


def bury_orphans(spared: Collection[int]) -> None:
    """Wait for all adopted children that have ended, but for those in ``spared`` that somebody else waits for.

    Our own are in ``spared``, are operators' commands, or are in our group, where none is that we adopt: what is left
    behind comes from an application or from a command, and each of these leads a group.
    """
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
    except ChildProcessError:
        return
    me, my_group = os.getpid(), os.getpgid(0)
    with settled() as commands:
        for status in ended_children(me):
            if status.pid not in spared and status.pid not in commands and status.group != my_group:
                with suppress(ChildProcessError):
                    os.waitpid(status.pid, os.WNOHANG)


def _send(process: Process, number: signal.Signals) -> None:
    if process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
