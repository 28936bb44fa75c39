"""One connection that only reads: bytes come together for some milliseconds, and are taken apart all at once."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from orchestrator.adapters import packets
from orchestrator.adapters.connection import DisconnectedError
from orchestrator.adapters.framing import Framed, frame
from orchestrator.adapters.packets import ProtocolError

BATCH_SECONDS: Final = 0.008
"""For so long messages come together, when they come slowly."""
RECEIVE_BYTES: Final = 1 << 20
"""What the system is asked to keep for us meanwhile; with what it keeps by itself, waiting would slow a busy broker."""
BUFFER_BYTES: Final = 2 * packets.PACKET_BYTES_MAX
"""Read at once at most; the longest packet fits in when it has begun to come."""


class StreamReader(asyncio.BufferedProtocol):
    """One connection. ``lost`` says why it ended, or raises what ended it."""

    def __init__(
        self, prefix: bytes, take: Callable[[Framed], None], is_full: Callable[[], bool], *, has_properties: bool
    ) -> None:
        self._prefix = prefix
        self._take = take
        self._is_full = is_full
        self._has_properties = has_properties
        self._buffer = bytearray(BUFFER_BYTES)
        self._held = 0
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[DisconnectedError] = self._loop.create_future()
        self._asked: tuple[int, asyncio.Future[bytes]] | None = None
        self._heard_at = self._loop.time()
        self._pulse: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    async def ask(self, packet: bytes, kind: int) -> bytes:
        """Send a packet and return the body of its answer."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._asked = kind, answer
        self._transport.write(packet)
        waiting: list[asyncio.Future[Any]] = [answer, self.lost]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self.lost.result()
        return answer.result()

    def beat(self, seconds: float) -> None:
        """Show that we are there, and see whether the broker is: twice in the time that it allows."""
        if self._loop.time() - self._heard_at > 1.5 * seconds:
            self.end(f"the broker said nothing for {1.5 * seconds:g} s")
            return
        self._transport.write(packets.PINGREQ)
        self._pulse = self._loop.call_later(seconds / 2, self.beat, seconds)

    def end(self, why: str) -> None:
        """End the connection, if it has not ended."""
        if self._pulse is not None:
            self._pulse.cancel()
        self._transport.abort()
        if not self.lost.done():
            self.lost.set_result(DisconnectedError(why))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell why it ended."""
        self.end(str(exc) if exc else "the broker closed the connection")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - only a hint
        """Return where what comes next is written to: behind the beginning of a packet."""
        return memoryview(self._buffer)[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what came, and let the next messages come together."""
        self._heard_at = started_at = self._loop.time()
        self._held += nbytes
        try:
            self._read()
        except ProtocolError as error:
            self.end(str(error))
            return
        except Exception as error:  # noqa: BLE001 - a defect, or the end of this process: not asyncio's to log and forget
            if not self.lost.done():
                self.lost.set_exception(error)
            self._transport.abort()
            return
        if not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_at(started_at + BATCH_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if self._is_full():
            self._loop.call_later(BATCH_SECONDS, self._read_on)
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _read(self) -> None:
        framed = frame(bytes(memoryview(self._buffer)[: self._held]), self._prefix, has_properties=self._has_properties)
        self._held -= framed.used
        self._buffer[: self._held] = self._buffer[framed.used : framed.used + self._held]
        for head, body in framed.others:
            self._note(head, body)
        if framed.payloads or framed.odd:
            self._take(framed)
        if framed.answers:
            self._transport.write(framed.answers)

    def _note(self, head: int, body: bytes) -> None:
        kind = head >> 4
        if kind == packets.DISCONNECT:
            self.end(f"the broker ended the connection, reason {body[0] if body else 0:#x}")
        elif self._asked is not None and kind == self._asked[0] and not self._asked[1].done():
            self._asked[1].set_result(body)
