"""What a simulated device does with its disk and its application: the steps that the core orders, with their time.

Steps take seconds and may fail. The supervisor starts an application again that has ended by itself.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from device_client.core.codes import ErrorCode
from device_client.core.effects import (
    AwaitAnswer,
    CancelStep,
    CheckSlot,
    ClearStaging,
    Drain,
    Effect,
    Fetch,
    Install,
    Restart,
    Route,
    RunHook,
    SmokeTest,
    Source,
    StartApplication,
    StopApplication,
    SwitchSlot,
    Verify,
)
from device_client.core.events import ApplicationExited, Event, Progressed, Step, StepFailed, StepSucceeded
from schemas.messages import SlotName
from schemas.trust import Root
from simulator.application import Application, Behavior, Counters
from simulator.clock import Action, Clock
from simulator.disk import Disk, DiskTrouble
from simulator.materials import make_content, release_counter
from simulator.witness import Witness

_FETCH_SECONDS: Final = (5.0, 40.0)
_INSTALL_SECONDS: Final = (5.0, 20.0)
_STEP_SECONDS: Final = 1.0
_RESTART_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = (0.0, 30.0)
_MEND_SECONDS: Final = 5.0


class Plant:
    """Disk, application and the work on them.

    Attributes:
        device: Whose it is, as the witness tells them apart.
        application: What runs and clients reach; None while nothing does.
        running_slot: Where it was started from.
        has_router: Clients are led to one of two applications that may run at once.
        answer: How the core hears of it; set by the device.
        later: How time passes for an agent; set by the device.
        give_up: Ends the agent, because it cannot go on; set by the device.
        root: Returns the trust root in force; set by the device.
        step_failure: The chance that a preparing step fails.
        trouble: What the disk does to writes.
        hook_waits: The chance that a hook says "later".
    """

    answer: Callable[[Event], None]
    later: Callable[[float, Action], None]
    give_up: Action
    root: Callable[[], Root | None]

    def __init__(
        self,
        device: str,
        disk: Disk,
        behaviors: dict[str, Behavior],
        *,
        clock: Clock,
        rng: random.Random,
        witness: Witness,
    ) -> None:
        self.application: Application | None = None
        self.running_slot: SlotName | None = None
        self.has_router = False
        self.counters = Counters()
        self.step_failure = 0.0
        self.trouble = DiskTrouble(0.0, rng)
        self.hook_waits = 0.0
        self.device = device
        self._disk = disk
        self._behaviors = behaviors
        self._clock = clock
        self._rng = rng
        self._witness = witness
        self._work = 0
        self._beside: dict[SlotName, Application] = {}

    def version_of(self, slot: SlotName | None) -> str | None:
        """Return what a slot's files make up."""
        return None if slot is None else self._disk.slots[slot].version

    def spoil(self, version: str, behavior: Behavior) -> None:
        """Let a version behave like this on this device from now on, also while it runs."""
        self._behaviors[version] = behavior
        application = self.application
        if application is not None and application.version == version:
            begins = self._clock.now - application.started_at + behavior.begins_after_seconds
            self.application = replace(application, behavior=replace(behavior, begins_after_seconds=begins))

    def crash(self) -> None:
        """Let the application end by itself now."""
        if self.application is not None:
            self._exit(self.application)

    def power_off(self) -> None:
        """Stop everything without a word."""
        self.cancel()
        self.application, self.running_slot = None, None
        self._beside.clear()

    def cancel(self) -> None:
        """Drop the step under way; what it has written stays."""
        self._work += 1

    def perform(self, effect: Effect) -> None:
        """Begin what the core ordered."""
        match effect:
            case Fetch(ticket=ticket, source=source):
                self._fetch(ticket, source.version)
            case Verify(ticket=ticket, source=source):
                done = partial(self._witness.verified, self.device, source.version)
                self._answer_after(_STEP_SECONDS, Step.VERIFY, ticket, self._objection(source), done=done)
            case Install():
                self._install(effect)
            case SmokeTest(ticket=ticket, slot=slot):
                self._witness.tries(self.device, slot, self._disk)
                code = None if self._behavior(slot).starts else ErrorCode.SMOKE_TEST_FAILED
                self._answer_after(3 * _STEP_SECONDS, Step.SMOKE_TEST, ticket, code)
            case CheckSlot(ticket=ticket, slot=slot):
                code = None if self._disk.slots[slot].is_whole else ErrorCode.INTEGRITY_FAILED
                self._answer_after(_STEP_SECONDS, Step.CHECK, ticket, code)
            case StopApplication(ticket=ticket, keep=keep):
                self._beside = {slot: each for slot, each in self._beside.items() if slot == keep}
                if self.running_slot != keep:
                    self.application, self.running_slot = None, None
                self._answer_after(_STEP_SECONDS, Step.STOP, ticket, None)
            case SwitchSlot():
                self._switch(effect)
            case StartApplication(ticket=ticket, slot=slot):
                if slot not in (self.running_slot, *self._beside):  # otherwise it was started before
                    self._witness.starts(self.device, slot, self._disk, self._clock.now)
                self._start(slot)
                code = None if self._behavior(slot).starts else ErrorCode.START_FAILED
                self._answer_after(_STEP_SECONDS, Step.START, ticket, code)
            case Restart():
                self.give_up()
            case AwaitAnswer(ticket=ticket, slot=slot):
                application = self.application if slot == self.running_slot else self._beside.get(slot)
                is_well = application is not None and application.is_well(self._clock.now)
                self._answer_after(_STEP_SECONDS, Step.ANSWER, ticket, None if is_well else ErrorCode.START_FAILED)
            case Route(ticket=ticket, slot=slot):
                self._route(ticket, slot)
            case Drain(ticket=ticket):
                self._answer_after(self._rng.uniform(*_DRAIN_SECONDS), Step.DRAIN, ticket, None)
            case RunHook(ticket=ticket, hook=hook):
                code = ErrorCode.HOOK_WAITS if self._rng.random() < self.hook_waits else None
                self._answer_after(_STEP_SECONDS, hook, ticket, code)
            case CancelStep():
                self.cancel()
            case ClearStaging():
                self._disk.staged = self._disk.staged if self.trouble.strike() else None
            case _:
                pass

    def _objection(self, source: Source) -> ErrorCode | None:
        """Return why what was fetched is not what may be installed; None if it is."""
        root, counter = self.root(), release_counter(source.version)
        if root is not None and root.revokes(source.release, counter):
            return ErrorCode.REVOKED
        is_lower = counter < source.release_counter_min
        return ErrorCode.DOWNGRADE if is_lower else self._mishap(ErrorCode.CHECKSUM_MISMATCH)

    def _fetch(self, ticket: int, version: str) -> None:
        is_there = self._disk.staged == version
        seconds = 0.0 if is_there else self._rng.uniform(*_FETCH_SECONDS)
        code = None if is_there else self._mishap(ErrorCode.DOWNLOAD_FAILED) or self.trouble.strike()
        if not is_there:
            self.later(seconds / 2, partial(self._if_current, self._work, lambda: self.answer(Progressed(50.0))))
        self._answer_after(seconds, Step.FETCH, ticket, code, done=partial(self._stage, version))

    def _stage(self, version: str) -> None:
        if self._disk.staged != version:
            self._disk.staged = version
            self._witness.fetched(self.device)

    def _switch(self, effect: SwitchSlot) -> None:
        """Lead the link over; where the disk fails, it may have been led over all the same."""
        slot = effect.slot
        code = None if self._disk.active == slot else self.trouble.strike()
        if code is None or self.trouble.rng.random() < 0.5:  # noqa: PLR2004 - even odds
            if not effect.must_succeed:  # otherwise it leads to what clients have, or what is read before it runs
                self._witness.switches(self.device, slot, self._disk, self._clock.now)
            self._disk.active = slot
        if code is not None and effect.must_succeed:
            self.give_up()
            return
        self._answer_after(0.0, Step.SWITCH, effect.ticket, code)

    def _install(self, effect: Install) -> None:
        self._witness.writes(self.device, effect.slot, self._disk)
        self._disk.begin_write(effect.slot)
        root = self.root()
        content = make_content(effect.source.version, effect.health_check, 0 if root is None else root.version)
        work = self._work

        def finish() -> None:
            code = self._mishap(ErrorCode.IO_ERROR) or self.trouble.strike()
            if work != self._work:
                return
            if code is not None:
                self.answer(_failed(Step.INSTALL, effect.ticket, code))
                return
            self._disk.end_write(effect.slot, content)
            self._witness.sealed(self.device, effect.slot, self._disk)
            self.answer(StepSucceeded(Step.INSTALL, effect.ticket, content))

        self.later(self._rng.uniform(*_INSTALL_SECONDS), finish)

    def _start(self, slot: SlotName) -> None:
        """Start what the slot holds, beside what clients reach if they are led to another."""
        if (self.running_slot == slot and self.application is not None) or slot in self._beside:
            return
        if not self.has_router or (slot == self._disk.active and self.running_slot in (None, slot)):
            self._run(slot)
            return
        self._witness.tries(self.device, slot, self._disk)
        if self._behavior(slot).starts:
            self._beside[slot] = Application(self.version_of(slot) or "?", self._behavior(slot), self._clock.now)

    def _route(self, ticket: int, slot: SlotName) -> None:
        """Lead clients to the slot; a router that does not follow is told again."""

        def lead() -> None:
            code = self._mishap(ErrorCode.ROUTER_FAILED)
            if code is not None:
                self.answer(_failed(Step.ROUTE, ticket, code))
                self.later(_MEND_SECONDS, partial(self._if_current, work, lead))
                return
            if slot in self._beside:
                self._swap(slot)
            self.answer(StepSucceeded(Step.ROUTE, ticket))

        self._work += 1  # whatever the router was told before
        work = self._work
        self.later(_STEP_SECONDS, partial(self._if_current, work, lead))

    def _swap(self, slot: SlotName) -> None:
        if self.application is not None and self.running_slot is not None:
            self.application.work(self.counters, self._clock.now, self._rng)
            self._beside[self.running_slot] = self.application
        self._witness.executes(self.device, slot, self._disk, self._clock.now)
        self.application, self.running_slot = self._beside.pop(slot), slot
        self._end_when_due(self.application)

    def _run(self, slot: SlotName, *, may_be_left: bool = False) -> None:
        """Start what the slot holds, and let it end by itself when its time comes."""
        self._witness.executes(self.device, slot, self._disk, self._clock.now, may_be_left=may_be_left)
        self.running_slot = slot
        behavior = self._behavior(slot)
        if not behavior.starts:
            self.application = None
            return
        application = Application(self.version_of(slot) or "?", behavior, self._clock.now)
        self.application = application
        self._end_when_due(application)

    def _end_when_due(self, application: Application) -> None:
        seconds = application.crash_after_seconds(self._rng)
        if seconds is not None:
            self._clock.after(seconds, partial(self._exit, application))

    def _exit(self, application: Application) -> None:
        if self.application is not application:
            return
        application.work(self.counters, self._clock.now, self._rng)
        self.application = None
        self.counters.restarts += 1
        slot = self.running_slot
        self.answer(ApplicationExited())
        if slot is not None:
            self.later(_RESTART_SECONDS, partial(self._restart, slot))

    def _restart(self, slot: SlotName) -> None:
        """Start again what has ended, also where it is being left and clients do not follow yet."""
        if self.application is None and self.running_slot == slot:
            self._run(slot, may_be_left=self.has_router)

    def _behavior(self, slot: SlotName) -> Behavior:
        return self._behaviors.get(self.version_of(slot) or "", Behavior())

    def _mishap(self, code: ErrorCode) -> ErrorCode | None:
        return code if self.step_failure and self._rng.random() < self.step_failure else None

    def _answer_after(
        self,
        seconds: float,
        step: Step,
        ticket: int,
        code: ErrorCode | None,
        done: Action | None = None,
    ) -> None:
        def finish() -> None:
            if code is not None:
                self.answer(_failed(step, ticket, code))
                return
            if done is not None:
                done()
            self.answer(StepSucceeded(step, ticket))

        self.later(seconds, partial(self._if_current, self._work, finish))

    def _if_current(self, work: int, action: Action) -> None:
        if work == self._work:
            action()


_PASSING: Final = frozenset(
    {ErrorCode.DOWNLOAD_FAILED, ErrorCode.CHECKSUM_MISMATCH, ErrorCode.HOOK_WAITS, ErrorCode.IO_ERROR}
)


def _failed(step: Step, ticket: int, code: ErrorCode) -> StepFailed:
    return StepFailed(step, ticket, code, f"simulated {code}", retryable=code in _PASSING)
