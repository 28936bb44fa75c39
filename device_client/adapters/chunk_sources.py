"""Where chunks come from: a source gives a chunk by its digest, and nothing that it says is believed.

This is the seam for whoever carries chunks: a registry, a cache on the site, a peer, a stick. A source may lie, be
slow, have only a part of what is asked for, or go away; it costs attempts then, and after some of them it is not asked
any more. What a chunk is, is proven here, for all of them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from schemas.chunks import Chunk, from_stored
from schemas.errors import DecodeError

GoOn = Callable[[], None]
"""Asked again and again; raises what ends the work."""
_PAUSE_SECONDS_MAX: Final = 2.0


class ChunkAbsentError(Exception):
    """This source does not have it; another one may."""


class ChunkFailedError(Exception):
    """The source's fault: it did not give it. The text says why, without secrets."""


class ChunkFalseError(ChunkFailedError):
    """The source's fault: what it gave cannot be it."""


class ChunkBusyError(ChunkFailedError):
    """The source says that it is busy; it may give it a little later."""


class ChunkMissingError(Exception):
    """No source gives it.

    Attributes:
        may_pass: A source could not be reached, so it may have it later.
    """

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class ChunkSource(Protocol):
    """Something that has chunks; asked by several threads at once."""

    @property
    def name(self) -> str:
        """Where it is, as it may be logged."""

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return ``chunk`` in its stored form, never more than its size.

        Raises:
            ChunkAbsentError: It does not have it.
            ChunkFailedError: It has gone wrong. What ``go_on`` raises comes out too.
        """

    def close(self) -> None:
        """Let go of everything; it is not asked any more."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much a source may cost.

    Attributes:
        failures_max: In a row with the same chunk, until it is given up.
        lies_max: In all, until it is given up: other bytes than were asked for.
        pause_seconds: After a failure, doubled with each that follows.
        seconds: For all that it is asked for, beside what ``bytes_per_second_min`` adds for the size.
        bytes_per_second_min: The slowest that is waited for.
    """

    failures_max: int = 3
    lies_max: int = 3
    pause_seconds: float = 0.1
    seconds: float = 600.0
    bytes_per_second_min: int = 8 * 1024


USUAL: Final = Tolerance()


@dataclass(frozen=True, slots=True)
class Brought:
    """A chunk that is proven, where it came from, and how many bytes that took."""

    data: bytes
    origin: str
    carried_bytes: int


@dataclass(slots=True)
class _Standing:
    """What is thought of one source."""

    source: ChunkSource
    tolerance: Tolerance
    deadline: float
    is_asked: bool = True
    lies: int = 0
    said: str = ""
    guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, failure: Exception, failures: int) -> None:
        """Remember a failure, one of so many in a row; the source may not be asked any more after it."""
        with self.guard:
            self.said = str(failure)
            self.lies += isinstance(failure, DecodeError | ChunkFalseError)
            if self.lies >= self.tolerance.lies_max or failures >= self.tolerance.failures_max:
                self.is_asked = False


class Sources:
    """Sources in the order in which they are asked.

    Args:
        sources: The first that has a chunk gives it.
        size_bytes: What they will be asked for in all, at most.
        tolerance: How much each may cost.
    """

    def __init__(self, sources: Sequence[ChunkSource], size_bytes: int, tolerance: Tolerance) -> None:
        patience_seconds = tolerance.seconds + size_bytes / tolerance.bytes_per_second_min
        now = time.monotonic()
        self._standings = [
            _Standing(source, tolerance, now + patience_seconds * number)
            for number, source in enumerate(sources, start=1)
        ]

    def bring(self, chunk: Chunk, go_on: GoOn, stored_bytes: int | None = None) -> Brought:
        """Return ``chunk``, proven, from the first source that gives it.

        Args:
            chunk: The name.
            go_on: Asked again and again.
            stored_bytes: What its stored form has, where a list says so; another one is refused, but for the bytes as
                they are.

        Raises:
            ChunkMissingError: None of them does. What ``go_on`` raises comes out too.
        """
        for standing in self._standings:
            brought = _ask(standing, chunk, go_on, stored_bytes)
            if brought is not None:
                return brought
        said = "; ".join(each.said for each in self._standings if each.said) or "no source has it"
        may_pass = any(not each.is_asked and not each.lies for each in self._standings)
        raise ChunkMissingError(f"chunk {chunk.sha256[:12]}: {said}", may_pass=may_pass)

    def close(self) -> None:
        """Let all of them go."""
        for standing in self._standings:
            standing.source.close()


def _ask(standing: _Standing, chunk: Chunk, go_on: GoOn, stored_bytes: int | None) -> Brought | None:
    """Return ``chunk`` from one source; None if it does not have it or is not asked any more."""

    def go_on_in_time() -> None:
        go_on()
        if time.monotonic() > standing.deadline:
            raise ChunkFailedError(f"{standing.source.name}: too slow")

    failures = 0
    while standing.is_asked:
        try:
            stored = standing.source.get(chunk, go_on_in_time)
            data = _open(stored, chunk, stored_bytes)
        except ChunkAbsentError as absence:
            standing.said = str(absence)
            return None
        except (ChunkFailedError, DecodeError) as failure:
            failures += 1
            standing.note(failure, failures)
            if standing.is_asked:
                _pause(min(_PAUSE_SECONDS_MAX, standing.tolerance.pause_seconds * 2 ** (failures - 1)), go_on)
        else:
            return Brought(data, standing.source.name, len(stored))
    return None


def _open(stored: bytes, chunk: Chunk, stored_bytes: int | None) -> bytes:
    if stored_bytes is not None and len(stored) not in (stored_bytes, chunk.size_bytes):
        raise DecodeError(
            f"chunk {chunk.sha256[:12]} is given in {len(stored)} bytes, and its list says {stored_bytes}"
        )
    return from_stored(stored, chunk)


def _pause(seconds: float, go_on: GoOn) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(left, 0.05))
