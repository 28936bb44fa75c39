"""strace beside each thread of this process by itself: what it does is seen, and one call may be disturbed."""

import ctypes
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


class Tracing:
    """Has each thread wait for its strace before it does anything.

    Args:
        calls: Those that are seen and counted.
        log: Where each thread's calls are written, with its number behind the name.
        inject: What strace does to the thread; None: nothing, all are only seen.
        thread: The number of the one that it is done to, in the order in which they begin.
        path: Only calls that name it are counted, and one of them is disturbed; None: all.
    """

    def __init__(
        self,
        calls: Sequence[str],
        *,
        log: str,
        inject: str | None = None,
        thread: int | None = None,
        path: str | None = None,
    ) -> None:
        self.calls = calls
        self.log, self.inject, self.thread, self.path = log, inject, thread, path
        self.count = 0
        self.guard = threading.Lock()
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY)  # strace is our child: Yama wants our consent
        began = threading.Thread.run

        def traced_run(thread: threading.Thread) -> None:
            self.attach()
            began(thread)

        setattr(threading.Thread, "run", traced_run)  # noqa: B010 - the types differ on purpose

    def attach(self) -> None:
        """Start the strace of the thread that asks, if it is one that is traced, and wait until it is there."""
        with self.guard:
            number, self.count = self.count, self.count + 1
            if self.thread not in {None, number}:
                return
            thread_id = threading.get_native_id()
            calls = f"trace={','.join(self.calls)}"
            command = ["strace", "-qq", "-y", "-s", "4", "-o", f"{self.log}.{number}", "-e", calls]
            if self.inject is not None:
                command += ["-e", f"inject={self.inject}"]
            if self.path is not None:
                command += ["-P", self.path]
            subprocess.Popen([*command, "-p", str(thread_id)], stderr=subprocess.DEVNULL)
            while not re.search(r"TracerPid:\t[1-9]", Path(f"/proc/self/task/{thread_id}/status").read_text()):
                time.sleep(0.001)
