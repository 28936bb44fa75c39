"""The one thread for long work: fetching, verifying, installing, testing, reading a slot again, leading clients over.

Work is done in the order in which it was given, so what a cancelled step still does is over before the next begins.
While there is none, a router that did not follow is told again.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from device_client.adapters.applications import Applications
from device_client.adapters.artifact import Artifacts
from device_client.adapters.crossing import Public, await_answer
from device_client.adapters.draining import Draining
from device_client.adapters.failure import CancelledError, StepError, WindowClosedError, from_os_error
from device_client.adapters.heap import give_back
from device_client.adapters.hooks import Hooks
from device_client.adapters.slots import Slots
from device_client.core.codes import ErrorCode
from device_client.core.effects import (
    AwaitAnswer,
    CheckSlot,
    ClearStaging,
    Drain,
    Fetch,
    Install,
    Route,
    RunHook,
    SmokeTest,
    Verify,
)
from device_client.core.events import Event, Progressed, Step, StepFailed, StepSucceeded
from device_client.core.record import SlotContent

Ticketed = Fetch | Verify | Install | SmokeTest | CheckSlot | AwaitAnswer | Route | Drain | RunHook
Work = Ticketed | ClearStaging
MEND_SECONDS: Final = 2.0
"""Between two attempts at a router that did not follow."""

_log = logging.getLogger(__name__)


class Worker:
    """Does the long steps and posts how they ended.

    Args:
        slots: Where the slots are.
        artifacts: Fetches and installs.
        applications: Starts what is tested.
        post: Takes the results.
        public: What clients see, where there is a router.
        draining: How an application is drained, where it can be.
        hooks: The operator's commands, where there are any.
    """

    def __init__(
        self,
        slots: Slots,
        artifacts: Artifacts,
        applications: Applications,
        *,
        post: Callable[[Event], None],
        public: Public | None = None,
        draining: Draining | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._slots = slots
        self._artifacts = artifacts
        self._applications = applications
        self._public = public
        self._draining = draining
        self._hooks = hooks
        self._post = post
        self._waiting: queue.Queue[tuple[Work, SlotContent | None, threading.Event]] = queue.Queue()
        self._cancelled = threading.Event()
        self._unrouted: tuple[Route, SlotContent] | None = None
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
            try:
                work, content, cancelled = self._waiting.get(timeout=MEND_SECONDS if self._unrouted else None)
            except queue.Empty:
                self._mend()
                continue
            event = self.attempt(work, content, cancelled)
            give_back()
            if event is not None and not cancelled.is_set():
                self._post(event)

    def attempt(self, work: Work, content: SlotContent | None, cancelled: threading.Event) -> Event | None:
        """Do one piece of work and return how it ended; None if nobody wants to know."""
        if isinstance(work, ClearStaging):
            self._clear_staging()
            return None
        step = work.hook if isinstance(work, RunHook) else _STEPS[type(work)]
        try:
            installed = self._do(work, content, cancelled)
            fetched = self._artifacts.fetched if isinstance(work, Fetch) else None
        except StepError as error:
            return StepFailed(step, work.ticket, error.code, str(error), error.retryable)
        except OSError as error:
            failure = from_os_error(error)
            return StepFailed(step, work.ticket, failure.code, str(failure), failure.retryable)
        except WindowClosedError as closed:
            return StepFailed(
                step,
                work.ticket,
                ErrorCode.OUTSIDE_WINDOW,
                str(closed),
                retryable=True,
                wait_seconds=closed.opens_in_seconds,
            )
        except CancelledError:
            return None
        return StepSucceeded(step, work.ticket, installed, fetched)

    def _mend(self) -> None:
        """Try the router again; only success is worth telling."""
        assert self._unrouted is not None, "only a router that did not follow is mended"
        event = self.attempt(*self._unrouted, threading.Event())
        if isinstance(event, StepSucceeded):
            self._post(event)

    def _do(
        self,
        work: Ticketed,
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
            case RunHook():
                assert self._hooks is not None, "only a hook that there is is run"
                self._hooks.run(work, cancelled.is_set)
            case SmokeTest() | AwaitAnswer() | Route() | Drain():
                assert content is not None, "only what is installed is started"
                self._cross(work, content, cancelled)
        return None

    def _cross(
        self, work: SmokeTest | AwaitAnswer | Route | Drain, content: SlotContent, cancelled: threading.Event
    ) -> None:
        applications, slot = self._applications, work.slot
        match work:
            case SmokeTest():
                self._smoke_test(work, content, cancelled)
            case AwaitAnswer():
                port = applications.ports[slot]
                wrong = await_answer(content, port, lambda: applications.instance(slot) is not None, cancelled.is_set)
                if wrong is not None:
                    raise StepError(ErrorCode.START_FAILED, f"{wrong}; see state/application.log")
            case Route():
                assert self._public is not None, "only a device with a router is told to use it"
                self._unrouted = (work, content)
                self._public.lead_to(slot, content, applications.ports[slot], cancelled.is_set)
                self._unrouted = None
            case Drain():
                assert self._draining is not None, "only what can be drained is told to"
                self._draining.drain(slot, applications.ports[slot], cancelled.is_set)

    def _smoke_test(self, work: SmokeTest, content: SlotContent, cancelled: threading.Event) -> None:
        """Start it beside what serves and wait for its first answer of the right version."""
        with self._applications.beside(work.slot, content) as is_running:
            port = self._applications.test_ports[work.slot]
            wrong = await_answer(content, port, is_running, cancelled.is_set)
        if cancelled.is_set():
            raise CancelledError
        if wrong is not None:
            raise StepError(ErrorCode.SMOKE_TEST_FAILED, f"{wrong}; see state/smoke_test.log")

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
    AwaitAnswer: Step.ANSWER,
    Route: Step.ROUTE,
    Drain: Step.DRAIN,
}
