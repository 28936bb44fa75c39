"""The application as it is supervised: started, watched, started again, stopped for good.

There is one at a time, for one slot or for both. It outlives an agent that is killed, and the next agent takes it over;
an agent that is told to end takes it along. Smoke tests run beside it on the internal port and never outlive the test.
Where all of them run, as processes, as systemd's units or in containers, is their host's business.
"""

import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final

from device_client.adapters.failure import StepError
from device_client.adapters.hosting import SERVING, SMOKE_TEST, Application, Host, Instance
from device_client.adapters.logs import limit_log, limited
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.slots import SLOT_NAMES, Slots
from device_client.core.codes import ErrorCode
from device_client.core.probe import REFERENCE_INTERVAL_SECONDS
from device_client.core.record import SlotContent
from schemas.messages import SlotName

GRACE_SECONDS: Final = 10.0
TEST_GRACE_SECONDS: Final = 2.0
RESTART_DOUBLINGS_MAX: Final = 6
END_AGAIN_SECONDS: Final = 5.0
PORT_CHECKS: Final = 10
PORT_CHECK_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Runtime:
    """Runs the application of one device.

    Args:
        slots: Where applications are.
        port: On which the one that serves listens.
        clock: Seconds that never fall.
        grace_seconds: What an application has to end after it was asked to.
        host: Where applications run; None is as processes without limits.
    """

    def __init__(
        self,
        slots: Slots,
        port: int,
        clock: Callable[[], float],
        grace_seconds: float = GRACE_SECONDS,
        host: Host | None = None,
    ) -> None:
        self._slots = slots
        self._port = port
        self._clock = clock
        self._grace_seconds = grace_seconds
        self.host: Host = host or ProcessHost(slots.root)
        self._wanted: tuple[SlotName, SlotContent] | None = None
        self._slot: SlotName | None = None
        self._restart_at: float | None = None
        self._end_again_at = -math.inf
        self._failures = 0
        self._started_at = 0.0
        self.instance: Instance | None = None
        self.exits_total = 0

    @property
    def group(self) -> int | None:
        """The first process of what serves; None while nothing does, or if it is not to be seen."""
        process = None if self.instance is None else self.instance.process
        return None if process is None else process.pid

    @property
    def slot(self) -> SlotName | None:
        """The slot whose application runs, or is started again soon; None when it was told to stop."""
        return self._slot if self._wanted is None else self._wanted[0]

    def take_over(self, slots: Collection[SlotName] = SLOT_NAMES) -> SlotName | None:
        """Return which of ``slots`` has its application running, left by an earlier agent; end what else they left.

        Raises:
            OSError: Nobody knows what runs.
        """
        for instance in self.host.find():
            name = next((known for known in slots if known == instance.slot), None)
            if instance.role == SERVING and name is not None and self.instance is None:
                self._slot, self.instance = name, instance
        self.host.end_others(self.instance, 0, slots)
        return self._slot

    def start(self, slot: SlotName, content: SlotContent) -> None:
        """Run the application of ``slot``, or go on running it.

        Raises:
            StepError: ``start_failed``. It is tried again until somebody says ``stop``.
        """
        if self.instance is not None and self._slot != slot:
            self.stop()
        self._wanted = (slot, content)
        if self.instance is None:
            self._failures = 0
            self._spawn(slot, content)

    def stop(self) -> None:
        """End the application with all its processes, also those that left its group, and see that its port is free.

        Raises:
            StepError: ``io_error``: something does not end even when it is killed, or listens on the port.
        """
        self._wanted, self._restart_at = None, None
        if self.instance is None:
            self._slot = None
            return
        self._end(self.instance, self._grace_seconds)
        self._slot, self.instance = None, None
        if not self._is_free():
            raise StepError(ErrorCode.IO_ERROR, f"the application is stopped, and something listens on {self._port}")

    def poll(self) -> bool:
        """Say whether the application has ended by itself since the last call; start it again when it is time."""
        now = self._clock()
        limit_log(self._slots.root, SERVING)
        self.host.tidy()
        self.host.sweep()
        if self.instance is not None:
            if now < self._end_again_at or self.host.is_running(self.instance):
                return False
            try:
                self._end(self.instance, 0)  # what it has left behind would hold the port, or answer in its stead
            except StepError as error:
                _log.warning("application.not_ended reason=%s", error)
                self._end_again_at = now + END_AGAIN_SECONDS
                return False
            self._slot, self.instance = None, None
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
        instance = self._launch(slot, content, port, SMOKE_TEST)
        with limited(self._slots.root, SMOKE_TEST):
            try:
                yield lambda: self.host.is_running(instance)
            finally:
                self._end(instance, min(self._grace_seconds, TEST_GRACE_SECONDS))

    def _spawn(self, slot: SlotName, content: SlotContent) -> None:
        self._slot = slot
        try:
            self.instance = self._launch(slot, content, self._port, SERVING)
        except StepError:
            self._schedule(self._clock())
            raise
        self._started_at = self._clock()

    def _launch(self, slot: SlotName, content: SlotContent, port: int, role: str) -> Instance:
        try:
            return self.host.start(Application(slot, content.version, content.command, port, role))
        except OSError as error:
            reason = error.strerror or str(error)
            raise StepError(ErrorCode.START_FAILED, f"{slot}: {content.command[0]}: {reason}") from error

    def _end(self, instance: Instance, grace_seconds: float) -> None:
        try:
            is_ended = self.host.end(instance, grace_seconds)
        except OSError as error:
            raise StepError(ErrorCode.IO_ERROR, f"{instance.slot}: {error.strerror or error}") from error
        if not is_ended:
            raise StepError(
                ErrorCode.IO_ERROR, f"{instance.slot}: {instance.name}, or something that it has started, does not end"
            )

    def _is_free(self) -> bool:
        """Say whether nobody takes connections on the port, which may take a moment after the last process ended."""
        for _ in range(PORT_CHECKS):
            with socket.socket() as client:
                client.settimeout(1.0)
                if client.connect_ex(("127.0.0.1", self._port)) != 0:
                    return True
            time.sleep(PORT_CHECK_SECONDS)
        return False

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
