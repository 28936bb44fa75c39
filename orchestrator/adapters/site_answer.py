"""What a site's cache answers a device: all of a thing or one range of it, and never an end that is not the end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.adapters.content import Item
from orchestrator.adapters.site_arrival import ArrivalError

_SEND_SECONDS: Final = 60.0
"""A device that takes nothing for so long is given up."""


class CutOffError(Exception):
    """The rest does not come, so the connection must break off."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked for: from ``start`` to before ``end`` or to the last; a negative start counts from the end."""

    start: int
    end: int | None = None

    def within(self, total_bytes: int) -> tuple[int, int] | None:
        """Return both ends in a thing of so many bytes; None if it has none of them."""
        start = max(0, total_bytes + self.start) if self.start < 0 else self.start
        end = total_bytes if self.end is None else min(self.end, total_bytes)
        return (start, end) if start < end else None


class Source(Protocol):
    """Where the bytes of an answer come from."""

    @property
    def total_bytes(self) -> int | None:
        """The size of the whole thing, if that is known."""

    def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give what is from ``start`` to before ``end`` or the last.

        Raises:
            ArrivalError: It does not come.
            OSError: The disk's fault.
        """

    def close(self) -> None:
        """Let go of it."""


def asked_span(headers: Mapping[str, str], item: Item) -> Span | None:
    """Return the one range that a request is about; None for all of it, also where it asks for several."""
    unit, _, text = headers.get("range", "").partition("=")
    if unit.strip().lower() != "bytes" or headers.get("if-range", etag(item)) != etag(item):
        return None
    first, dash, last = text.strip().partition("-")
    with suppress(ValueError):
        if dash and not first:
            return Span(-int(last)) if int(last) > 0 else None
        if dash and int(first) >= 0:
            end = int(last) + 1 if last else None
            return Span(int(first), end) if end is None or end > int(first) else None
    return None


def etag(item: Item) -> str:
    """Return the strong tag of a thing: it never changes."""
    return f'"{item.sha256}"'


class SiteAnswer(StreamingResponse):
    """An answer whose bytes come while it is sent.

    Args:
        item: What it is about.
        source: Has the bytes, and is closed at the end.
        span: What of it; None for all.
        count: Told of each block how many bytes it has.
        done: Told when it is over, however it ended.
    """

    def __init__(
        self, item: Item, source: Source, span: Span | None, *, count: Callable[[int], None], done: Callable[[], None]
    ) -> None:
        total = source.total_bytes
        ends = None if span is None or total is None else span.within(total)
        headers = {
            "ETag": etag(item),
            "Cache-Control": "public, max-age=31536000, immutable",
            "Accept-Ranges": "bytes",
        }
        start, end = (0, total) if ends is None else ends
        if end is not None:
            headers["Content-Length"] = str(end - start)
        if ends is not None:
            headers["Content-Range"] = f"bytes {start}-{ends[1] - 1}/{total}"
        super().__init__(
            _counted(source, start, end, count),
            HTTPStatus.OK if ends is None else HTTPStatus.PARTIAL_CONTENT,
            headers,
            item.kind.media_type,
        )
        self._source = source
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; where the rest does not come, return without an end, so that the server breaks off."""

        async def send_in_time(message: MutableMapping[str, Any]) -> None:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await send(message)
            except TimeoutError as error:
                raise CutOffError from error

        if scope["method"] == "HEAD":
            self.body_iterator = _nothing()
        try:
            with suppress(CutOffError):
                await super().__call__(scope, receive, send_in_time)
        finally:
            self._source.close()
            self._done()


def out_of_range(item: Item, total_bytes: int) -> Response:
    """Answer a request for a part that there is not."""
    headers = {"Content-Range": f"bytes */{total_bytes}", "ETag": etag(item)}
    return Response(None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)


async def _nothing() -> AsyncGenerator[bytes]:
    for block in tuple[bytes]():
        yield block


async def _counted(source: Source, start: int, end: int | None, count: Callable[[int], None]) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(source.blocks(start, end)) as blocks:
            async for block in blocks:
                yield block
                count(len(block))
    except (ArrivalError, OSError) as error:
        raise CutOffError from error
