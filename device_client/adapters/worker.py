"""The one thread for long work: fetching, verifying, installing, testing, reading a slot again.

Work is done in the order in which it was given, so what a cancelled step still does is over before the next begins.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from device_client.adapters.artifact import Artifacts
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.health import probe
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import Slots
from device_client.core.codes import ErrorCode
from device_client.core.effects import CheckSlot, ClearStaging, Fetch, Install, SmokeTest, Verify
from device_client.core.events import Event, Progressed, Step, StepFailed, StepSucceeded
from device_client.core.record import SlotContent

Work = Fetch | Verify | Install | SmokeTest | CheckSlot | ClearStaging
SMOKE_TEST_INTERVALS: Final = 2
SMOKE_TEST_SECONDS_MIN: Final = 15.0
_POLL_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Worker:
    """Does the long steps and posts how they ended.

    Args:
        slots: Where the slots are.
        artifacts: Fetches and installs.
        runtime: Starts what is tested.
        standby_port: For tests.
        post: Takes the results.
    """

    def __init__(
        self,
        slots: Slots,
        artifacts: Artifacts,
        runtime: Runtime,
        standby_port: int,
        post: Callable[[Event], None],
    ) -> None:
        self._slots = slots
        self._artifacts = artifacts
        self._runtime = runtime
        self._standby_port = standby_port
        self._post = post
        self._waiting: queue.Queue[tuple[Work, SlotContent | None, threading.Event]] = queue.Queue()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, work: Work, content: SlotContent | None = None) -> None:
        """Do ``work`` when everything before it is done; ``content`` is what the slot holds that it is about."""
        self._cancelled = threading.Event()
        self._waiting.put((work, content, self._cancelled))

    def cancel(self) -> None:
        """Let the work at hand end soon; nobody waits for its result."""
        self._cancelled.set()

    def _run(self) -> None:
        while True:
            work, content, cancelled = self._waiting.get()
            event = self.attempt(work, content, cancelled)
            if event is not None and not cancelled.is_set():
                self._post(event)

    def attempt(self, work: Work, content: SlotContent | None, cancelled: threading.Event) -> Event | None:
        """Do one piece of work and return how it ended; None if nobody wants to know."""
        if isinstance(work, ClearStaging):
            self._clear_staging()
            return None
        step = _STEPS[type(work)]
        try:
            installed = self._do(work, content, cancelled)
        except StepError as error:
            return StepFailed(step, work.ticket, error.code, str(error), error.retryable)
        except OSError as error:
            failure = from_os_error(error)
            return StepFailed(step, work.ticket, failure.code, str(failure), failure.retryable)
        except CancelledError:
            return None
        return StepSucceeded(step, work.ticket, installed)

    def _do(
        self,
        work: Fetch | Verify | Install | SmokeTest | CheckSlot,
        content: SlotContent | None,
        cancelled: threading.Event,
    ) -> SlotContent | None:
        match work:
            case Fetch(_, source):
                self._artifacts.fetch(source, cancelled.is_set, lambda done: self._post(Progressed(done)))
            case Verify(_, source):
                self._artifacts.verify(source)
            case Install(_, source, slot, health_check):
                return self._artifacts.install(source, slot, health_check, cancelled.is_set)
            case CheckSlot(_, slot):
                self._slots.check(slot)
            case SmokeTest():
                assert content is not None, "only what is installed is tested"
                self._smoke_test(work, content, cancelled)
        return None

    def _smoke_test(self, work: SmokeTest, content: SlotContent, cancelled: threading.Event) -> None:
        """Start it beside what serves and wait for its first answer of the right version."""
        check = content.health_check
        tries = int(max(SMOKE_TEST_SECONDS_MIN, SMOKE_TEST_INTERVALS * check.interval_seconds) / _POLL_SECONDS)
        with self._runtime.beside(work.slot, content, self._standby_port) as is_running:
            for _ in range(tries):
                answer = probe(self._standby_port, check)
                if answer.ok and answer.version == content.version:
                    return
                if answer.ok:
                    raise StepError(
                        ErrorCode.SMOKE_TEST_FAILED, f"it says it is {answer.version}, not {content.version}"
                    )
                if not is_running():
                    raise StepError(ErrorCode.SMOKE_TEST_FAILED, "it ended by itself; see state/smoke_test.log")
                if cancelled.wait(_POLL_SECONDS):
                    raise CancelledError
        raise StepError(ErrorCode.SMOKE_TEST_FAILED, "it did not say that it is well; see state/smoke_test.log")

    def _clear_staging(self) -> None:
        try:
            self._slots.clear_staging()
        except OSError as error:
            _log.warning("staging.not_cleared reason=%s", error)


_STEPS: Final = {
    Fetch: Step.FETCH,
    Verify: Step.VERIFY,
    Install: Step.INSTALL,
    SmokeTest: Step.SMOKE_TEST,
    CheckSlot: Step.CHECK,
}
