"""Starting a slot's application: the same environment whoever starts it; imports nothing but Python."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device_client.adapters.layout import STATE
from device_client.adapters.processes import HOME_VARIABLE, ROLE_VARIABLE, SLOT_VARIABLE

SERVING: Final = "serving"
SMOKE_TEST: Final = "smoke_test"


def launch(
    root: Path, slot: str, command: Sequence[str], *, version: str, port: int, role: str, log_path: Path
) -> subprocess.Popen[bytes]:
    """Start the application of ``slot`` as the leader of a process group of its own.

    Raises:
        OSError: It cannot be started.
    """
    places = {"{port}": str(port), "{python}": sys.executable}
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(root / STATE),
        "LANG": "C.UTF-8",
        "PORT": str(port),
        "PYTHONDONTWRITEBYTECODE": "1",  # a slot that changes is a slot that is damaged
        "TIDEGATE_VERSION": version,
        HOME_VARIABLE: str(root),
        SLOT_VARIABLE: slot,
        ROLE_VARIABLE: role,
    }
    with log_path.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - the command is signed, and no shell is involved
            [places.get(part, part) for part in command],
            cwd=root / slot,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _unprotect(child.pid)
    return child


def _unprotect(pid: int) -> None:
    """Let the application be ended before us when memory runs out; systemd's protection of us is inherited."""
    with contextlib.suppress(OSError, ValueError):
        if int(Path("/proc/self/oom_score_adj").read_text()) < 0:
            Path(f"/proc/{pid}/oom_score_adj").write_text("0")
