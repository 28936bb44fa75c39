"""The process that unpacks an archive for the agent: limited, alone, and gone with it.

``unpack_process.py FORM ARCHIVE ENTRIES ROOT CPU_SECONDS FILE_BYTES``: three descriptors and two limits. Standard input
is the other end of a pipe that the agent holds open. On standard output stands how it ended: ``done``,
``invalid REASON`` or ``failed ERRNO PLACE``. It never names a path of its own, so it cannot be led to another one, and
imports nothing but Python, so that it starts quickly and stays small.
"""

import contextlib
import errno
import fcntl
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from device_client.adapters.archive import ArchiveError, Entry, unpack

MEMORY_BYTES: Final = 40 * 1024 * 1024
"""What it may need beside what the interpreter has when it begins; a zstd window is the largest part."""
FILES_OPEN_MAX: Final = 64
_INPUT: Final = 0


def main(arguments: list[str]) -> int:
    """Do what the arguments say and return the exit code, 0 whatever the outcome is."""
    form, archive, entries, root, cpu_seconds, file_bytes = arguments
    end_with_the_agent()
    limit(int(cpu_seconds), int(file_bytes))
    try:
        with open(int(archive), "rb") as file, open(int(entries), encoding="ascii") as lines:  # noqa: PTH123 - descriptors
            unpack(file, form, _parse(lines), int(root))
    except ArchiveError as error:
        outcome = f"invalid {error}"
    except MemoryError:
        outcome = "invalid it needs more memory than is allowed"
    except OSError as error:
        is_limit = error.errno == errno.EFBIG
        outcome = "invalid it is larger than is allowed" if is_limit else f"failed {error.errno} {error.filename or ''}"
    else:
        outcome = "done"
    print(outcome)  # noqa: T201 - the answer
    return 0


def end_with_the_agent() -> None:
    """Let the kernel end this process once nobody holds the other end of its input."""
    fcntl.fcntl(_INPUT, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(_INPUT, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)  # SIGIO, which ends whoever does not expect it
    try:
        os.read(_INPUT, 1)
    except BlockingIOError:
        return
    sys.exit("the agent is gone")


def limit(cpu_seconds: int, file_bytes: int) -> None:
    """Take away from this process what it does not need; none of it can be taken back."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for kind, value, hard in (
        (resource.RLIMIT_AS, memory := pages * resource.getpagesize() + MEMORY_BYTES, memory),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),  # at the second one it would be SIGKILL
        (resource.RLIMIT_NOFILE, FILES_OPEN_MAX, FILES_OPEN_MAX),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        there = resource.getrlimit(kind)[1]
        most = hard if there == resource.RLIM_INFINITY else min(hard, there)
        resource.setrlimit(kind, (min(value, most), most))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # when memory runs out, before the agent and the application


def _parse(lines: Iterator[str]) -> Iterator[Entry]:
    for line in lines:
        path, size_bytes, mode, sha256 = line.split()
        yield Entry(path, int(size_bytes), int(mode), sha256)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
