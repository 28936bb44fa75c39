"""What /proc says about processes; imports nothing but Python."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from device_client.adapters.children import MARK_BYTES

DEAD: Final = ("Z", "X")
_PROC: Final = Path("/proc")
_STAT_BYTES_MAX: Final = 4096
"""Fifty numbers and a name of at most 64 bytes take less."""
_LOADING_POLL_SECONDS: Final = 0.001


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


def alive() -> list[Status]:
    """Return everybody who lives."""
    return [status for status in _all() if status.state not in DEAD]


def ended_children(parent: int) -> list[Status]:
    """Return those children that have ended and that nobody has waited for yet."""
    return [status for status in _all() if status.parent == parent and status.state in DEAD]


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
