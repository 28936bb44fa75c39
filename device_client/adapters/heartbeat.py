"""The agent's sign of life: one small file on the boot clock; imports nothing but Python.

It is written in place and not made durable: a full disk must not silence a living agent, and after a power cut it means
nothing.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.layout import DAMAGED
from device_client.adapters.processes import Process, identify

HEARTBEAT: Final = "heartbeat.json"
_LENGTH_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Beat:
    """One sign of life.

    Attributes:
        boot_id: The boot in which ``at_seconds`` is meant.
        at_seconds: When, on the boot clock.
        is_starting: It reads its slots, which may take long; there is no next sign before that is over.
        pid: Whose sign.
        started_ticks: When that process started; ids are used again.
    """

    boot_id: str
    at_seconds: float
    is_starting: bool
    pid: int
    started_ticks: int

    @property
    def process(self) -> Process:
        """The agent that gave it."""
        return Process(self.pid, self.started_ticks)


def write_beat(state: Path, boot_id: str, now: float, *, is_starting: bool) -> None:
    """Give a sign of life for this process.

    Raises:
        OSError: It cannot be written.
    """
    me = identify(os.getpid())
    assert me is not None, "who runs is alive"
    beat = Beat(boot_id, now, is_starting, me.pid, me.started_ticks)
    text = json.dumps(asdict(beat)).ljust(_LENGTH_BYTES)  # always the same length, so that nothing old is left behind
    descriptor = os.open(state / HEARTBEAT, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, text.encode(), 0)
    finally:
        os.close(descriptor)


def read_beat(state: Path) -> Beat | None:
    """Return the last sign of life; None if there is none that can be read."""
    try:
        found = json.loads((state / HEARTBEAT).read_bytes())
        return Beat(
            boot_id=str(found["boot_id"]),
            at_seconds=float(found["at_seconds"]),
            is_starting=bool(found["is_starting"]),
            pid=int(found["pid"]),
            started_ticks=int(found["started_ticks"]),
        )
    except (OSError, *DAMAGED):
        return None
