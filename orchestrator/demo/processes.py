"""Processes of the demo: started apart from the terminal's signals, ended with the demo however that ends."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from schemas.errors import FleetError

_STOP_SECONDS: Final = 8.0


class ProcessError(FleetError):
    """A program that the demo needs did not do its part."""


class Processes:
    """Starts programs and ends them all, gently first."""

    def __init__(self, log_folder: Path) -> None:
        self._logs = log_folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Run ``python -m`` with ``arguments``; its output goes to ``NAME.log``.

        Args:
            name: For the log and for messages.
            arguments: Module first.
            environment: Added to ours; for secrets, which everybody would see among the arguments.
        """
        child = [sys.executable, "-m", "orchestrator.adapters.child", str(os.getpid())]
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own modules, arguments passed one by one
                [*child, sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def run(self, name: str, arguments: Sequence[str]) -> None:
        """Run ``python -m`` with ``arguments`` to its end.

        Raises:
            ProcessError: It failed; the message holds the last line it printed.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            code = subprocess.run(  # noqa: S603 - our own modules, arguments passed one by one
                [sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            ).returncode
        if code != 0:
            last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
            raise ProcessError(f"{name} ended with {code}: {last}")

    def stop_all(self) -> None:
        """End every process: SIGTERM to all at once, SIGKILL to what is left after some seconds."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._running.values():
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def died(self) -> str | None:
        """Return the name of a process that ended by itself; None while all run."""
        return next((name for name, process in self._running.items() if process.poll() is not None), None)

    def memory_bytes(self) -> dict[str, int]:
        """Return the resident memory of each process."""
        return {name: _resident_bytes(process.pid) for name, process in self._running.items()}


@contextlib.contextmanager
def running(log_folder: Path) -> Iterator[Processes]:
    """Yield a set of processes that ends with the block."""
    processes = Processes(log_folder)
    try:
        yield processes
    finally:
        processes.stop_all()


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
