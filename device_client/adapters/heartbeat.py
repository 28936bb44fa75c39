"""The agent's sign of life: one small file on the boot clock; imports nothing but Python.

It is replaced as a whole but not made durable, since after a power cut it means nothing.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.processes import Process, identify

HEARTBEAT: Final = "heartbeat.json"


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
    pending = state / f"{HEARTBEAT}.pending"
    pending.write_text(json.dumps(asdict(beat)))
    pending.replace(state / HEARTBEAT)


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
    except (OSError, ValueError, KeyError, TypeError):
        return None
