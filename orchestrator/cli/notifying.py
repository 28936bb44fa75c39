"""The process that notifies: it listens as its broker user, queues what is news, and couriers deliver.

It is no part of the orchestrator and shares nothing with it but the bus, so a receiver that is slow, or never answers,
costs a rollout nothing.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import aiomqtt

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.courier import Courier, Desk
from orchestrator.adapters.destinations import Destination
from orchestrator.adapters.outbox import Delivery, Outbox
from orchestrator.cli import bus
from orchestrator.notifications.confirming import Decision
from orchestrator.notifications.notification import Notification, RolloutFacts, Trigger, identity, to_wire
from orchestrator.notifications.routing import is_wanted
from orchestrator.notifications.watcher import Heard, Watcher
from schemas.documents import Reply
from schemas.errors import DecodeError, FleetError
from schemas.times import format_timestamp
from schemas.topics import Kind

log = logging.getLogger(__name__)

_HEARD: Final = (Kind.GATE, Kind.ROLLBACK, Kind.ROLLOUT_EVENT, Kind.STATUS, Kind.HOLD)
"""What is listened to; verdicts before the status that they led to."""
_SETTLE_SECONDS: Final = 3.0
_TICK_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 10.0
_PAGE: Final = 50
_ODD_TOPICS_MAX: Final = 1_000


class Notifier:
    """Everything that runs.

    Args:
        url: The broker, as whoever we are.
        destinations: Who is told.
        outbox: What waits and what was seen.
        clock: Seconds since the epoch.
        show: Given what would be sent, instead of sending it; None to send.
    """

    def __init__(
        self,
        url: BrokerUrl,
        destinations: Sequence[Destination],
        outbox: Outbox,
        clock: Callable[[], float],
        show: Callable[[str, Notification], None] | None = None,
    ) -> None:
        self._url = url
        self._destinations = destinations
        self._outbox = outbox
        self._clock = clock
        self._show = show
        self._watcher = Watcher(memory=outbox.seen())
        gone = outbox.keep_only(each.name for each in destinations)
        if gone:
            log.warning("%d notifications waited for destinations that are no longer configured", gone)
        self._odd: set[str] = set()
        chance = random.Random().random  # noqa: S311 - jitter
        desk = Desk(self._awaits, self._command, self._unanswered)
        self._couriers = {each.name: Courier(each, outbox, desk, chance) for each in destinations}

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Listen and deliver until cancelled.

        Raises:
            BrokerUnavailableError: There was no connection to begin with.
            JournalError: The queue cannot be written.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(on_ready))
                tasks.create_task(self._gather())
                if self._show is None:
                    for courier in self._couriers.values():
                        tasks.create_task(courier.run(self._clock))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _listen(self, on_ready: Callable[[], None]) -> None:
        async def serve(client: aiomqtt.Client, ready: Callable[[], None]) -> None:
            if not await bus.may_read(client, bus.TREE.build(Kind.AUDIT)):
                log.warning("may not read the audit: on-device-quarantined is never sent to anybody")
            ready()
            await self._serve(client)

        await bus.stay_connected(self._url, [bus.TREE.filter(kind) for kind in _HEARD], serve, on_ready)

    async def _serve(self, client: aiomqtt.Client) -> None:
        learning = asyncio.ensure_future(self._learn())
        try:
            async for message in client.messages:
                self._hear(str(message.topic), bytes(message.payload), is_retained=bool(message.retain))
        finally:
            learning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await learning

    def _hear(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        address = bus.TREE.parse(topic)
        if address is None:
            return
        now = self._clock()
        try:
            self._take(self._watcher.hear(address, payload, now, is_retained=is_retained), now)
        except DecodeError as error:
            if topic not in self._odd and len(self._odd) < _ODD_TOPICS_MAX:
                self._odd.add(topic)
                log.warning("cannot be read, topic=%r: %s", topic, error)

    def _take(self, heard: Heard, now: float) -> None:
        """Remember and queue, together."""
        if not heard.changes and not heard.notifications:
            return
        deliveries = list(self._deliveries(heard.notifications, now)) if self._show is None else []
        for lost in self._outbox.record(heard.changes, deliveries):
            log.error("%s: %r is dropped: too much waits for that destination", lost.destination, lost.title)
        for each in deliveries:
            self._couriers[each.destination].wake()
        if self._show is not None:
            for notification in heard.notifications:
                for destination in self._wanting(notification):
                    self._show(destination.name, _addressed(notification, destination))

    def _wanting(self, notification: Notification) -> list[Destination]:
        return [each for each in self._destinations if is_wanted(each.interest, notification)]

    def _deliveries(self, notifications: Iterable[Notification], now: float) -> Iterable[Delivery]:
        for notification in notifications:
            log.info("%s: %s", notification.trigger, notification.title)
            for each in self._wanting(notification):
                yield Delivery(
                    each.name, notification.id, notification.title, to_wire(_addressed(notification, each)), now, now
                )

    async def _gather(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = self._clock()
            self._take(self._watcher.gathered(now), now)
            self._take(self._watcher.waited(now), now)

    async def _learn(self) -> None:
        """Ask who is quarantined, which no retained document says, and then count as knowing what the bus holds."""
        await asyncio.sleep(_SETTLE_SECONDS)
        if not self._watcher.settled:
            self._take(self._watcher.settle(), self._clock())
        try:
            found = await self._quarantined()
        except FleetError as error:
            log.info("who is quarantined is not known, only who will be: %s", error)
            return
        now = self._clock()
        self._take(self._watcher.found_quarantined(found, now), now)

    async def _quarantined(self) -> dict[str, str]:
        found: dict[str, str] = {}
        after: str | None = None
        while True:
            body: dict[str, Any] = {"what": "devices", "where": "quarantined", "limit": _PAGE, "after": after}
            reply = await bus.request(self._url, "list", body, timeout_seconds=_ANSWER_SECONDS)
            if reply.error is not None or reply.data is None:
                raise FleetError(reply.error.message if reply.error else "an empty answer")
            found |= {str(row["device"]): str(row["quarantine"]) for row in reply.data["devices"]}
            after = reply.data.get("next")
            if after is None:
                return found

    def _awaits(self, facts: RolloutFacts) -> bool:
        return self._watcher.awaits(facts.rollout, facts.wave, facts.plan_digest)

    async def _command(self, decision: Decision) -> Reply:
        return await bus.request(self._url, decision.verb, decision.body, timeout_seconds=_ANSWER_SECONDS)

    def _unanswered(self, question: Notification, destination: str, why: str) -> None:
        """Tell everybody else that a question stays open: a person decides, or nobody."""
        told = question.model_copy(
            update={
                "id": identity("unanswered", question.id, destination),
                "confirm": False,
                "title": f"{question.title}; {destination} does not decide it"[:256],
                "text": f"{destination} gave no answer that counts: {why}. A person must decide.\n{question.text}"[
                    :4096
                ],
            }
        )
        now = self._clock()
        others = [each for each in self._wanting(told) if not each.approves]
        deliveries = [Delivery(each.name, told.id, told.title, to_wire(told), now, now) for each in others]
        self._outbox.record({}, deliveries)
        for each in others:
            self._couriers[each.name].wake()


def _addressed(notification: Notification, destination: Destination) -> Notification:
    return notification.model_copy(update={"confirm": True}) if destination.approves else notification


def trial(now: float) -> Notification:
    """Return what ``--test`` sends: nothing has happened."""
    at = format_timestamp(now)
    return Notification(
        id=identity("test", at),
        trigger="test",
        at=at,
        title="tidegate: a test, nothing has happened",
        text=f"If you can read this, notifications arrive here. Triggers: {', '.join(Trigger)}.",
        next=("tidegate list",),
    )
