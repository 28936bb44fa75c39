"""Fetching over the bus, piece by piece, for a device that has no HTTP or whose order prefers it.

What may be under way, and when it is asked for again, the rules say (``core/pieces.py``). Here is who waits for what.
Nothing that comes is believed: a reader gets the bytes in their order, and whoever reads proves the whole.
"""

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from device_client.adapters.chunk_sources import ChunkAbsentError, ChunkFailedError, ChunkFalseError, GoOn
from device_client.core.pieces import AGAIN_SECONDS, PIECES_MAX, Wanted, Window
from schemas.chunks import Chunk
from schemas.codec import encode
from schemas.messages import PIECE_BYTES_MAX, PieceFolder, PieceRefusal, PieceRequest
from schemas.pieces import MQTT_BASE, Piece, read_piece

SILENCE_SECONDS: Final = 30.0
"""With a session and without any answer; then nobody is there."""
BUSY_SECONDS: Final = 5.0
BUSY_SECONDS_MAX: Final = 300.0
AHEAD_BYTES: Final = PIECES_MAX * PIECE_BYTES_MAX
"""So much is asked for ahead of what was read."""
_LOOK_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Reading:
    """One thing that somebody reads, and what of it is here."""

    folder: PieceFolder
    sha256: str
    position: int
    bytes_max: int
    total_bytes: int | None = None
    asked_to: int = 0
    arrived: dict[int, bytes] = field(default_factory=dict)
    failure: Exception | None = None

    def to_ask(self) -> Iterator[Wanted]:
        """Yield what is to be asked for next: the first piece alone, because it says how long the whole is."""
        end = self.position + 1 if self.total_bytes is None else min(self.total_bytes, self.position + AHEAD_BYTES)
        self.asked_to = max(self.asked_to, self.position)
        while self.asked_to < end:
            length = min(PIECE_BYTES_MAX, (self.total_bytes or self.bytes_max) - self.asked_to)
            yield Wanted(self.folder, self.sha256, self.asked_to, length)
            self.asked_to += length

    def take(self, piece: Piece, wanted: Wanted) -> None:
        """Keep a piece that was asked for, or see that it cannot be one."""
        total = piece.total_bytes
        if total > self.bytes_max:
            self.failure = ChunkFalseError(f"{MQTT_BASE} has {total} bytes, not {self.bytes_max}")
        elif self.total_bytes not in (None, total):
            self.failure = ChunkFailedError(f"{MQTT_BASE} has {total} bytes now, and had {self.total_bytes}")
        elif len(piece.data) != min(wanted.length_bytes, total - piece.offset_bytes):
            self.failure = ChunkFalseError(f"{MQTT_BASE} gives {len(piece.data)} bytes where others were asked for")
        else:
            self.total_bytes = total
            self.arrived[piece.offset_bytes] = piece.data


class Pieces:
    """What this device asks for over its session, for all who read at the same time.

    Args:
        rng: Spreads what is asked for again.
        silence_seconds: How long any answer is waited for while there is a session.
        again_seconds: How long one answer is, before it is asked for again.
    """

    def __init__(
        self, rng: random.Random, *, silence_seconds: float = SILENCE_SECONDS, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._window = Window(rng, again_seconds=again_seconds)
        self._silence_seconds = silence_seconds
        self._ask: Callable[[bytes], object] = lambda _: None
        self._readings: dict[str, _Reading] = {}
        self._has_session = False
        self._heard_at = 0.0
        self._changed = threading.Condition()
        self.unwanted = 0
        """What came and nobody waited for."""

    def ask_with(self, ask: Callable[[bytes], object]) -> None:
        """Have ``ask`` called with each question; what it does not send is asked for again later."""
        self._ask = ask

    def set_session(self, *, is_there: bool) -> None:
        """Hear that there is a session to ask on, or none; while there is none, nobody's silence counts."""
        with self._changed:
            self._has_session, self._heard_at = is_there, time.monotonic()
            if is_there:
                self._window.begin_again(self._heard_at)
            self._changed.notify_all()

    def hear(self, payload: bytes) -> None:
        """Take what was said to this device.

        Raises:
            DecodeError: It is neither a piece nor a refusal.
        """
        said = read_piece(payload)
        with self._changed:
            now = time.monotonic()
            is_wanted = self._refused(said, now) if isinstance(said, PieceRefusal) else self._take(said, now)
            if is_wanted:
                self._heard_at = now
                self._changed.notify_all()
            else:
                self.unwanted += 1

    def blocks(self, folder: PieceFolder, sha256: str, start: int, bytes_max: int, go_on: GoOn) -> Generator[bytes]:
        """Yield what the piece server has under a name, from ``start`` on and in order; by one reader at a time.

        Args:
            folder: Where it lies.
            sha256: Its name; whether it is that, the reader proves.
            start: What is there already.
            bytes_max: How long it may be.
            go_on: Asked again and again; what it raises comes out.

        Raises:
            ChunkAbsentError: The server says that it has none.
            ChunkFailedError: Nobody answers, or gives what cannot be it (``ChunkFalseError``).
        """
        assert 0 <= start < bytes_max, "something is left to be read"
        reading = _Reading(folder, sha256, start, bytes_max)
        with self._changed:
            assert sha256 not in self._readings, "one thing is read by one at a time"
            if not self._readings:
                self._heard_at = time.monotonic()
            self._readings[sha256] = reading
        try:
            while reading.total_bytes is None or reading.position < reading.total_bytes:
                go_on()
                block = self._next(reading)
                if block is not None:
                    yield block
        finally:
            with self._changed:
                del self._readings[sha256]
                self._window.forget(sha256)

    def _next(self, reading: _Reading) -> bytes | None:
        """Ask for what is due, and return the next bytes; None if they have not come yet."""
        with self._changed:
            for piece in reading.to_ask():
                self._window.want(piece)
            due = self._window.due(time.monotonic()) if self._has_session else []
        for piece in due:  # not under our lock: the session has its own
            self._ask(encode(PieceRequest(**piece._asdict())))
        with self._changed:
            if reading.failure is None and reading.position not in reading.arrived:
                self._changed.wait(_LOOK_SECONDS)
            if reading.failure is not None:
                raise reading.failure
            block = reading.arrived.pop(reading.position, None)
            if block is not None:
                reading.position += len(block)
            elif self._has_session and time.monotonic() - self._heard_at > self._silence_seconds:
                self._heard_at = time.monotonic()
                raise ChunkFailedError(f"{MQTT_BASE} nobody answers; does `tidegate pieces` run?")
            return block

    def _take(self, piece: Piece, now: float) -> bool:
        wanted = self._window.take(piece.sha256, piece.offset_bytes, now)
        if wanted is not None:
            self._readings[piece.sha256].take(piece, wanted)
        return wanted is not None

    def _refused(self, refusal: PieceRefusal, now: float) -> bool:
        """Note what a refusal means for whoever waits for the piece; say whether somebody does."""
        sha256, offset_bytes = refusal.sha256, refusal.offset_bytes
        if sha256 is None or offset_bytes is None:
            return False
        if refusal.code == "busy":
            seconds = BUSY_SECONDS if refusal.retry_after_seconds is None else refusal.retry_after_seconds
            return self._window.put_off(sha256, offset_bytes, now, min(seconds, BUSY_SECONDS_MAX))
        if self._window.take(sha256, offset_bytes, now) is None:
            return False
        kind = ChunkAbsentError if refusal.code == "not_found" else ChunkFailedError
        self._readings[sha256].failure = kind(f"{MQTT_BASE} answers {refusal.code}")
        return True


class PieceChunks:
    """The piece server as a source of chunks.

    Args:
        pieces: What this device asks with.
    """

    name = MQTT_BASE
    """As an order's address without what stands behind its base, like that of a server: receipts are told by it."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return what the server has under the name of ``chunk``, at most as many bytes as it has.

        Raises:
            ChunkAbsentError: It has none.
            ChunkFailedError: Anything else.
        """
        return b"".join(self._pieces.blocks("chunks", chunk.sha256, 0, chunk.size_bytes, go_on))

    def close(self) -> None:
        """Keep the session: it is the device's."""
