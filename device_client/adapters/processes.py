"""Processes as /proc shows them: what of ours still runs, and what a group of processes uses.

An application is recognised by two variables that it was started with, so that even one that was started a moment
before the agent was killed is found. A process is meant by its id together with its start time, because ids are used
again.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOME_VARIABLE: Final = "TIDEGATE_HOME"
SLOT_VARIABLE: Final = "TIDEGATE_SLOT"
ROLE_VARIABLE: Final = "TIDEGATE_ROLE"
_PROC: Final = Path("/proc")
_DEAD: Final = ("Z", "X")
_POLL_SECONDS: Final = 0.02
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
        status = _status(self.pid)
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


@dataclass(frozen=True, slots=True)
class _Status:
    pid: int
    state: str
    group: int
    cpu_ticks: int
    started_ticks: int
    resident_pages: int


def identify(pid: int) -> Process | None:
    """Return the process that has this id now."""
    status = _status(pid)
    return None if status is None or status.state in _DEAD else Process(pid, status.started_ticks)


def find(home: Path) -> list[tuple[Process, str, str]]:
    """Return every leading process that was started for ``home``, with its slot and role."""
    found: list[tuple[Process, str, str]] = []
    deadline = time.monotonic() + _LOADING_SECONDS
    for status in _all():
        if status.group != status.pid or status.state in _DEAD:
            continue
        variables = _environment(status.pid, deadline)
        if variables.get(HOME_VARIABLE) == str(home):
            process = Process(status.pid, status.started_ticks)
            found.append((process, variables.get(SLOT_VARIABLE, ""), variables.get(ROLE_VARIABLE, "")))
    return found


def usage_of(group: int) -> Usage | None:
    """Return what a group uses; None if nobody is in it."""
    members = [status for status in _all() if status.group == group and status.state not in _DEAD]
    if not members:
        return None
    return Usage(
        memory_bytes=sum(status.resident_pages for status in members) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=sum(status.cpu_ticks for status in members) / os.sysconf("SC_CLK_TCK"),
    )


def end_group(group: int, grace_seconds: float) -> bool:
    """End every process of a group, politely first, and say whether nobody is left."""
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return True
        if _wait_until_empty(group, seconds):
            return True
    return False


def _wait_until_empty(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while usage_of(group) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _all() -> Iterator[_Status]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (status := _status(int(entry.name))) is not None:
            yield status


def _status(pid: int) -> _Status | None:
    """Read one line of /proc; proc(5) numbers its fields from 1, and the name in brackets may hold anything."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return _Status(
        pid=pid,
        state=fields[0],
        group=int(fields[2]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        started_ticks=int(fields[19]),
        resident_pages=int(fields[21]),
    )


def _environment(pid: int, deadline: float) -> dict[str, str]:
    """Read what a process was started with; one that is only just being started shows nothing for a moment."""
    try:
        while not (raw := (_PROC / str(pid) / "environ").read_bytes()) and time.monotonic() < deadline:
            time.sleep(_LOADING_POLL_SECONDS)
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry.startswith(b"TIDEGATE_"))
    return {name.decode(): value.decode(errors="replace") for name, _, value in pairs}
