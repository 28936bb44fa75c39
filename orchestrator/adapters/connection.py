"""One connection to the broker: many messages in flight, written together, acknowledged in order, read in batches.

It keeps up with a whole fleet: a client library costs some hundred microseconds for each message, this a few. What is
not acknowledged when a connection is lost stays with whoever sent it (``unacknowledged``).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Self, cast

from orchestrator.adapters import packets
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.packets import Incoming, ProtocolError
from orchestrator.adapters.tls import TlsFilesError
from orchestrator.outgoing import Outgoing
from schemas.errors import FleetError

KEEP_ALIVE_SECONDS: Final = 60
IN_FLIGHT_MAX: Final = 10_000
"""Unacknowledged messages in each direction, as far as the broker wants so many; it is a bound on memory."""
_UNREAD_MAX: Final = 10_000
_WRITE_BUFFER_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 18
_PATIENCE_SECONDS: Final = 15.0
_FAREWELL_SECONDS: Final = 2.0
_CROWD: Final = 200
_PACKET_ID_MAX: Final = 0xFFFF
REFUSALS: Final = {
    0x01: "it does not speak MQTT 5",
    0x84: "it does not speak MQTT 5",
    0x85: "it does not take our client id",
    0x86: "user or password is wrong",
    0x87: "the user may not connect",
    0x88: "it is not available",
    0x89: "it is busy",
    0x8A: "the user is banned",
    0x97: "its quota is exceeded",
    0x9F: "too many connections at a time",
}
"""Why a broker takes no connection, by its reason code."""


class DisconnectedError(FleetError):
    """The world's fault: no connection, or it was lost. The text says why as far as it is known."""


class Connection(asyncio.Protocol):
    """A session that ends with its connection; made by ``open``.

    Args:
        note_refused: Told the topic and the reason code of each message that the broker did not take.
        on_idle: Called whenever everything that was sent is acknowledged.
    """

    def __init__(self, note_refused: Callable[[str, int], None], on_idle: Callable[[], None]) -> None:
        self._note_refused = note_refused
        self._on_idle = on_idle
        self._waiting: deque[Outgoing] = deque()
        self._in_flight: dict[int, Outgoing] = {}
        self._window = 0
        self._last_id = 0
        self._may_write = True
        self._rest = b""
        self._unread: deque[Incoming] = deque()
        self._is_held = False
        self._had_head_start = False
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[DisconnectedError] = self._loop.create_future()
        self._expected = 0
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._heard_at = self._loop.time()
        self._pulse: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(
        cls,
        url: BrokerUrl,
        client_id: str,
        will: tuple[str, bytes],
        note_refused: Callable[[str, int], None],
        on_idle: Callable[[], None],
    ) -> Self:
        """Connect.

        Args:
            url: Where, and as whom.
            client_id: How the broker tells the user's connections apart.
            will: Topic and payload that the broker publishes, retained, if the connection is lost.
            note_refused: As for the class.
            on_idle: As for the class.

        Raises:
            DisconnectedError: Nobody answers, or we are refused.
        """
        try:
            secured = url.tls_context()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: cls(note_refused, on_idle), url.host, url.port, ssl=secured
                )
        except (OSError, TimeoutError, TlsFilesError) as error:
            raise DisconnectedError(str(error) or "no answer in time") from error
        try:
            await connection._introduce(  # noqa: SLF001 - our own
                packets.connect(
                    client_id,
                    keep_alive_seconds=KEEP_ALIVE_SECONDS,
                    receive_maximum=IN_FLIGHT_MAX,
                    will=will,
                    user=url.username,
                    password=url.password,
                )
            )
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _introduce(self, hello: bytes) -> None:
        answer = await self._ask(hello, packets.CONNACK)
        try:
            code, properties = packets.read_connack(answer)
        except ProtocolError as error:
            raise DisconnectedError(f"no MQTT 5 broker: {error}") from error
        if code:
            raise DisconnectedError(f"the broker refused us: {REFUSALS.get(code, f'reason {code:#x}')}")
        self._window = min(IN_FLIGHT_MAX, properties.get(packets.RECEIVE_MAXIMUM, IN_FLIGHT_MAX))
        self._beat(properties.get(packets.SERVER_KEEP_ALIVE, KEEP_ALIVE_SECONDS) or KEEP_ALIVE_SECONDS)

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        """Subscribe to filters, each with its QoS.

        Raises:
            DisconnectedError: A filter was refused, or the connection was lost.
        """
        answer = await self._ask(packets.subscribe(self._free_id(), filters), packets.SUBACK)
        try:
            reasons = packets.read_suback(answer)
        except ProtocolError as error:
            raise DisconnectedError(str(error)) from error
        for (topic, _), reason in zip(filters, reasons, strict=False):
            if reason >= packets.FAILURES_FROM:
                raise DisconnectedError(f"the broker refused a subscription to {topic}; may this user read it?")

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Publish in order; never blocks."""
        self._waiting.extend(messages)
        self._write_on()

    async def read(self, count_max: int) -> list[Incoming]:
        """Return the next messages, at least one; ``take`` each when it is dealt with.

        Raises:
            DisconnectedError: The connection was lost.
        """
        while not self._unread:
            if self._lost.done():
                raise self._lost.result()
            self._arrived.clear()
            await self._arrived.wait()
        if self._is_held and len(self._unread) < _UNREAD_MAX:
            self._is_held = False
            self._transport.resume_reading()
        return [self._unread.popleft() for _ in range(min(count_max, len(self._unread)))]

    def put_back(self, messages: Sequence[Incoming]) -> None:
        """Have the last messages that were read, in their order, be the next ones again."""
        self._unread.extendleft(reversed(messages))

    def arrived(self) -> tuple[Incoming, ...]:
        """Return what will be read next, as far as it is here."""
        return tuple(self._unread)

    def take(self, messages: Iterable[Incoming]) -> None:
        """Acknowledge messages; the broker has so many under way to us, not more."""
        answers = b"".join(packets.puback(each.packet_id) for each in messages if each.packet_id)
        if answers and not self._lost.done():
            self._transport.write(answers)

    async def leave(self, *farewell: Outgoing) -> None:
        """Send last messages and end, so that the broker sends no will; takes two seconds at most.

        What had not been written is dropped, and ``on_idle`` is not called any more.
        """
        self._on_idle = lambda: None
        with contextlib.suppress(TimeoutError, DisconnectedError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                self._waiting.clear()
                self.send(farewell)
                while self._in_flight and not self._lost.done():
                    self._arrived.clear()
                    await self._arrived.wait()
        if not self._lost.done():
            self._transport.write(packets.FAREWELL)
            self._transport.close()
            self._end("we left")

    def abort(self) -> None:
        """End at once; the broker sends our will."""
        self._transport.abort()
        self._end("aborted")

    async def head_start(self, seconds: float) -> None:
        """Wait while a crowd of messages is on its way out: once for each crowd, and for so long at most."""
        if not self._is_crowded():
            self._had_head_start = False
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._had_head_start else seconds):
                while self._is_crowded() and not self._lost.done():
                    self._arrived.clear()
                    await self._arrived.wait()
        self._had_head_start = self._is_crowded()

    @property
    def under_way(self) -> int:
        """How many messages the broker has not acknowledged, with those that wait for others."""
        return len(self._waiting) + len(self._in_flight)

    def _is_crowded(self) -> bool:
        return self.under_way > _CROWD

    def unacknowledged(self) -> list[Outgoing]:
        """Return what was to be sent and is not known to have reached the broker, in order."""
        return [*self._in_flight.values(), *self._waiting]

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio sets TCP_NODELAY itself."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake up everybody who waits."""
        self._end(str(exc) if exc else "the broker closed the connection")

    def pause_writing(self) -> None:
        """Let messages wait: the broker does not read as fast."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Go on."""
        self._may_write = True
        self._write_on()

    def data_received(self, data: bytes) -> None:
        """Take what came: answers at once, messages for ``read``."""
        self._heard_at = self._loop.time()
        data = self._rest + data if self._rest else data
        used = 0
        try:
            for head, body, end in packets.split(data):
                used = end
                self._receive(head, body)
        except ProtocolError as error:
            self._transport.abort()
            self._end(str(error))
            return
        self._rest = data[used:]
        self._arrived.set()
        if len(self._unread) > 2 * _UNREAD_MAX and not self._is_held:
            self._is_held = True
            self._transport.pause_reading()
        self._write_on()

    def _receive(self, head: int, body: bytes) -> None:
        match head >> 4:
            case packets.PUBLISH:
                self._unread.append(packets.read_publish(head, body))
            case packets.PUBACK:
                packet_id, reason = packets.read_answer(body)
                sent = self._in_flight.pop(packet_id, None)
                if sent is not None and reason >= packets.FAILURES_FROM:
                    self._note_refused(sent.topic, reason)
            case packets.DISCONNECT:
                reason = body[0] if body else 0
                self._end(f"the broker ended the connection, reason {reason:#x}")
            case kind if kind == self._expected and not self._answer.done():
                self._answer.set_result(body)
            case _:
                pass  # An answer to a ping.

    def _write_on(self) -> None:
        """Write what the window has room for, and tell when nothing is left."""
        while self._may_write and self._waiting and not self._lost.done():
            frames: list[bytes] = []
            size = 0
            while self._waiting and size < _CHUNK_BYTES:
                if self._waiting[0].qos and len(self._in_flight) >= self._window:
                    break
                frames.append(self._frame(self._waiting.popleft()))
                size += len(frames[-1])
            if not frames:
                return
            self._transport.write(b"".join(frames))
        if not self._waiting and not self._in_flight:
            self._on_idle()

    def _frame(self, message: Outgoing) -> bytes:
        packet_id = 0
        if message.qos:
            packet_id = self._free_id()
            self._in_flight[packet_id] = message
        return packets.publish(
            message.topic,
            message.payload,
            packet_id,
            retain=message.retain,
            correlation=message.correlation,
            expiry_seconds=message.expiry_seconds,
        )

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % _PACKET_ID_MAX + 1
            if self._last_id not in self._in_flight:
                return self._last_id

    async def _ask(self, packet: bytes, kind: int) -> bytes:
        """Send a packet and return the body of its answer."""
        self._expected, self._answer = kind, self._loop.create_future()
        self._transport.write(packet)
        waiting: list[asyncio.Future[Any]] = [self._answer, self._lost]
        await asyncio.wait(waiting, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            return self._answer.result()
        raise self._lost.result() if self._lost.done() else DisconnectedError("no answer in time")

    def _beat(self, keep_alive_seconds: float) -> None:
        """Show that we are there, and see whether the broker is: once in each half of the time that it allows."""
        if self._loop.time() - self._heard_at > 1.5 * keep_alive_seconds:
            self._transport.abort()
            self._end(f"the broker said nothing for {1.5 * keep_alive_seconds:g} s")
            return
        self._transport.write(packets.PINGREQ)
        self._pulse = self._loop.call_later(keep_alive_seconds / 2, self._beat, keep_alive_seconds)

    def _end(self, why: str) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        if not self._lost.done():
            self._lost.set_result(DisconnectedError(why))
        self._arrived.set()
