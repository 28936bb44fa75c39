"""The orchestrator's connections to the broker: messages in, the engine's messages out, in order.

One is for all that is said and decided, another only reads the fleet's health. A new client for each connection,
everything re-asserted after each connect, one outbox that survives a lost connection. Commands are taken only while we
are connected: what nobody answers was not carried out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import Connection, DisconnectedError
from orchestrator.adapters.fleet_stream import FleetStream
from orchestrator.adapters.framing import Framed
from orchestrator.adapters.reconnecting import keep_serving, log_refused
from orchestrator.core.inputs import Tick
from orchestrator.core.interpret import Received, Refused
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from schemas.shards import format_shards
from schemas.topics import Kind, TopicTree

log = logging.getLogger(__name__)

SUBSCRIPTIONS: Final = (
    Kind.INFO,  # First, so that what follows is about devices we know.
    Kind.AVAILABILITY,
    Kind.REPORTED,
    Kind.HOLD,
    Kind.READY,
    Kind.COMMAND,
    Kind.EVALUATOR_AVAILABILITY,
    Kind.EVALUATOR_SAMPLES,
)
CLIENT_ID: Final = "tidegate-orchestrator"
BATCH_COUNT_MAX: Final = 200
"""Messages that are dealt with in one transaction at most, before it is the others' turn."""
BATCH_COUNT_MIN: Final = 20
"""So many are dealt with however long it takes, as far as they are here: on a busy machine time passes without work."""
BATCH_SECONDS: Final = 0.02
"""So long a transaction is added to, or as long as the disk took for the one before: a slow one is asked less often."""
BATCH_SECONDS_MAX: Final = 0.2
HEAD_START_SECONDS: Final = 2.0
"""For so long, what is to be sent may hold up what is to be read."""
REFUSAL_LOG_SECONDS: Final = 60.0
REFUSAL_TOPICS_MAX: Final = 10_000


class RefusalLog:
    """Logs messages that say nothing, each topic once a minute, however often it speaks.

    Args:
        clock: Seconds, never falling.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def note(self, refused: Refused) -> None:
        """Log ``refused`` unless its topic was logged within the last minute."""
        now = self._clock()
        if now - self._logged_at.get(refused.topic, -REFUSAL_LOG_SECONDS) < REFUSAL_LOG_SECONDS:
            return
        if len(self._logged_at) >= REFUSAL_TOPICS_MAX:
            self._logged_at.clear()  # Topics are the sender's choice; the memory for them is not.
        self._logged_at[refused.topic] = now
        log.warning("message refused topic=%r reason=%s %s", refused.topic, refused.reason, refused.detail)


class MqttBus:
    """Runs an engine on a broker until it is cancelled.

    Args:
        engine: Started by the first connection.
        broker: Where to connect.
        tree: For subscriptions and our own presence.
        clock: Seconds since the epoch, never falling.
        tick_seconds: How often time passes for the engine.
        greet: Makes the retained ``orchestrator/info`` once the engine has its epoch.
        roots: Returns the trust roots that devices follow; None if there are none. What it returns is published when
            it has changed, and again on every connect.
        suspect: Told what stands there when we start; says why our journal is not the one it speaks of, or nothing.
        together: What is decided within it is durable when it ends, in one transaction of the engine's journal.
    """

    def __init__(
        self,
        engine: Engine,
        broker: BrokerUrl,
        tree: TopicTree,
        *,
        clock: Callable[[], float],
        tick_seconds: float,
        greet: Callable[[], bytes],
        suspect: Callable[[bytes | None], str],
        roots: Callable[[], bytes | None] = lambda: None,
        together: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._tree = tree
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._greet = greet
        self._roots = roots
        self._roots_said: bytes | None = None
        self._greeted_seq = 0
        """The last entry that was known when we greeted."""
        self._suspect = suspect
        self._together = together
        self._left: list[Outgoing] = []
        """What the connections before did not get acknowledged."""
        self._started = False
        self.failure: Exception | None = None
        """Why the engine is used no more: after an error nobody knows what its state is worth."""
        self._connection: Connection | None = None
        """The one that decisions may be sent over; None while there is none."""
        self._stream = FleetStream(broker, tree, self._hear)

    @property
    def is_connected(self) -> bool:
        """Whether decisions can be sent now."""
        return self._connection is not None

    async def run(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Connect and serve; ``ready`` is awaited once, when the first connection is up.

        Raises:
            BrokerUnavailableError: The first connection failed; later ones are retried for ever.
            FencedError: Another orchestrator took over; this one must stop.
        """
        try:
            async with asyncio.TaskGroup() as tasks:

                async def ready_to_hear() -> None:
                    tasks.create_task(self._stream.run())
                    await ready()

                serve = partial(self._serve, ready=ready_to_hear)
                await keep_serving(self._broker, self._connect, serve, lambda: self._started)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _connect(self) -> Connection:
        will = (self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"offline")
        return await Connection.open(self._broker, CLIENT_ID, will, note_refused=log_refused, on_idle=self._performed)

    def _performed(self) -> None:
        if self.failure is None:
            self._engine.performed()

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """Use the engine, unless it has failed: what it decided then may not be in the journal.

        Raises:
            Exception: What it failed with, now or before.
        """
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except Exception as error:
            self.failure = error
            raise

    async def _serve(self, connection: Connection, ready: Callable[[], Awaitable[None]]) -> None:
        try:
            first = not self._started
            restored = await self._listen(connection, first=first)
            online = Outgoing(self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"online", retain=True)
            with self._deciding():
                now = self._clock()
                said = self._engine.start(now, restored) if first else self._engine.reconnected(now)
            self._started = True
            self._roots_said = None
            connection.send([online, *self._left, *self._newer_roots(), *said, self._greeting()])
            self._left = []
            if first:
                await ready()
            self._connection = connection
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick(connection))
                tasks.create_task(self._read(connection))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self._connection = None
            self._left = [*connection.unacknowledged(), *self._left]
            # A clean end fires no will, so we say it ourselves; without a connection the broker will.
            availability = self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY)
            last = [self._greeting()] if self._started and self.failure is None else []
            await connection.leave(*last, Outgoing(availability, b"offline", retain=True))

    async def _listen(self, connection: Connection, *, first: bool) -> str:
        """Subscribe; at first say why our journal is not the one that the broker remembers, or nothing."""
        info = self._tree.build(Kind.ORCHESTRATOR_INFO)
        if first:
            try:
                await connection.subscribe(
                    [(info, 1)]
                )  # Before the others, so that what is retained is here after them.
            except DisconnectedError as error:
                log.warning("a journal that was put back from a backup would not be noticed: %s", error)
        await connection.subscribe([(self._tree.filter(kind), 1) for kind in SUBSCRIPTIONS])
        if not first:
            return ""
        remembered = next((each.payload for each in connection.arrived() if each.topic == info), None)
        return self._suspect(remembered)

    def _greeting(self) -> Outgoing:
        self._greeted_seq = self._engine.seq
        return Outgoing(self._tree.build(Kind.ORCHESTRATOR_INFO), self._greet(), retain=True)

    async def _read(self, connection: Connection) -> None:
        """Deal with some messages in one transaction; orders to a fleet leave before its questions are heard."""
        loop, patience = asyncio.get_running_loop(), BATCH_SECONDS
        while True:
            await connection.head_start(HEAD_START_SECONDS)
            messages = await connection.read(BATCH_COUNT_MAX)
            said: list[Outgoing] = []
            began_at = decided_at = loop.time()
            with self._deciding(), self._together():
                taken = 0
                while taken < len(messages) and (taken < BATCH_COUNT_MIN or decided_at - began_at < patience):
                    each = messages[taken]
                    received = Received(each.topic, each.payload, each.retain, each.response_topic, each.correlation)
                    said += self._engine.receive(received, self._clock())
                    taken += 1
                    decided_at = loop.time()
                said += self._engine.react(self._clock())
            patience = min(max(BATCH_SECONDS, loop.time() - decided_at), BATCH_SECONDS_MAX)
            connection.send(said)
            connection.take(messages[:taken])
            connection.put_back(messages[taken:])
            await asyncio.sleep(0)

    def _hear(self, framed: Framed) -> None:
        now = self._clock()
        with self._deciding():
            self._engine.hear(framed.devices, framed.shards, framed.payloads, now)
            for each in framed.odd:
                self._engine.receive(Received(each.topic, each.payload, each.retain), now)
            if self._connection is not None:
                self._connection.send(self._engine.react(now))

    async def _tick(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            with self._deciding():
                self._share_reading()
                connection.send(self._newer_roots())
                connection.send(self._engine.handle(Tick(), self._clock()))
                if self._engine.seq != self._greeted_seq:
                    connection.send([self._greeting()])

    def _newer_roots(self) -> list[Outgoing]:
        document = self._roots()
        if document is None or document == self._roots_said:
            return []
        self._roots_said = document
        return [Outgoing(self._tree.build(Kind.TRUST), document, retain=True)]

    def _share_reading(self) -> None:
        """Read ourselves what no evaluator reads."""
        own, before = self._engine.evaluators.own(), self._engine.evaluators.reads
        self._stream.read(own)
        if self._stream.reads != before:
            log.info("health is read here of shards %s", format_shards(self._stream.reads))
        self._engine.evaluators.reads = self._stream.reads
