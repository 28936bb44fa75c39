"""What applications say, kept within bounds; imports nothing but Python.

Who writes a log adds to its end, wherever that is, so it can be cut while it is written.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import ROLES, SMOKE_TEST
from device_client.adapters.layout import APPLICATION_LOG, SMOKE_TEST_LOG, STATE

LOG_BYTES_MAX: Final = 1024 * 1024
"""When a log is cut. The end of what it was is kept beside it, no longer than this."""


def log_path(root: Path, role: str) -> Path:
    """Return where an application writes what it says."""
    return root / STATE / (SMOKE_TEST_LOG if role == SMOKE_TEST else APPLICATION_LOG)


def begin_log(root: Path, role: str) -> None:
    """Forget what the last smoke test said, if another begins; what serves goes on where it was.

    Raises:
        OSError: There is no room or no permission for a log.
    """
    if role == SMOKE_TEST:
        path = log_path(root, role)
        path.write_bytes(b"")
        _kept(path).unlink(missing_ok=True)


def limit_logs(root: Path) -> None:
    """Cut what has become too long.

    Raises:
        OSError: The disk does not let us.
    """
    for role in ROLES:
        path = log_path(root, role)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                with contextlib.suppress(OSError):  # a full disk is all the more reason to let go of it
                    _keep_end(path)
                os.truncate(path, 0)


def _keep_end(path: Path) -> None:
    """Copy the end alone: who prints in a tight loop is as fast as who copies all of it, so that would not end."""
    with path.open("rb") as log:
        log.seek(-LOG_BYTES_MAX, os.SEEK_END)
        _kept(path).write_bytes(log.read(LOG_BYTES_MAX))


def _kept(path: Path) -> Path:
    return path.with_suffix(".log.1")
