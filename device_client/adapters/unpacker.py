"""Has an archive unpacked by a process of its own, so that what it does to the decoder it does not do to the agent.

The process gets descriptors and limits (``unpack_process.py``), and ends with the agent, at a cancellation, and when it
takes too long. The slot's folder stays locked for as long as it may still write there; see ``Slots.open``.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from device_client.adapters import unpack_process
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.core.codes import ErrorCode
from schemas.manifest import Manifest

CPU_SECONDS: Final = 30
CPU_BYTES_PER_SECOND_MIN: Final = 1024 * 1024
PATIENCE_SECONDS: Final = 300
DISK_BYTES_PER_SECOND_MIN: Final = 128 * 1024
DISK_SECONDS_PER_FILE_MAX: Final = 1
PROGRAM: Final = unpack_process.__file__
_POLL_SECONDS: Final = 0.05
_OUTCOME_BYTES_MAX: Final = 4096
_ENDED_BY_OTHERS: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Nothing that an archive can bring about; memory that ran out on the whole device is one of them."""


class Unpack(Protocol):
    """Puts the files of a manifest into a folder."""

    def __call__(
        self,
        archive: Path,
        manifest: Manifest,
        folder: Path,
        is_cancelled: Callable[[], bool],
        form: str | None = None,
        /,
    ) -> None:
        """Do it; see ``unpack_apart``."""


def unpack_apart(
    archive: Path, manifest: Manifest, folder: Path, is_cancelled: Callable[[], bool], form: str | None = None
) -> None:
    """Write exactly the files of ``manifest`` below ``folder`` and make each durable.

    Args:
        archive: Its digest is already that of the manifest.
        manifest: Its signature is already verified.
        folder: Empty but for folders; nothing outside of it is touched.
        is_cancelled: Asked again and again.
        form: How it is packed; None: as the manifest says.

    Raises:
        StepError: ``archive_invalid`` at the first deviation, or the disk's fault. What was written is worth nothing.
        CancelledError: ``is_cancelled`` said so.
    """
    files = manifest.files
    seconds = PATIENCE_SECONDS + len(files) * DISK_SECONDS_PER_FILE_MAX
    deadline = time.monotonic() + seconds + manifest.unpacked_bytes / DISK_BYTES_PER_SECOND_MIN
    try:
        with _started(archive, manifest, folder, form or manifest.artifact.format) as process:
            while process.poll() is None:
                if is_cancelled():
                    raise CancelledError
                if time.monotonic() > deadline:
                    raise StepError(ErrorCode.IO_ERROR, "archive: unpacking takes too long for this disk")
                _wait(process)
            assert process.stdout is not None
            outcome = process.stdout.read(_OUTCOME_BYTES_MAX).decode(errors="replace").strip()
    except OSError as error:
        raise from_os_error(error) from error
    _judge(process.returncode, outcome)


@contextmanager
def _started(archive: Path, manifest: Manifest, folder: Path, form: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the process, and end it if it is not wanted any more."""
    with archive.open("rb") as file, os.fdopen(os.memfd_create("entries"), "w+b") as entries:
        for entry in manifest.files:
            entries.write(f"{entry.path} {entry.size_bytes} {entry.mode} {entry.sha256}\n".encode("ascii"))
        entries.seek(0)
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
            descriptors = (file.fileno(), entries.fileno(), root)
            limits = (
                CPU_SECONDS + manifest.unpacked_bytes // CPU_BYTES_PER_SECOND_MIN,
                max(entry.size_bytes for entry in manifest.files),
            )
            command = [sys.executable, "-S", "-P", PROGRAM, form]
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, *map(str, (*descriptors, *limits))],
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=descriptors,
            )
        finally:
            os.close(root)
    with process:
        try:
            yield process
        finally:
            process.kill()


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _judge(code: int, outcome: str) -> None:
    """Raise what the end of the process means, if it is not that all is done."""
    kind, _, text = outcome.partition(" ")
    if code < 0:
        name = signal.Signals(-code).name
        whose = ErrorCode.IO_ERROR if -code in _ENDED_BY_OTHERS else ErrorCode.ARCHIVE_INVALID
        raise StepError(whose, f"archive: unpacking it was ended by {name}")
    match kind:
        case "done":
            return
        case "invalid":
            raise StepError(ErrorCode.ARCHIVE_INVALID, f"archive: {text}")
        case "failed":
            number, _, place = text.partition(" ")
            raise from_os_error(OSError(int(number), os.strerror(int(number)), place or None))
        case _:
            raise StepError(ErrorCode.IO_ERROR, f"archive: the process that unpacks ended with {code}")
