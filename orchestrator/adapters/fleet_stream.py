"""The reader of everybody's health: a connection of its own, read some hundred times a second, thousands at a time.

A reader that wakes up for each packet makes itself and the broker slower, so it lets the messages of some milliseconds
come together. What it has not read yet waits in the broker, as much as that is allowed to keep; at QoS 1 nothing is
acknowledged before it was taken in.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn

from orchestrator.adapters import packets
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import REFUSALS, DisconnectedError
from orchestrator.adapters.framing import Framed
from orchestrator.adapters.packets import ProtocolError
from orchestrator.adapters.reconnecting import retry_seconds
from orchestrator.adapters.stream_reader import StreamReader
from orchestrator.adapters.tls import TlsFilesError
from orchestrator.core.leases import ALL_SHARDS
from schemas.topics import Kind, TopicTree

log = logging.getLogger(__name__)

IN_FLIGHT_MAX: Final = 1000
"""Unacknowledged at a time; more makes mosquitto slower."""
KEEP_ALIVE_SECONDS: Final = 60
_PATIENCE_SECONDS: Final = 15.0
_WRONG_LEVEL: Final = frozenset({0x01, 0x84})


class FleetStream:
    """Reads the fleet's health until it is cancelled; after a lost connection it connects again.

    Args:
        broker: Where to connect.
        tree: For the subscription.
        take: Is given the messages of each turn; they are acknowledged when it returns.
        qos: 0, or 1 for a broker that keeps what is unacknowledged.
        shards: Those that are read at first; see ``read``.
        is_full: Says whether nothing more can be taken for now; the broker keeps it meanwhile.

    Attributes:
        reads: The shards that the broker sends, because they are subscribed.
    """

    def __init__(
        self,
        broker: BrokerUrl,
        tree: TopicTree,
        take: Callable[[Framed], None],
        *,
        qos: int = 0,
        shards: Collection[int] = ALL_SHARDS,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._broker = broker
        self._prefix = tree.filter(Kind.HEALTH).removesuffix("+/+").encode()
        self._qos = qos
        self._wanted = frozenset(shards)
        self._changed = asyncio.Event()
        self._take = take
        self._is_full = is_full
        self._has_properties = True
        self.reads: frozenset[int] = frozenset()

    def read(self, shards: frozenset[int]) -> None:
        """Read these shards from now on; ``reads`` says when it is so."""
        if shards != self._wanted:
            self._wanted = shards
            self._changed.set()

    async def run(self) -> None:
        """Read; a broker that does not speak MQTT 5 is asked for 3.1.1. Ends only with what ``take`` raises."""
        attempt = 0
        while True:
            try:
                reader = await self._connect()
                attempt = 0
                try:
                    await self._follow(reader)
                finally:
                    self.reads = frozenset()
                    reader.end("we left")
            except DisconnectedError as error:
                delay = retry_seconds(attempt)
                log.warning("health of the fleet is not read, next attempt in %.1f s: %s", delay, error)
                attempt += 1
                await asyncio.sleep(delay)

    async def _connect(self) -> StreamReader:
        url = self._broker
        try:
            secured = url.tls_context()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                _, reader = await asyncio.get_running_loop().create_connection(
                    lambda: StreamReader(self._prefix, self._take, self._is_full, has_properties=self._has_properties),
                    url.host,
                    url.port,
                    ssl=secured,
                )
        except (OSError, TimeoutError, TlsFilesError) as error:
            raise DisconnectedError(str(error) or "no answer in time") from error
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._introduce(reader)
        except TimeoutError:
            reader.end("no answer in time")
            raise reader.lost.result() from None
        except ProtocolError as error:
            reader.end(str(error))
            raise DisconnectedError(str(error)) from error
        except BaseException:
            reader.end("given up")
            raise
        return reader

    async def _introduce(self, reader: StreamReader) -> None:
        hello = packets.connect(
            f"tidegate-health-{secrets.token_hex(4)}",  # Another one may read it as well.
            keep_alive_seconds=KEEP_ALIVE_SECONDS,
            receive_maximum=IN_FLIGHT_MAX,
            will=None,
            user=self._broker.username,
            password=self._broker.password,
            has_properties=self._has_properties,
        )
        code, properties = packets.read_connack(await reader.ask(hello, packets.CONNACK))
        if code in _WRONG_LEVEL and self._has_properties:
            self._has_properties = False
            raise DisconnectedError("it does not speak MQTT 5, so 3.1.1 is tried")
        if code:
            raise DisconnectedError(f"the broker refused us: {REFUSALS.get(code, f'reason {code:#x}')}")
        reader.beat(properties.get(packets.SERVER_KEEP_ALIVE, KEEP_ALIVE_SECONDS) or KEEP_ALIVE_SECONDS)
        shards = self._wanted
        await self._subscribe(reader, self._filters(shards))
        self.reads = shards

    async def _follow(self, reader: StreamReader) -> NoReturn:
        """Subscribe to what is wanted and to nothing else, until the connection is lost."""
        have = self._filters(self.reads)
        while True:
            changed = asyncio.ensure_future(self._changed.wait())
            either: list[asyncio.Future[Any]] = [changed, reader.lost]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if reader.lost.done():
                raise reader.lost.result()
            self._changed.clear()
            shards = self._wanted
            want = self._filters(shards)
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._subscribe(reader, want - have)  # First, so that none is missed between.
                    self.reads = shards
                    await self._unsubscribe(reader, have - want)
            except (ProtocolError, TimeoutError) as error:
                raise DisconnectedError(str(error) or "no answer in time") from error
            have = want

    def _filters(self, shards: frozenset[int]) -> frozenset[str]:
        names = ["+"] if shards == ALL_SHARDS else [f"{shard:02d}" for shard in shards]
        return frozenset(f"{self._prefix.decode()}{name}/+" for name in names)

    async def _subscribe(self, reader: StreamReader, filters: frozenset[str]) -> None:
        if not filters:
            return
        wanted = packets.subscribe(
            1, [(each, self._qos) for each in sorted(filters)], has_properties=self._has_properties
        )
        reasons = packets.read_suback(await reader.ask(wanted, packets.SUBACK), has_properties=self._has_properties)
        for each, reason in zip(sorted(filters), reasons, strict=False):
            if reason >= packets.FAILURES_FROM:
                raise DisconnectedError(f"the broker refused a subscription to {each}; may this user read it?")

    async def _unsubscribe(self, reader: StreamReader, filters: frozenset[str]) -> None:
        if filters:
            unwanted = packets.unsubscribe(2, sorted(filters), has_properties=self._has_properties)
            await reader.ask(unwanted, packets.UNSUBACK)
