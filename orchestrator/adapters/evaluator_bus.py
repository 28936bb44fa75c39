"""An evaluator's connections to the broker: one reads the fleet's health, the other hands it on and hears of leases."""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import Connection
from orchestrator.adapters.fleet_stream import FleetStream
from orchestrator.adapters.framing import Framed
from orchestrator.adapters.reconnecting import keep_serving, log_refused
from orchestrator.core.leases import HEARTBEAT_SECONDS
from orchestrator.evaluator import Evaluator
from orchestrator.outgoing import Outgoing
from schemas.codec import decode
from schemas.documents import ShardLease
from schemas.errors import DecodeError
from schemas.shards import format_shards
from schemas.topics import Kind, TopicTree

log = logging.getLogger(__name__)

HAND_ON_SECONDS: Final = 0.1
"""Samples wait at most so long for others to share a message with."""
UNACKNOWLEDGED_MAX: Final = 64
"""Messages under way to the broker; with more than that nothing is read."""


class EvaluatorBus:
    """Runs an evaluator until it is cancelled.

    Args:
        worker: Its name, under which the broker lets it speak.
        wanted: The shards that it would read.
        broker: Where to connect.
        tree: For subscriptions and its own presence.
        clock: Seconds since the epoch, never falling.
    """

    def __init__(
        self,
        worker: str,
        wanted: frozenset[int],
        broker: BrokerUrl,
        tree: TopicTree,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._worker = worker
        self._clock = clock
        self._evaluator = Evaluator(worker, tree, wanted)
        self._availability = tree.build(Kind.EVALUATOR_AVAILABILITY, worker=worker)
        self._lease_topic = tree.build(Kind.EVALUATOR_LEASE, worker=worker)
        self._lease = ShardLease(term="", shards=())
        self._stream = FleetStream(broker, tree, self._hear, shards=(), is_full=self._is_full)
        self._connection: Connection | None = None
        self._has_begun = False

    async def run(self, announce: Callable[[str], None]) -> None:
        """Connect and serve; ``announce`` gets a line of JSON when connected, and with each lease that is read.

        Raises:
            BrokerUnavailableError: The first connection failed; later ones are retried for ever.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stream.run())
                serve = partial(self._serve, announce=announce)
                tasks.create_task(keep_serving(self._broker, self._connect, serve, lambda: self._has_begun))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _connect(self) -> Connection:
        will = (self._availability, b"offline")
        client_id = f"tidegate-evaluator-{self._worker}"
        return await Connection.open(self._broker, client_id, will, note_refused=log_refused, on_idle=lambda: None)

    async def _serve(self, connection: Connection, announce: Callable[[str], None]) -> None:
        try:
            await connection.subscribe([(self._lease_topic, 1)])
            connection.send([Outgoing(self._availability, b"online", retain=True)])
            if not self._has_begun:
                announce(json.dumps({"ready": True, "evaluator": self._worker}))
            self._has_begun = True
            self._connection = connection
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(self._hand_on(connection, announce))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self._connection = None
            self._evaluator.hand_on()  # What could not be handed on is old by the time it could.
            await connection.leave(Outgoing(self._availability, b"offline", retain=True))

    async def _read(self, connection: Connection) -> None:
        while True:
            messages = await connection.read(1)
            for each in messages:
                if each.topic == self._lease_topic:
                    self._take_lease(each.payload)
            connection.take(messages)

    def _take_lease(self, payload: bytes) -> None:
        try:
            self._lease = decode(ShardLease, payload) if payload else ShardLease(term="", shards=())
        except DecodeError as error:
            log.warning("a lease that cannot be read is not followed: %s", error)
            return
        self._stream.read(frozenset(self._lease.shards))

    async def _hand_on(self, connection: Connection, announce: Callable[[str], None]) -> None:
        """Hand on what came together, and show that we are alive."""
        loop = asyncio.get_running_loop()
        said_at = -HEARTBEAT_SECONDS
        while True:
            if self._term() != self._evaluator.term:
                self._evaluator.term = self._term()
                announce(json.dumps({"term": self._term(), "shards": format_shards(self._stream.reads)}))
            if self._evaluator.count or loop.time() - said_at >= HEARTBEAT_SECONDS:
                connection.send(self._evaluator.hand_on())
                said_at = loop.time()
            await asyncio.sleep(HAND_ON_SECONDS)

    def _term(self) -> str:
        """Return the lease under which we read: the one before, until we have changed over to the newest."""
        if frozenset(self._lease.shards) <= self._stream.reads:
            return self._lease.term
        return self._evaluator.term if self._stream.reads else ""

    def _hear(self, framed: Framed) -> None:
        made = self._evaluator.hear(framed.devices, framed.shards, framed.payloads, self._clock())
        self._evaluator.hear_odd([each.topic for each in framed.odd])
        if self._connection is not None:
            self._connection.send(made)

    def _is_full(self) -> bool:
        return self._connection is None or self._connection.under_way > UNACKNOWLEDGED_MAX
