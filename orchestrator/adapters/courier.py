"""One destination's way out of the queue: deliver what is due, try again later, or give up; `now` is an argument."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from orchestrator.adapters.destinations import Destination
from orchestrator.adapters.outbox import Delivery, Outbox
from orchestrator.notifications.confirming import Decision, decision_of, is_settled, read_answer
from orchestrator.notifications.notification import Notification, RolloutFacts
from orchestrator.notifications.retrying import Delivered, Later, Outcome, Refused, wait_seconds
from schemas.documents import Reply
from schemas.errors import DecodeError, FleetError

log = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What a destination that approves needs beside the queue.

    Attributes:
        awaits: Whether a rollout still waits for an approval of a wave and a plan.
        command: Sends a command as the operator that we are; its errors mean that nobody answered.
        unanswered: Told of a question that got no answer that counts, and why.
    """

    awaits: Callable[[RolloutFacts], bool]
    command: Callable[[Decision], Awaitable[Reply]]
    unanswered: Callable[[Notification, str, str], None]


class Courier:
    """Delivers to one destination, one at a time, so that a slow one keeps only itself waiting.

    Args:
        destination: To whom.
        outbox: What waits.
        desk: For a destination that approves.
        chance: Draws 0..1 for the jitter.
    """

    def __init__(self, destination: Destination, outbox: Outbox, desk: Desk, chance: Callable[[], float]) -> None:
        self._destination = destination
        self._outbox = outbox
        self._desk = desk
        self._chance = chance
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look at the queue again."""
        self._news.set()

    async def run(self, clock: Callable[[], float]) -> None:
        """Deliver for ever."""
        while True:
            self._news.clear()
            if await self.step(clock()):
                continue
            due_at = self._outbox.next_due(self._destination.name)
            wait = _IDLE_SECONDS if due_at is None else max(0.0, due_at - clock())
            try:
                async with asyncio.timeout(min(wait, _IDLE_SECONDS)):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def step(self, now: float) -> bool:
        """Deal with one delivery that is due; say whether there was one."""
        delivery = self._outbox.due(self._destination.name, now)
        if delivery is None:
            return False
        question = Notification.model_validate_json(delivery.body) if self._destination.approves else None
        if question is not None and not self._is_open(question):
            log.info(
                "%s: %r is no longer asked: the rollout does not wait for it", delivery.destination, delivery.title
            )
            self._outbox.done(delivery)
            return True
        outcome = await self._destination.transport.deliver(delivery, now)
        if question is not None and isinstance(outcome, Delivered):
            outcome = await self._act(question, outcome.answer)
        self._settle(delivery, question, outcome, now)
        return True

    def _is_open(self, question: Notification) -> bool:
        return question.rollout is not None and self._desk.awaits(question.rollout)

    async def _act(self, question: Notification, body: bytes) -> Outcome:
        """Do what an answer asks for; ``Later`` unless that ends the matter."""
        assert question.rollout is not None, "only rollouts are asked about"
        asked_again = self._destination.ask_again_seconds
        try:
            answer = read_answer(body)
        except DecodeError as error:
            return Later(f"its answer is no decision: {error}", asked_again)
        if not self._is_open(question):
            return Delivered()
        decision = decision_of(answer, question.rollout, self._destination.name)
        if decision is None:
            return Later(f"it says wait: {answer.reason!r}", asked_again)
        try:
            reply = await self._desk.command(decision)
        except FleetError as error:
            return Later(f"it says {answer.decision}, and the orchestrator does not answer: {error}", asked_again)
        if reply.error is None:
            log.info("%s: %s %s", self._destination.name, decision.verb, question.rollout.rollout)
            return Delivered()
        why = f"it says {answer.decision}, and the orchestrator refuses: {reply.error.message}"
        return Refused(why) if is_settled(reply) else Later(why, asked_again)

    def _settle(self, delivery: Delivery, question: Notification | None, outcome: Outcome, now: float) -> None:
        match outcome:
            case Delivered():
                self._outbox.done(delivery)
            case Refused(why=why):
                self._give_up(delivery, question, why)
            case Later(why=why, after_seconds=after):
                patience = self._destination.patience_seconds
                due_at = now + self._wait_seconds(delivery, after)
                if due_at - delivery.made_at <= patience:
                    log.info(
                        "%s: %r is tried again in %.0f s: %s", delivery.destination, delivery.title, due_at - now, why
                    )
                    self._outbox.postpone(delivery, due_at)
                elif question is not None and now - delivery.made_at < patience:
                    self._outbox.postpone(delivery, delivery.made_at + patience)
                else:
                    self._give_up(delivery, question, f"not within {patience:.0f} s; the last time: {why}")

    def _wait_seconds(self, delivery: Delivery, after: float | None) -> float:
        if self._destination.approves and after == self._destination.ask_again_seconds:
            return after
        return wait_seconds(delivery.attempts + 1, self._chance(), after)

    def _give_up(self, delivery: Delivery, question: Notification | None, why: str) -> None:
        log.error("%s: %r is given up: %s", delivery.destination, delivery.title, why)
        if question is not None:
            self._desk.unanswered(question, delivery.destination, why)
        self._outbox.done(delivery)
