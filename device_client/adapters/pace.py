"""What an order lets its device take of the site's line: so many bytes in a second, in so many hours of the day."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from device_client.adapters.chunk_sources import ChunkSource, GoOn
from device_client.adapters.failure import WindowClosedError
from device_client.core.fetching import fetch_opens_in_seconds
from schemas.chunks import Chunk
from schemas.messages import FetchLimits

_LOOK_SECONDS: Final = 0.2
_WINDOW_LOOK_SECONDS: Final = 1.0


class Pace:
    """A bucket of tokens that holds none: what was taken is paid for before more is, by whichever thread.

    Args:
        bytes_per_second: On average over any longer time.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._turn = threading.Lock()

    def take(self, count_bytes: int, go_on: GoOn) -> None:
        """Return when so many bytes that came have had their time; what ``go_on`` raises comes out."""
        self._free_at = max(self._free_at, time.monotonic()) + count_bytes / self._bytes_per_second
        while (left := self._free_at - time.monotonic()) > 0:
            go_on()
            time.sleep(min(left, _LOOK_SECONDS))

    @contextmanager
    def turn(self, go_on: GoOn) -> Iterator[None]:
        """Let one thread fetch at a time: several at once would each come with a piece before any is paid for."""
        while not self._turn.acquire(timeout=_LOOK_SECONDS):
            go_on()
        try:
            yield
        finally:
            self._turn.release()


class PacedChunks:
    """A source of chunks that is asked no faster than its device may take.

    Args:
        source: Which.
        pace: Shared by all sources of one fetch.
    """

    def __init__(self, source: ChunkSource, pace: Pace) -> None:
        self._source, self._pace = source, pace

    @property
    def name(self) -> str:
        """The source's own."""
        return self._source.name

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return what the source gives, once it is paid for."""
        with self._pace.turn(go_on):
            stored = self._source.get(chunk, go_on)
            self._pace.take(len(stored), go_on)
            return stored

    def close(self) -> None:
        """Let the source go."""
        self._source.close()


def within_window(
    limits: FetchLimits | None, is_cancelled: Callable[[], bool], clock: Callable[[], float]
) -> Callable[[], bool]:
    """Return ``is_cancelled`` of a fetch that also ends, with ``WindowClosedError``, when its hours are over.

    It raises at once if they have not begun.
    """
    if limits is None or limits.window is None:
        return is_cancelled
    window, look_at = limits.window, 0.0

    def is_cancelled_or_closed() -> bool:
        nonlocal look_at
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + _WINDOW_LOOK_SECONDS
            seconds = fetch_opens_in_seconds(limits, clock())
            if seconds > 0:
                hours = f"{window.start} to {window.end} ({window.time_zone})"
                raise WindowClosedError(f"artifacts are fetched from {hours} here", seconds)
        return is_cancelled()

    is_cancelled_or_closed()
    return is_cancelled_or_closed
