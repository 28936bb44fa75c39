"""Running a command of the operator's for a limited time; imports nothing but Python.

It leads a process group of its own, and nothing of that group outlives it or its time. It stays in our session, by
which it is told from applications and from what flees from them. What leaves its group, as a program does that goes
into the background by itself, is its own master; by a mark it is told from what flees from applications.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from device_client.adapters.children import marking
from device_client.adapters.processes import HOME_VARIABLE

_POLL_SECONDS: Final = 0.02
_GRACE_SECONDS: Final = 1.0
_LEAVING_SECONDS: Final = 0.5
"""What has forked and ended, as nginx does, leaves its child this long to lead a session of its own."""
LOG_BYTES_MAX: Final = 1024 * 1024


class CommandError(Exception):
    """The operator's fault: a command cannot be started or does not end. The text names it."""


def run_command(
    command: Sequence[str],
    timeout_seconds: float,
    *,
    folder: Path,
    log_path: Path,
    variables: Mapping[str, str] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Run ``command`` without a shell and return its exit code.

    Args:
        command: Program and arguments.
        timeout_seconds: What it has; then it is ended.
        folder: Where it runs.
        log_path: What it says is added there; begun anew when that becomes too much.
        variables: Its environment beside ``PATH`` and ``LANG``.
        is_cancelled: Says that nobody waits for it any more.

    Raises:
        CommandError: It cannot be started, or it was ended because of its time or because nobody waits.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        HOME_VARIABLE: "",  # no application, also where limits are not to be seen
        **(variables or {}),
    }
    try:
        with log_path.open("ab") as log, marking() as awaited:
            child = subprocess.Popen(  # noqa: S603 - the operator's own command, and no shell is involved
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
            awaited.add(child.pid)
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}") from error
    deadline = time.monotonic() + timeout_seconds
    try:
        while (code := child.poll()) is None and time.monotonic() < deadline and not is_cancelled():
            _limit(log_path)
            time.sleep(_POLL_SECONDS)
    finally:
        _end_group(child)
        awaited.discard(child.pid)
    _limit(log_path)
    if code is None:
        raise CommandError(f"{command[0]}: it had not ended after {timeout_seconds:g} s")
    return code


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """End whoever is left of its group, politely first; who goes into the background may still be leaving it."""
    if child.returncode is not None and _is_gone(child, _LEAVING_SECONDS):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        if _is_gone(child, _GRACE_SECONDS):
            return


def _is_gone(child: "subprocess.Popen[bytes]", within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while _is_there(child):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_there(child: "subprocess.Popen[bytes]") -> bool:
    if child.poll() is None:
        return True
    with suppress(ChildProcessError):
        while os.waitpid(-child.pid, os.WNOHANG)[0]:  # its orphans are ours, since we adopt them
            pass
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _limit(log_path: Path) -> None:
    if log_path.stat().st_size > LOG_BYTES_MAX:
        os.truncate(log_path, 0)  # who writes adds to its end, wherever that is
