"""Chunks from any server of files: ``<base>/chunks/<sha256>``, over connections that are kept.

It is as patient as every other download: silence, slowness, redirects and bodies without end are bounded, and so is
what is read. A connection that the server closed meanwhile is made anew without counting as a failure.
"""

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from device_client.adapters.chunk_sources import (
    ChunkAbsentError,
    ChunkBusyError,
    ChunkFailedError,
    ChunkFalseError,
    GoOn,
)
from device_client.adapters.failure import StepError
from device_client.adapters.http_get import (
    REDIRECTS,
    REDIRECTS_MAX,
    led_to,
    open_connection,
    request,
    without_secrets,
)
from device_client.core.redirects import NOWHERE_ELSE, Redirects
from schemas.chunks import Chunk

SILENCE_SECONDS: Final = 30.0
SECONDS: Final = 30.0
BYTES_PER_SECOND_MIN: Final = 8 * 1024
_TRANSIENT: Final = frozenset({408, 425, 429})
_ABSENT: Final = frozenset({404, 410})
_BLOCK_BYTES: Final = 64 * 1024
_PAGE_BYTES_MAX: Final = 4096


def chunk_bases(sources: Sequence[str], artifact_sha256: str) -> tuple[str, ...]:
    """Return where chunks are, for each source of an archive that says so: where ``chunks/`` stands beside it.

    The name of a chunk is put in the place of ``{}``.
    """
    ending = f"/artifacts/{artifact_sha256}"
    bases: list[str] = []
    for source in sources:
        with suppress(ValueError):
            parts = urlsplit(source)
            if parts.path.endswith(ending):
                path = f"{parts.path.removesuffix(ending)}/chunks/"
                bases.append(urlunsplit((parts.scheme, parts.netloc, path + "{}", parts.query, "")))
    return tuple(bases)


class HttpChunks:
    """A server that has chunks.

    Args:
        base: Their address, with ``{}`` in the place of the name.
        silence_seconds: For connecting, and for every piece.
        seconds: For one chunk, beside what its size adds.
        redirects: Where it may lead.
    """

    def __init__(
        self,
        base: str,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        seconds: float = SECONDS,
        redirects: Redirects = NOWHERE_ELSE,
    ) -> None:
        self._before, _, self._behind = base.rpartition("{}")
        self._silence_seconds, self._seconds = silence_seconds, seconds
        self._redirects = redirects
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}

    @property
    def name(self) -> str:
        """Its address without secrets."""
        return without_secrets(self._before).removesuffix("/chunks/")

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return what the server has under the name of ``chunk``, at most as many bytes as it has.

        Raises:
            ChunkAbsentError: The server says that it has none.
            ChunkFailedError: Anything else.
        """
        deadline = time.monotonic() + self._seconds + chunk.size_bytes / BYTES_PER_SECOND_MIN

        def go_on_in_time() -> None:
            go_on()
            if time.monotonic() > deadline:
                raise ChunkFailedError(f"{self.name}: too slow")

        url = f"{self._before}{chunk.sha256}{self._behind}"
        try:
            return self._get(url, chunk.size_bytes, go_on_in_time)
        except StepError as error:
            raise ChunkFailedError(str(error)) from error
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise ChunkFailedError(f"{self.name}: {str(error) or type(error).__name__}") from error

    def close(self) -> None:
        """Close the connections that were kept."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _get(self, url: str, bytes_max: int, go_on: GoOn) -> bytes:
        here = url
        for _ in range(REDIRECTS_MAX + 1):
            with self._answered(here, go_on) as response:
                elsewhere = response.headers.get("Location") if response.status in REDIRECTS else None
                if elsewhere is None:
                    return self._read(response, bytes_max, was_led=here != url)
                _read_page(response)
            here = led_to(here, elsewhere, self._redirects)
        raise ChunkFailedError(f"{self.name}: redirects without end")

    @contextmanager
    def _answered(self, url: str, go_on: GoOn) -> Iterator[http.client.HTTPResponse]:
        """Give what the server of ``url`` answers; the connection is kept if all of that was read."""
        parts = urlsplit(url)
        idle = self._idle.setdefault((parts.scheme, parts.netloc), [])
        connection = self._connection(idle, url)
        is_kept = False
        try:
            with self._ask(connection, url, go_on) as response:
                try:
                    yield response
                finally:
                    is_kept = response.length == 0 and connection.sock is not None
        finally:
            if is_kept:
                idle.append(connection)
            else:
                connection.close()

    def _connection(self, idle: list[http.client.HTTPConnection], url: str) -> http.client.HTTPConnection:
        try:
            return idle.pop()
        except IndexError:
            return open_connection(url, self._silence_seconds)

    def _ask(self, connection: http.client.HTTPConnection, url: str, go_on: GoOn) -> http.client.HTTPResponse:
        """Ask on a connection, and once more on a new one where a kept one is closed by now."""
        go_on()
        was_kept = connection.sock is not None
        try:
            return request(connection, url, {}, self._silence_seconds, go_on)
        except (http.client.HTTPException, ConnectionError):
            if not was_kept:
                raise
        connection.close()
        return request(connection, url, {}, self._silence_seconds, go_on)

    def _read(self, response: http.client.HTTPResponse, bytes_max: int, *, was_led: bool) -> bytes:
        status = response.status
        if status != http.HTTPStatus.OK:
            is_absent = 400 <= status < 500 and status not in _TRANSIENT  # noqa: PLR2004 - the client's fault, says HTTP
            if was_led:  # anything else may be about a signature that has run out, and the next one is good
                is_absent = status in _ABSENT
            answer = f"{self.name}: {'leads to where the answer is' if was_led else 'answers'} {status}"
            _read_page(response)
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise ChunkBusyError(answer)
            raise ChunkAbsentError(answer) if is_absent else ChunkFailedError(answer)
        if response.length is not None and response.length > bytes_max:
            raise ChunkFalseError(f"{self.name}: has {response.length} bytes, not {bytes_max}")
        parts: list[bytes] = []
        left = bytes_max
        # Where the server has said how much it sends, nothing is waited for behind that.
        beyond = 1 if response.length is None else 0
        while part := response.read1(min(_BLOCK_BYTES, left + beyond)):
            left -= len(part)
            if left < 0:
                raise ChunkFalseError(f"{self.name}: sends more than {bytes_max} bytes")
            parts.append(part)
        if response.length:
            raise ChunkFailedError(f"{self.name}: cut off after {bytes_max - left} bytes")
        return b"".join(parts)


def _read_page(response: http.client.HTTPResponse) -> None:
    """Read a short body that nobody wants, so that the connection can be kept."""
    if response.length is not None and response.length <= _PAGE_BYTES_MAX:
        response.read()
