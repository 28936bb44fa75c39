"""Gives devices over the bus what a store holds, in pieces: for those that have no HTTP.

It is a process of its own with a user of its own, so that bytes by the gigabyte never stand before an order or a grant
in the orchestrator. It needs no keys and decides nothing; devices prove what they are given. What it sends stays below
a rate, because the broker and the lines behind it carry more than this.
"""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import Connection
from orchestrator.adapters.content import KINDS
from orchestrator.adapters.pace import Pace
from orchestrator.adapters.piece_queue import Ask, PieceQueue
from orchestrator.adapters.reconnecting import keep_serving, log_refused
from orchestrator.outgoing import Outgoing
from orchestrator.version import VERSION
from schemas.codec import HEALTH, decode, encode
from schemas.errors import DecodeError, FleetError
from schemas.messages import PIECE_BYTES_MAX, PieceRefusal, PieceRequest
from schemas.pieces import Piece, write_piece
from schemas.topics import RULES, Kind, TopicTree

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 10.0
"""Everybody who has a place has a piece within so long; it follows how many have one."""
EXPIRY_SECONDS: Final = 60
"""After so long a device has asked again."""
RETRY_SECONDS: Final = 15.0
_READ_MAX: Final = 256
_UNSENT_MAX: Final = 16
_COMPLAINT_SECONDS: Final = 60.0


class PieceStoreError(FleetError):
    """The operator's fault: a folder that holds no releases. The text names the remedy."""


@dataclass(slots=True)
class Counts:
    """What was done since the start.

    Attributes:
        piece_bytes: Of what was given, without heads.
        busy: Refused, because there was no place.
        absent: Refused, because the store does not have it.
        invalid: Refused, because it could not be read, or is behind the end.
        failed: Refused, because the disk did not give it.
    """

    pieces: int = 0
    piece_bytes: int = 0
    busy: int = 0
    absent: int = 0
    invalid: int = 0
    failed: int = 0


class PieceServer:
    """One server; used inside one event loop.

    Args:
        folder: A store of releases: ``releases/`` of an orchestrator, or the folder of a site's cache.
        broker: Where to connect to, and as whom.
        tree: Where is asked and answered.
        bytes_per_second: What it sends in all, at most.

    Raises:
        PieceStoreError: The folder is no store.
    """

    def __init__(self, folder: Path, broker: BrokerUrl, tree: TopicTree, *, bytes_per_second: int) -> None:
        if not any((folder / name).is_dir() for name in KINDS):
            raise PieceStoreError(
                f"{folder} holds none of {', '.join(KINDS)}; name releases/ of an orchestrator, or a cache's folder"
            )
        self._folder = folder
        self._broker = broker
        self._tree = tree
        self._pace = Pace(bytes_per_second)
        self._queue = PieceQueue(max(1, int(bytes_per_second * ROUND_SECONDS / PIECE_BYTES_MAX)))
        self._asked, self._written = asyncio.Event(), asyncio.Event()
        self._availability = tree.build(Kind.PIECES_AVAILABILITY)
        self._complained_at = float("-inf")
        self._has_begun = False
        self.is_connected = False
        self.counts = Counts()

    def status(self) -> dict[str, Any]:
        """Return what it has done, and what it does just now."""
        queue = self._queue
        now = {"dropped": queue.dropped, "waiting": len(queue), "devices": queue.devices}
        return {"version": VERSION, **asdict(self.counts), **now}

    async def run(self, begin: Callable[[], None]) -> None:
        """Connect and serve until cancelled; ``begin`` is called when it does so for the first time.

        Raises:
            BrokerUnavailableError: The first connection failed; later ones are retried for ever.
        """
        serve = partial(self._serve, begin=begin)
        await keep_serving(self._broker, self._connect, serve, lambda: self._has_begun)

    async def _connect(self) -> Connection:
        will = (self._availability, b"offline")
        return await Connection.open(
            self._broker, "tidegate-pieces", will, note_refused=log_refused, on_idle=self._written.set
        )

    async def _serve(self, connection: Connection, begin: Callable[[], None]) -> None:
        try:
            await connection.subscribe([(self._tree.filter(Kind.FETCH), RULES[Kind.FETCH].qos)])
            connection.send([Outgoing(self._availability, b"online", retain=True)])
            self.is_connected = True
            if not self._has_begun:
                begin()
            self._has_begun = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(self._give(connection))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self.is_connected = False
            await connection.leave(Outgoing(self._availability, b"offline", retain=True))

    async def _read(self, connection: Connection) -> None:
        while True:
            for each in await connection.read(_READ_MAX):
                address = self._tree.parse(each.topic)
                if address is not None and address.kind is Kind.FETCH and not each.retain:
                    self._hear(connection, address.ids["device"], each.payload)
            await asyncio.sleep(0)  # A flood must not keep what is asked for from being given.

    def _hear(self, connection: Connection, device: str, payload: bytes) -> None:
        """Give a device's question a place, or send the device away."""
        ask: Ask
        try:
            ask = decode(PieceRequest, payload, HEALTH)
        except DecodeError as error:
            self.counts.invalid += 1
            self._complain("a question that cannot be read, of %s: %s", device, error)
            ask = PieceRefusal(code="invalid_payload", message=str(error)[:200])
        if self._queue.add(device, ask):
            self._asked.set()
            return
        self.counts.busy += 1
        if isinstance(ask, PieceRequest) and connection.under_way < _UNSENT_MAX:
            busy = _refuse(ask, "busy", "too many devices fetch at once", retry_after_seconds=RETRY_SECONDS)
            connection.send([self._outgoing(device, busy)])

    async def _give(self, connection: Connection) -> None:
        while True:
            turn = self._queue.next()
            if turn is None:
                self._asked.clear()
                await self._asked.wait()
                continue
            while connection.under_way >= _UNSENT_MAX:
                self._written.clear()
                await self._written.wait()  # The broker reads slower than we may send.
            device, ask = turn
            message = self._outgoing(device, self._answer(ask))
            await self._pace.take(len(message.payload))
            connection.send([message])

    def _outgoing(self, device: str, payload: bytes) -> Outgoing:
        topic = self._tree.build(Kind.PIECE, device=device)
        return Outgoing(topic, payload, qos=RULES[Kind.PIECE].qos, expiry_seconds=EXPIRY_SECONDS)

    def _answer(self, ask: Ask) -> bytes:
        """Return a piece as the store has it, or why there is none."""
        if isinstance(ask, PieceRefusal):
            return encode(ask)
        try:
            total_bytes, data = _read_span(
                self._folder / ask.folder / ask.sha256, ask.offset_bytes, min(ask.length_bytes, PIECE_BYTES_MAX)
            )
        except FileNotFoundError:
            self.counts.absent += 1
            return _refuse(ask, "not_found", "the store does not have it")
        except OSError as error:
            self.counts.failed += 1
            self._complain("%s/%s cannot be read: %s", ask.folder, ask.sha256, error.strerror)
            return _refuse(ask, "internal", "the store cannot be read")
        if not data:
            self.counts.invalid += 1
            return _refuse(ask, "out_of_range", f"it has {total_bytes} bytes")
        self.counts.pieces += 1
        self.counts.piece_bytes += len(data)
        return write_piece(Piece(ask.sha256, ask.offset_bytes, total_bytes, data))

    def _complain(self, text: str, *values: object) -> None:
        """Log once a minute; whoever sends rubbish sends it again and again."""
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAINT_SECONDS:
            self._complained_at = now
            log.warning(text, *values)


def _refuse(ask: PieceRequest, code: str, message: str, *, retry_after_seconds: float | None = None) -> bytes:
    return encode(
        PieceRefusal(
            code=code,
            message=message,
            sha256=ask.sha256,
            offset_bytes=ask.offset_bytes,
            retry_after_seconds=retry_after_seconds,
        )
    )


def _read_span(path: Path, offset: int, size_bytes: int) -> tuple[int, bytes]:
    """Return the size of a regular file, and a part of it; nothing else is ever opened for reading.

    Raises:
        OSError: It is not there, is none, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(f"{path.name} is no file")
        return found.st_size, os.pread(descriptor, size_bytes, offset) if offset < found.st_size else b""
    finally:
        os.close(descriptor)
