"""What applications say, kept within bounds; imports nothing but Python.

Who writes a log adds to its end, wherever that is, so it can be cut while it is written.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import SMOKE_TEST
from device_client.adapters.layout import APPLICATION_LOG, SMOKE_TEST_LOG, STATE

LOG_BYTES_MAX: Final = 1024 * 1024
"""When a log is cut. The end of what it was is kept beside it, no longer than this."""
LOOK_SECONDS: Final = 0.02
"""Between two looks at a log that is kept within bounds meanwhile: what prints in a loop prints 1 GB a second."""


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


def limit_log(root: Path, role: str) -> None:
    """Cut a log that has become too long.

    Raises:
        OSError: The disk does not let us.
    """
    path = log_path(root, role)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            with contextlib.suppress(OSError):  # a full disk is all the more reason to let go of it
                _keep_end(path)
            os.truncate(path, 0)


@contextlib.contextmanager
def limited(root: Path, role: str) -> Iterator[None]:
    """Keep a log within bounds meanwhile, whatever is printed and whatever else this process waits for.

    It has a thread of its own, because a loop that makes a record durable waits for the very disk that is being filled.
    """
    is_over = threading.Event()
    watching = threading.Thread(target=_watch, args=(root, role, is_over), name="log", daemon=True)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()


def _watch(root: Path, role: str, is_over: threading.Event) -> None:
    is_last = False
    while not is_last:
        is_last = is_over.wait(LOOK_SECONDS)
        with contextlib.suppress(OSError):
            limit_log(root, role)


def _keep_end(path: Path) -> None:
    """Copy the end alone: who prints in a tight loop is as fast as who copies all of it, so that would not end."""
    with path.open("rb") as log:
        log.seek(-LOG_BYTES_MAX, os.SEEK_END)
        _kept(path).write_bytes(log.read(LOG_BYTES_MAX))


def _kept(path: Path) -> Path:
    return path.with_suffix(".log.1")
