"""The kit's connection to the broker: what comes goes into the transcript, where it is looked for by who waits."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import aiomqtt

from orchestrator.adapters import clock
from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.conformance.transcript import Heard, Transcript
from schemas.topics import RULES, Kind, TopicTree

PASSING_SECONDS: Final = 2.0
"""What a broker may take to pass something on; after that it was not passed on."""
_POLL_SECONDS: Final = 0.05
Found = TypeVar("Found")


class Link:
    """Hears everything on the tree of one device.

    Args:
        url: The broker, with a user that may do what the orchestrator may.
        brake_url: The same, with a user that may pull the brake.
        tree: Where the device lives.
        transcript: Takes what is heard.
    """

    def __init__(self, url: BrokerUrl, brake_url: BrokerUrl, tree: TopicTree, transcript: Transcript) -> None:
        self.url = url
        self.tree = tree
        self._brake_url = brake_url
        self._transcript = transcript
        self._client: aiomqtt.Client | None = None
        self._hearing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear while the block runs.

        Raises:
            BrokerUnavailableError: No connection, or it broke.
        """
        try:
            async with _client_of(self.url) as client:
                self._client = client
                await client.subscribe(f"{self.tree.root}/#", qos=1)
                self._hearing = asyncio.create_task(self._hear(client))
                try:
                    yield
                finally:
                    self._hearing.cancel()
        except aiomqtt.MqttError as error:
            raise BrokerUnavailableError(
                f"{self.url}: {error}; is the broker running, and is --broker right?"
            ) from error

    async def publish(self, kind: Kind, payload: bytes) -> None:
        """Publish to the device, or to all."""
        assert self._client is not None, "it listens first"
        rule = RULES[kind]
        ids = {"device": self._transcript.device} if "{device}" in rule.pattern else {}
        await self._client.publish(self.tree.build(kind, **ids), payload, rule.qos, rule.retained)

    async def brake(self, *, on: bool) -> bool:
        """Pull the brake or lift it; false if the broker did not pass it on."""
        topic, before = self.tree.build(Kind.HOLD), len(self._transcript.entries)
        async with _client_of(self._brake_url) as client:
            await client.publish(topic, b'{"reason": "conformance"}' if on else b"", 1, retain=True)

        def is_heard() -> bool:
            return any(isinstance(each, Heard) and each.topic == topic for each in self._transcript.entries[before:])

        return bool(await self.until(is_heard, PASSING_SECONDS))

    async def cut(self) -> None:
        """End the device's connection as a lost network would: by taking its client id, and leaving at once."""
        with contextlib.suppress(aiomqtt.MqttError):  # The device may be back before we have left.
            async with _client_of(self.url, self._transcript.client_id):
                pass

    async def look_up(self, *kinds: Kind) -> None:
        """Write down what the broker keeps of the device, as somebody sees it who comes later."""
        topics = {self.tree.build(kind, device=self._transcript.device) for kind in kinds}
        async with _client_of(self.url) as client:
            for topic in sorted(topics):
                await client.subscribe(topic, qos=1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PASSING_SECONDS):
                    async for message in client.messages:
                        if message.retain:
                            self._record(message)
                            topics.discard(str(message.topic))
                        if not topics:
                            return

    async def until(self, find: Callable[[], Found], seconds: float) -> Found | None:
        """Return what ``find`` gives as soon as it gives something; None if it does not in time.

        Raises:
            MqttError: The connection broke; ``listening`` says it in the project's words.
        """
        deadline = clock.now() + seconds
        while not (found := find()):
            if self._hearing is not None and self._hearing.done():
                self._hearing.result()
            if clock.now() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
        return found

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._record(message)

    def _record(self, message: aiomqtt.Message) -> None:
        topic, payload = str(message.topic), bytes(message.payload)
        address = self.tree.parse(topic)
        kind, ids = (None, {}) if address is None else (address.kind, address.ids)
        self._transcript.entries.append(Heard(clock.now(), topic, kind, ids, payload, message.retain))


def _client_of(url: BrokerUrl, client_id: str | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        url.host,
        url.port,
        username=url.username,
        password=url.password,
        identifier=client_id or f"conformance-{secrets.token_hex(6)}",
        tls_context=url.tls_context(),
    )
