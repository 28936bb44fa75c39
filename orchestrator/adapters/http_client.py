"""GET and POST over http or https, in bounded time and memory, whatever the server does.

h11 reads what comes, so a body that ends before it should, or a head without end, is an error and never a shorter file.
Connections are kept for the next GET. Its redirects are followed a few times, never from https to http; those of a POST
never.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import h11

from schemas.errors import FleetError

REDIRECTS_MAX: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEAD_BYTES_MAX: Final = 32 * 1024
_IDLE_MAX: Final = 8
_PORTS: Final = {"http": 80, "https": 443}


class HttpError(FleetError):
    """The server's fault, or the network's: no answer, or none in HTTP. Names it, without secrets."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take.

    Attributes:
        connect_seconds: For a connection, with TLS.
        silence_seconds: For the head of its answer, and then for every block.
    """

    connect_seconds: float = 5.0
    silence_seconds: float = 10.0


USUAL_PATIENCE: Final = Patience()
Origin = tuple[str, str, int]


@dataclass(slots=True)
class _Link:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection

    async def next_event(self, block_bytes: int) -> h11.Event:
        while True:
            event = self.protocol.next_event()
            if event is h11.NEED_DATA:
                self.protocol.receive_data(await self.reader.read(block_bytes))
            elif event is h11.PAUSED:
                raise HttpError("it says something before it is asked")
            else:
                assert isinstance(event, h11.Event), "the sentinels stand above"
                return event

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Answer:
    """The head of an answer, and its body as it comes.

    Attributes:
        length_bytes: Of the body, where the server says so.
        link: Where the body comes from.
        shown: How errors name the server.
        is_read: Whether all of the body has come.
    """

    status: int
    headers: Mapping[str, str]
    length_bytes: int | None
    link: _Link = field(repr=False)
    is_read: bool = False
    shown: str = ""
    _patience: Patience = USUAL_PATIENCE

    async def blocks(self, block_bytes: int) -> AsyncGenerator[bytes]:
        """Give the body, at most some ``block_bytes`` at a time.

        Raises:
            HttpError: It does not come, or not all of it.
        """
        with _blamed(self.shown):
            while True:
                async with asyncio.timeout(self._patience.silence_seconds):
                    event = await self.link.next_event(block_bytes)
                match event:
                    case h11.Data():
                        yield bytes(event.data)
                    case h11.EndOfMessage():
                        self.is_read = True
                        return
                    case _:
                        raise HttpError("it breaks off")


class HttpClient:
    """Asks servers; used inside one event loop.

    Args:
        patience: With each of them.
        ca_file: Who vouches for servers; None for whom the system trusts.
    """

    def __init__(self, patience: Patience, ca_file: Path | None = None) -> None:
        self._patience = patience
        self._ca_file = ca_file
        self._idle: dict[Origin, list[_Link]] = {}
        self._tls: ssl.SSLContext | None = None

    @contextlib.asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """Give the answer to a GET, whatever its status is.

        Args:
            url: A user and a password in it are sent to its server, and not to where that redirects.
            headers: Sent with it.

        Raises:
            HttpError: There is no answer; also out of reading it.
        """
        here = urlsplit(url)
        for _ in range(REDIRECTS_MAX + 1):
            origin, shown = _origin(here), without_secrets(here)
            with _blamed(shown):
                answer = await self._ask(here, origin, headers, shown)
            try:
                elsewhere = answer.headers.get("location") if answer.status in _REDIRECTS else None
                if elsewhere is None:
                    yield answer
                    return
                if answer.length_bytes == 0:
                    async for _ in answer.blocks(1):
                        pass  # so that the connection can be kept
            finally:
                self._let_go(origin, answer)
            there = urlsplit(urljoin(urlunsplit(here), elsewhere))
            if there.scheme not in {here.scheme, "https"}:
                raise HttpError(f"{shown}: redirects to what is not https")
            here = there
        raise HttpError(f"{without_secrets(urlsplit(url))}: redirects without end")

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, answer_bytes_max: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send ``body`` once, over a connection of its own; return status, headers and the beginning of the answer.

        Args:
            url: A user and a password in it are sent; errors name its server only, because paths may be secrets too.
            headers: Sent with it.
            body: Sent whole.
            answer_bytes_max: The answer is read so far.

        Raises:
            HttpError: There is no answer, or it is longer.
        """
        parts = urlsplit(url)
        origin = _origin(parts)
        shown = f"{origin[0]}://{origin[1]}:{origin[2]}"
        with _blamed(shown):
            async with asyncio.timeout(self._patience.connect_seconds):
                link = await self._connect(origin)
        try:
            with _blamed(shown):
                answer = await self._ask_on(link, parts, headers, shown, body)
            return answer.status, answer.headers, await self._whole(answer, answer_bytes_max)
        finally:
            link.close()

    async def _whole(self, answer: Answer, bytes_max: int) -> bytes:
        read = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.silence_seconds):
                async for block in answer.blocks(bytes_max):
                    read += block
                    if len(read) > bytes_max:
                        raise HttpError(f"{answer.shown}: its answer is longer than {bytes_max} bytes")
                return read
        raise HttpError(f"{answer.shown}: its answer takes too long")

    def close(self) -> None:
        """Close the connections that were kept."""
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()

    async def _ask(self, url: SplitResult, origin: Origin, headers: Mapping[str, str], shown: str) -> Answer:
        idle = self._idle.get(origin)
        if idle:
            link = idle.pop()
            with contextlib.suppress(OSError, h11.RemoteProtocolError):  # it may be closed by now
                return await self._ask_on(link, url, headers, shown)
        async with asyncio.timeout(self._patience.connect_seconds):
            link = await self._connect(origin)
        return await self._ask_on(link, url, headers, shown)

    async def _connect(self, origin: Origin) -> _Link:
        scheme, host, port = origin
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        reader, writer = await asyncio.open_connection(
            host, port, ssl=self._tls if scheme == "https" else None, limit=_HEAD_BYTES_MAX
        )
        return _Link(reader, writer, h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX))

    async def _ask_on(
        self, link: _Link, url: SplitResult, headers: Mapping[str, str], shown: str, body: bytes | None = None
    ) -> Answer:
        length = [] if body is None else [("Content-Length", str(len(body)))]
        try:
            async with asyncio.timeout(self._patience.silence_seconds):
                request = h11.Request(
                    method="GET" if body is None else "POST",
                    target=urlunsplit(("", "", url.path or "/", url.query, "")),
                    headers=[("Host", url.netloc.rpartition("@")[2]), *_credentials(url), *length, *headers.items()],
                )
                events = (request, *(() if not body else (h11.Data(data=body),)), h11.EndOfMessage())
                link.writer.write(b"".join(link.protocol.send(event) or b"" for event in events))
                await link.writer.drain()
                while isinstance(event := await link.next_event(_HEAD_BYTES_MAX), h11.InformationalResponse):
                    pass
        except BaseException:
            link.close()
            raise
        if not isinstance(event, h11.Response):
            link.close()
            raise ConnectionResetError("closes without an answer")
        told = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in event.headers}
        promised = told.get("content-length")
        length_bytes = None if promised is None else int(promised)
        return Answer(event.status_code, told, length_bytes, link, shown=shown, _patience=self._patience)

    def _let_go(self, origin: Origin, answer: Answer) -> None:
        """Keep a connection whose answer was read to its end."""
        link, idle = answer.link, self._idle.setdefault(origin, [])
        is_done = link.protocol.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        if answer.is_read and is_done and len(idle) < _IDLE_MAX:
            link.protocol.start_next_cycle()
            idle.append(link)
        else:
            link.close()


@contextlib.contextmanager
def _blamed(shown: str) -> Iterator[None]:
    try:
        yield
    except HttpError as error:
        raise HttpError(f"{shown}: {error}") from error
    except TimeoutError as error:
        raise HttpError(f"{shown}: silent for too long") from error
    except (h11.ProtocolError, OSError, ValueError) as error:
        raise HttpError(f"{shown}: {str(error) or type(error).__name__}") from error


def _origin(url: SplitResult) -> Origin:
    if url.scheme not in _PORTS or not url.hostname:
        raise HttpError(f"{without_secrets(url)[:80]}: only http and https are fetched")
    try:
        return url.scheme, url.hostname, url.port or _PORTS[url.scheme]
    except ValueError as error:
        raise HttpError(f"{without_secrets(url)[:80]}: no such port") from error


def _credentials(url: SplitResult) -> list[tuple[str, str]]:
    if url.username is None:
        return []
    both = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return [("Authorization", f"Basic {base64.b64encode(both.encode()).decode()}")]


def without_secrets(url: SplitResult) -> str:
    """Return an address as it may be logged: without user, password and query."""
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
