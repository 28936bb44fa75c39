"""Which process leads which application, noted when it is started; imports nothing but Python.

Applications are found again by their variables, but a program that sets its title, as nginx and PostgreSQL do,
overwrites those. A note is not made durable, since it means nothing after this boot, and one that cannot be written
costs no more than what it is for.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from device_client.adapters.boot import boot_id
from device_client.adapters.layout import DAMAGED, STATE

_SUFFIX: Final = ".process"


class Note(NamedTuple):
    """That a process was started for a slot and a role."""

    slot: str
    role: str
    pid: int
    started_ticks: int


def write_note(root: Path, note: Note) -> None:
    """Put down who leads the application of a slot in a role, instead of who did; a kill leaves either."""
    path = root / STATE / f"{note.slot}-{note.role}{_SUFFIX}"
    pending = path.with_name(f"{path.name}.pending")
    with suppress(OSError):
        text = json.dumps({"boot_id": boot_id(), "home": str(root), **note._asdict()})
        descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        pending.replace(path)


def read_notes(root: Path) -> Iterator[Note]:
    """Give every note of this boot that can be read; whether such a process is still there is not in it.

    In the copy of a folder they are about somebody else's.
    """
    here = (boot_id(), str(root))
    for path in sorted((root / STATE).glob(f"*{_SUFFIX}")):
        with suppress(OSError, *DAMAGED):
            found = json.loads(path.read_bytes())
            if (found["boot_id"], found["home"]) == here:
                yield Note(str(found["slot"]), str(found["role"]), int(found["pid"]), int(found["started_ticks"]))
