"""Starting a slot's application: the same environment whoever starts it; imports nothing but Python."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import Application
from device_client.adapters.layout import STATE
from device_client.adapters.logs import begin_log, log_path
from device_client.adapters.noted import Note, write_note
from device_client.adapters.processes import HOME_VARIABLE, ROLE_VARIABLE, SLOT_VARIABLE, identify

_PYTHON: Final = "{python}"
_PORT: Final = "{port}"


def launch(root: Path, application: Application, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start an application as the leader of a session of its own, and note down that it is.

    Args:
        root: The device's folder.
        application: What to start.
        wrapper: A program with its arguments that becomes what is named after them.

    Raises:
        OSError: It cannot be started.
    """
    begin_log(root, application.role)
    with log_path(root, application.role).open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - the command is signed, and no shell is involved
            [*wrapper, *command_of(application)],
            cwd=root / application.slot,
            env=environment_of(root, application),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    leader = identify(child.pid)
    if leader is not None:
        write_note(root, Note(application.slot, application.role, leader.pid, leader.started_ticks))
    _unprotect(child.pid)
    return child


def command_of(application: Application) -> list[str]:
    """Return its command with the names of places filled in."""
    places = {_PORT: str(application.port), _PYTHON: sys.executable}
    return [places.get(part, part) for part in application.command]


def environment_of(root: Path, application: Application) -> dict[str, str]:
    """Return the variables that an application gets; nothing of ours is among them that it has no business with."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(root / STATE),
        "LANG": "C.UTF-8",
        "PORT": str(application.port),
        "PYTHONDONTWRITEBYTECODE": "1",  # a slot that changes is a slot that is damaged
        "TIDEGATE_VERSION": application.version,
        HOME_VARIABLE: str(root),
        SLOT_VARIABLE: application.slot,
        ROLE_VARIABLE: application.role,
    }


def _unprotect(pid: int) -> None:
    """Let the application be ended before us when memory runs out; systemd's protection of us is inherited."""
    with contextlib.suppress(OSError, ValueError):
        if int(Path("/proc/self/oom_score_adj").read_text()) < 0:
            Path(f"/proc/{pid}/oom_score_adj").write_text("0")
