"""The orchestrator's connection to the broker: messages in, the engine's messages out, in order.

A new client for each connection, everything re-asserted after each connect, one outbox that survives a lost connection.
Commands are taken only while we are connected: what nobody answers was not carried out.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from orchestrator.adapters.brokers import BrokerUnavailableError, BrokerUrl
from orchestrator.core.inputs import Tick
from orchestrator.core.interpret import Received, Refused
from orchestrator.service import Engine, Outgoing
from schemas.topics import Kind, TopicTree

log = logging.getLogger(__name__)

SUBSCRIPTIONS: Final = (
    Kind.INFO,  # First, so that what follows is about devices we know.
    Kind.AVAILABILITY,
    Kind.REPORTED,
    Kind.HOLD,
    Kind.HEALTH,
    Kind.READY,
    Kind.COMMAND,
)
BATCH_COUNT_MAX: Final = 100
RETRY_SECONDS_MAX: Final = 30.0
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
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._tree = tree
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._greet = greet
        self._outbox: deque[Outgoing] = deque()
        self._filled = asyncio.Event()
        self._started = False

    async def run(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Connect and serve; ``ready`` is awaited once, when the first connection is up.

        Raises:
            BrokerUnavailableError: The first connection failed; later ones are retried for ever.
            FencedError: Another orchestrator took over; this one must stop.
        """
        attempt = 0
        while True:
            try:
                async with self._client() as client:
                    attempt = 0
                    await self._serve(client, ready)
            except aiomqtt.MqttError as error:
                if not self._started:
                    raise BrokerUnavailableError(f"{self._broker}: {error}; is the broker running?") from error
                delay = min(RETRY_SECONDS_MAX, 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                log.warning("broker lost, next attempt in %.1f s: %s", delay, error)
                attempt = min(attempt + 1, 10)
                await asyncio.sleep(delay)

    def _client(self) -> aiomqtt.Client:
        will = aiomqtt.Will(self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"offline", qos=1, retain=True)
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier="tidegate-orchestrator",
            protocol=ProtocolVersion.V5,
            clean_start=True,
            will=will,
            max_inflight_messages=BATCH_COUNT_MAX,
            tls_context=ssl.create_default_context() if self._broker.is_tls else None,
        )

    async def _serve(self, client: aiomqtt.Client, ready: Callable[[], Awaitable[None]]) -> None:
        client.pending_calls_threshold = 2 * BATCH_COUNT_MAX
        for kind in SUBSCRIPTIONS:
            options = SubscribeOptions(qos=0 if kind is Kind.HEALTH else 1, retainAsPublished=True)
            await client.subscribe(self._tree.filter(kind), options=options)
        await client.publish(self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"online", qos=1, retain=True)
        first = not self._started
        self._put(self._engine.start(self._clock()) if first else self._engine.reconnected(self._clock()))
        self._started = True
        await client.publish(self._tree.build(Kind.ORCHESTRATOR_INFO), self._greet(), qos=1, retain=True)
        if first:
            await ready()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publish(client))
                tasks.create_task(self._tick())
                tasks.create_task(self._read(client))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            await self._take_leave(client)

    async def _take_leave(self, client: aiomqtt.Client) -> None:
        """A clean end fires no will, so we say it ourselves; without a connection the broker will."""
        availability = self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY)
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(2):
                await client.publish(availability, b"offline", qos=1, retain=True)

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            properties = message.properties
            received = Received(
                topic=str(message.topic),
                payload=message.payload,
                retained=bool(message.retain),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
            self._put(self._engine.receive(received, self._clock()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._put(self._engine.handle(Tick(), self._clock()))

    def _put(self, outgoing: list[Outgoing]) -> None:
        self._outbox.extend(outgoing)
        if outgoing:
            self._filled.set()

    async def _publish(self, client: aiomqtt.Client) -> None:
        """Publish in order, some at a time; what was not acknowledged stays in the outbox for the next connection."""
        while True:
            while len(self._outbox) > 0:
                batch = [self._outbox[index] for index in range(min(len(self._outbox), BATCH_COUNT_MAX))]
                await asyncio.gather(*(_send(client, each) for each in batch))
                for _ in batch:
                    self._outbox.popleft()
            self._engine.performed()
            self._filled.clear()
            await self._filled.wait()


async def _send(client: aiomqtt.Client, outgoing: Outgoing) -> None:
    properties = None
    if outgoing.correlation is not None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho ships it untyped
        properties.CorrelationData = outgoing.correlation
    await client.publish(
        outgoing.topic, outgoing.payload, qos=outgoing.qos, retain=outgoing.retain, properties=properties
    )
