"""Processes as /proc shows them: what of ours still runs, and what a group of processes uses.

An application is recognised by variables that it was started with, so that even one that was started a moment before
the agent was killed is found; or by a note about its leader, since some programs overwrite their variables. A process
is meant by its id together with its start time, because ids are used again.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.noted import read_notes
from device_client.adapters.proc import DEAD, Status, alive, environment, status_of

HOME_VARIABLE: Final = "TIDEGATE_HOME"
SLOT_VARIABLE: Final = "TIDEGATE_SLOT"
ROLE_VARIABLE: Final = "TIDEGATE_ROLE"
SESSION_VARIABLE: Final = "TIDEGATE_SESSION"
"""Where what was started belongs to us; what has left it is its own master."""
_LOADING_SECONDS: Final = 0.1
"""So long at most a search waits for programs that the kernel is loading."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for as long as it lives.

    Attributes:
        pid: Its id, and that of its group, since each application leads its own.
        started_ticks: When it started, in clock ticks since the boot.
    """

    pid: int
    started_ticks: int

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        status = status_of(self.pid)
        return status is not None and status.started_ticks == self.started_ticks and status.state not in DEAD


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group of processes uses.

    Attributes:
        memory_bytes: Resident.
        cpu_seconds: Used since they started.
    """

    memory_bytes: int
    cpu_seconds: float


def identify(pid: int) -> Process | None:
    """Return the process that has this id now."""
    status = status_of(pid)
    return None if status is None or status.state in DEAD else Process(pid, status.started_ticks)


def find(home: Path) -> list[tuple[Process, str, str]]:
    """Return every leading process that was started for ``home``, with its slot and role; the oldest first."""
    leading = (each for each in _marked(home) if each[0].group == each[0].pid)
    found = {
        Process(status.pid, status.started_ticks): (slot, role) for status, slot, role in (*leading, *_noted(home))
    }
    ordered = sorted(found, key=lambda process: (process.started_ticks, process.pid))
    return [(process, *found[process]) for process in ordered]


def left_from(home: Path) -> set[tuple[str, str]]:
    """Return slot and role of every process that was started for ``home``, leading or not."""
    return {(slot, role) for _, slot, role in (*_marked(home), *_noted(home))}


def usage_of(group: int) -> Usage | None:
    """Return what a group uses with all that it has started; None if nobody is left."""
    everybody = alive()
    seeds = {status.pid for status in everybody if group in (status.group, status.session)}
    members = kin(everybody, seeds, os.getsid(0))
    if not members:
        return None
    return Usage(
        memory_bytes=sum(status.resident_pages for status in members) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=sum(status.cpu_ticks for status in members) / os.sysconf("SC_CLK_TCK"),
    )


def kin(everybody: Iterable[Status], seeds: set[int], foreign_session: int) -> list[Status]:
    """Return the seeds, their descendants, and whoever shares a session with one of these.

    Args:
        everybody: Among whom.
        seeds: Ids to begin with.
        foreign_session: Binds nobody: the session of those who start applications.
    """
    left = {status.pid: status for status in everybody}
    found: list[Status] = []
    parents, sessions = set(seeds), {foreign_session}
    while True:
        joined = [
            status
            for status in left.values()
            if status.pid in seeds
            or status.parent in parents
            or (status.session in sessions and status.session != foreign_session)
        ]
        if not joined:
            return found
        for status in joined:
            del left[status.pid]
            parents.add(status.pid)
            sessions.add(status.session)
        found += joined


def _marked(home: Path) -> Iterator[tuple[Status, str, str]]:
    deadline = time.monotonic() + _LOADING_SECONDS
    for status in alive():
        if status.group == 0:  # the kernel's own, which never have any
            continue
        marks = marks_of(status, deadline)
        if marks is not None and marks[0] == str(home):
            yield status, marks[1], marks[2]


def _noted(home: Path) -> Iterator[tuple[Status, str, str]]:
    """Give the noted leaders that are still the same processes, each at the head of its session as it was started."""
    for note in read_notes(home):
        status = status_of(note.pid)
        if status is None or status.state in DEAD:
            continue
        if (status.started_ticks, status.session) == (note.started_ticks, note.pid):
            yield status, note.slot, note.role


def marks_of(status: Status, deadline: float = 0.0) -> tuple[str, str, str] | None:
    """Return home, slot and role in its variables, without a home if it has become its own master; None without any."""
    variables = environment(status.pid, deadline)
    if HOME_VARIABLE not in variables:
        return None
    is_ours = variables.get(SESSION_VARIABLE) in (None, str(status.session))
    home = variables[HOME_VARIABLE] if is_ours else ""
    return home, variables.get(SLOT_VARIABLE, ""), variables.get(ROLE_VARIABLE, "")
