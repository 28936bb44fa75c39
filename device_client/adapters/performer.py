"""Doing what the core says: each effect becomes one call, and the quick ones answer at once."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from device_client.adapters.applications import Applications
from device_client.adapters.clock import timestamp, wall_seconds
from device_client.adapters.failure import RestartError, StepError
from device_client.adapters.journal import Journal
from device_client.adapters.mqtt import Bus
from device_client.adapters.slots import Slots
from device_client.adapters.worker import Worker
from device_client.core.effects import (
    AwaitAnswer,
    CancelStep,
    CheckSlot,
    ClearStaging,
    Drain,
    DrawNonce,
    Effect,
    Fetch,
    Install,
    LogMedia,
    LogRefusal,
    Persist,
    PublishAvailability,
    PublishEvent,
    PublishInfo,
    PublishReady,
    PublishReported,
    Restart,
    Route,
    RunHook,
    SmokeTest,
    StartApplication,
    StopApplication,
    SwitchSlot,
    Verify,
)
from device_client.core.events import Event, NonceDrawn, Step, StepFailed, StepSucceeded
from device_client.core.record import Record
from schemas.codec import encode
from schemas.messages import Info
from schemas.topics import Kind

_NONCE_BYTES = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Performer:
    """Hands and voice of the agent.

    Attributes:
        journal: Keeps the record.
        slots: The slots and the link.
        applications: Runs what the slots hold.
        worker: Does what takes long.
        bus: Carries what is published.
        introduce: Makes the birth document of a session for the version that serves.
    """

    journal: Journal
    slots: Slots
    applications: Applications
    worker: Worker
    bus: Bus
    introduce: Callable[[int, str | None], Info]

    def perform(self, effect: Effect, record: Record) -> Event | None:
        """Do ``effect`` and return its answer if there is one already.

        Args:
            effect: From the core.
            record: What the core remembers now; never ahead of what is durable.

        Raises:
            OSError: The record could not be made durable; the agent must end.
            StepError: The link could not be led back; the agent must end before it remembers that it was.
            RestartError: The core wants the agent to end.
        """
        match effect:
            case Persist(durable):
                self.journal.save(durable)
            case Fetch() | Verify() | Install() | CheckSlot() | RunHook() | ClearStaging():
                self.worker.submit(effect)
            case SmokeTest(_, slot) | AwaitAnswer(_, slot) | Route(_, slot) | Drain(_, slot):
                self.worker.submit(effect, record.content(slot))
            case CancelStep():
                self.worker.cancel()
            case StopApplication() | SwitchSlot() | StartApplication():
                return self._change(effect, record)
            case Restart(reason):
                raise RestartError(reason)
            case DrawNonce(step):
                return NonceDrawn(secrets.token_hex(_NONCE_BYTES), step, wall_seconds())
            case LogRefusal(reason):
                _log.warning("grant.refused reason=%s", reason)
            case LogMedia(order, code, message, is_refused):
                said = "media.refused" if is_refused else "media.waits"
                _log.warning("%s order=%s code=%s message=%s", said, order, code, message)
            case PublishReported() | PublishReady() | PublishInfo() | PublishEvent() | PublishAvailability():
                self._publish(effect, f"{record.boot_id[:8]}-{record.session}")
            case _:
                assert_never(effect)
        return None

    def _change(self, effect: StopApplication | SwitchSlot | StartApplication, record: Record) -> Event:
        step = {StopApplication: Step.STOP, SwitchSlot: Step.SWITCH, StartApplication: Step.START}[type(effect)]
        try:
            match effect:
                case StopApplication(_, keep):
                    self.applications.stop(keep)
                case SwitchSlot(_, slot):
                    self.slots.switch(slot)
                case StartApplication(_, slot):
                    content = record.serving if slot == record.active else record.content(slot)
                    assert content is not None, "only what is verified is started"
                    self.applications.start(slot, content)
        except StepError as error:
            if isinstance(effect, SwitchSlot) and effect.must_succeed:
                raise
            return StepFailed(step, effect.ticket, error.code, str(error), error.retryable)
        return StepSucceeded(step, effect.ticket)

    def _publish(
        self,
        effect: PublishReported | PublishReady | PublishInfo | PublishEvent | PublishAvailability,
        boot_id: str,
    ) -> None:
        match effect:
            case PublishReported(reported):
                stamped = reported.model_copy(update={"boot_id": boot_id, "ts": timestamp()})
                self.bus.publish(Kind.REPORTED, encode(stamped))
            case PublishReady(ready):
                self.bus.publish(Kind.READY, encode(ready))
            case PublishInfo(session, version):
                self.bus.publish(Kind.INFO, encode(self.introduce(session, version)))
            case PublishEvent(kind, event):
                stamped_event = event.model_copy(update={"ts": timestamp()})
                self.bus.publish_event(kind, encode(stamped_event))
            case PublishAvailability(text):
                self.bus.publish(Kind.AVAILABILITY, text.encode())
