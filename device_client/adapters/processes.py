"""Processes as /proc shows them: what of ours still runs, and what a group of processes uses.

An application is recognised by two variables that it was started with, so that even one that was started a moment
before the agent was killed is found. A process is meant by its id together with its start time, because ids are used
again.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from device_client.adapters.children import MARK_BYTES

HOME_VARIABLE: Final = "TIDEGATE_HOME"
SLOT_VARIABLE: Final = "TIDEGATE_SLOT"
ROLE_VARIABLE: Final = "TIDEGATE_ROLE"
SESSION_VARIABLE: Final = "TIDEGATE_SESSION"
"""Where what was started belongs to us; what has left it is its own master."""
_PROC: Final = Path("/proc")
_DEAD: Final = ("Z", "X")
_STAT_BYTES_MAX: Final = 4096
"""Fifty numbers and a name of at most 64 bytes take less."""
_LOADING_SECONDS: Final = 0.1
"""So long at most a search waits for programs that the kernel is loading."""
_LOADING_POLL_SECONDS: Final = 0.001


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
        return status is not None and status.started_ticks == self.started_ticks and status.state not in _DEAD


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group of processes uses.

    Attributes:
        memory_bytes: Resident.
        cpu_seconds: Used since they started.
    """

    memory_bytes: int
    cpu_seconds: float


class Status(NamedTuple):
    """One line of /proc about a process, as far as it matters here; a sample makes one of everybody who lives."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    cpu_ticks: int
    started_ticks: int
    resident_pages: int
    resident_limit_bytes: int

    @property
    def is_command(self) -> bool:
        """Say whether an operator's command has started it, directly or not."""
        return self.resident_limit_bytes == MARK_BYTES


def identify(pid: int) -> Process | None:
    """Return the process that has this id now."""
    status = status_of(pid)
    return None if status is None or status.state in _DEAD else Process(pid, status.started_ticks)


def find(home: Path) -> list[tuple[Process, str, str]]:
    """Return every leading process that was started for ``home``, with its slot and role; the oldest first."""
    found = [
        (Process(status.pid, status.started_ticks), slot, role)
        for status, slot, role in _marked(home)
        if status.group == status.pid
    ]
    return sorted(found, key=lambda each: (each[0].started_ticks, each[0].pid))


def left_from(home: Path) -> set[tuple[str, str]]:
    """Return slot and role of every process that was started for ``home``, leading or not."""
    return {(slot, role) for _, slot, role in _marked(home)}


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


def alive() -> list[Status]:
    """Return everybody who lives."""
    return [status for status in _all() if status.state not in _DEAD]


def ended_children(parent: int) -> list[Status]:
    """Return those children that have ended and that nobody has waited for yet."""
    return [status for status in _all() if status.parent == parent and status.state in _DEAD]


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


def _all() -> Iterator[Status]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - iterdir makes a path of each
        if name.isdigit() and (status := status_of(int(name))) is not None:
            yield status


def status_of(pid: int) -> Status | None:
    """Return what /proc says about a process.

    proc(5) numbers the fields from 1, and the name in brackets may hold anything.
    """
    try:
        file = os.open(f"{_PROC}/{pid}/stat", os.O_RDONLY)  # Path.read_text costs five times as much
        try:
            line = os.read(file, _STAT_BYTES_MAX)
        finally:
            os.close(file)
    except OSError:
        return None
    fields = line[line.rindex(b")") + 2 :].split()
    return Status(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        started_ticks=int(fields[19]),
        resident_pages=int(fields[21]),
        resident_limit_bytes=int(fields[22]),
    )


def marks_of(status: Status, deadline: float = 0.0) -> tuple[str, str, str] | None:
    """Return home, slot and role in its variables, without a home if it has become its own master; None without any."""
    variables = environment(status.pid, deadline)
    if HOME_VARIABLE not in variables:
        return None
    is_ours = variables.get(SESSION_VARIABLE) in (None, str(status.session))
    home = variables[HOME_VARIABLE] if is_ours else ""
    return home, variables.get(SLOT_VARIABLE, ""), variables.get(ROLE_VARIABLE, "")


def environment(pid: int, deadline: float = 0.0) -> dict[str, str]:
    """Return our variables among those that a process was started with.

    One that is only just being started shows nothing for a moment; until ``deadline``, on the monotonic clock, that is
    waited for.
    """
    try:
        while not (raw := (_PROC / str(pid) / "environ").read_bytes()) and time.monotonic() < deadline:
            time.sleep(_LOADING_POLL_SECONDS)
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry.startswith(b"TIDEGATE_"))
    # Anybody may have a variable of any name; one that is no text is none of ours.
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}
