"""The application as a supervised process: started, watched, started again, stopped for good.

There is one at a time. It outlives an agent that is killed, and the next agent takes it over; an agent that is told to
end takes it along. Smoke tests run beside it on the internal port and never outlive their test.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from device_client.adapters.failure import StepError
from device_client.adapters.launch import SERVING, SMOKE_TEST, launch
from device_client.adapters.layout import APPLICATION_LOG
from device_client.adapters.processes import Process, end_group, find, identify
from device_client.adapters.slots import SLOT_NAMES, Slots
from device_client.core.codes import ErrorCode
from device_client.core.probe import REFERENCE_INTERVAL_SECONDS
from device_client.core.record import SlotContent
from schemas.messages import SlotName

LOG_BYTES_MAX: Final = 1024 * 1024
GRACE_SECONDS: Final = 10.0
RESTART_DOUBLINGS_MAX: Final = 6


class Runtime:
    """Runs the application of one device.

    Args:
        slots: Where applications are.
        port: On which the one that serves listens.
        clock: Seconds that never fall.
        grace_seconds: What an application has to end after it was asked to.
    """

    def __init__(
        self, slots: Slots, port: int, clock: Callable[[], float], grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._slots = slots
        self._port = port
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._log_path = slots.state / APPLICATION_LOG
        self._wanted: tuple[SlotName, SlotContent] | None = None
        self._slot: SlotName | None = None
        self._process: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._restart_at: float | None = None
        self._failures = 0
        self._started_at = 0.0
        self.exits_total = 0

    @property
    def group(self) -> int | None:
        """The process group that serves; None while nothing does."""
        return None if self._process is None else self._process.pid

    def take_over(self) -> SlotName | None:
        """Return the slot whose application an earlier agent has left running, and end whatever else it left."""
        for process, slot, role in find(self._slots.root):
            name = next((known for known in SLOT_NAMES if known == slot), None)
            if role == SERVING and name is not None and self._process is None:
                self._slot, self._process = name, process
            else:
                end_group(process.pid, 0)
        return self._slot

    def start(self, slot: SlotName, content: SlotContent) -> None:
        """Run the application of ``slot``, or go on running it.

        Raises:
            StepError: ``start_failed``. It is tried again until somebody says ``stop``.
        """
        if self._process is not None and self._slot != slot:
            self.stop()
        self._wanted = (slot, content)
        if self._process is None:
            self._failures = 0
            self._spawn(slot, content)

    def stop(self) -> None:
        """End the application with all its processes.

        Raises:
            StepError: ``io_error``: something does not end even when it is killed.
        """
        self._wanted, self._restart_at = None, None
        if self._process is not None and not end_group(self._process.pid, self._grace_seconds):
            raise StepError(ErrorCode.IO_ERROR, f"process group {self._process.pid} does not end")
        self._forget()

    def poll(self) -> bool:
        """Say whether the application has ended by itself since the last call; start it again when it is time."""
        now = self._clock()
        self._limit_log()
        if self._process is not None:
            if self._is_running(self._process):
                return False
            end_group(self._process.pid, 0)  # what it has left behind would hold the port
            self._forget()
            return self._wanted is not None and self._schedule(now)
        if self._wanted is not None and self._restart_at is not None and now >= self._restart_at:
            self._restart_at = None
            try:
                self._spawn(*self._wanted)
            except StepError:
                return self._schedule(now)
        return False

    @contextlib.contextmanager
    def beside(self, slot: SlotName, content: SlotContent, port: int) -> Iterator[Callable[[], bool]]:
        """Run the application of ``slot`` on another port; gives a function that says whether it still runs.

        Raises:
            StepError: ``start_failed``.
        """
        child = self._launch(slot, content, port, SMOKE_TEST, self._slots.state / "smoke_test.log")
        try:
            yield lambda: child.poll() is None
        finally:
            end_group(child.pid, min(self._grace_seconds, 2.0))
            child.wait()

    def _spawn(self, slot: SlotName, content: SlotContent) -> None:
        self._slot = slot
        try:
            self._child = self._launch(slot, content, self._port, SERVING, self._log_path)
        except StepError:
            self._schedule(self._clock())
            raise
        self._started_at = self._clock()
        # It may have ended already; its id is not used again before it is waited for.
        self._process = identify(self._child.pid) or Process(self._child.pid, -1)

    def _launch(
        self, slot: SlotName, content: SlotContent, port: int, role: str, log_path: Path
    ) -> subprocess.Popen[bytes]:
        try:
            return launch(
                self._slots.root,
                slot,
                content.command,
                version=content.version,
                port=port,
                role=role,
                log_path=log_path,
            )
        except OSError as error:
            raise StepError(ErrorCode.START_FAILED, f"{slot}: {content.command[0]}: {error.strerror}") from error

    def _is_running(self, process: Process) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return process.is_alive()

    def _schedule(self, now: float) -> bool:
        """Plan the next start, ever later while it ends soon after; on the time scale of its health checks."""
        assert self._wanted is not None, "only what is wanted is started again"
        interval_seconds = self._wanted[1].health_check.interval_seconds
        if now - self._started_at > 2 * interval_seconds:
            self._failures = 0
        pause_seconds = interval_seconds / REFERENCE_INTERVAL_SECONDS
        self._restart_at = now + pause_seconds * 2 ** min(self._failures, RESTART_DOUBLINGS_MAX)
        self._failures += 1
        self.exits_total += 1
        return True

    def _forget(self) -> None:
        if self._child is not None:
            self._child.wait()
        self._slot, self._process, self._child = None, None, None

    def _limit_log(self) -> None:
        """Keep one full log and the present one; the application goes on writing to the same file."""
        with contextlib.suppress(FileNotFoundError):
            if self._log_path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(self._log_path, self._log_path.with_suffix(".log.1"))
                os.truncate(self._log_path, 0)
