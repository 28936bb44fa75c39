"""A registry whose releases lie in an object store: it leads devices there with signed addresses, or passes things on.

It answers what the registry beside the orchestrator answers, so devices and caches notice nothing but the redirect. An
address is signed for one thing and for a short while, and is in no log. Nothing here is trusted either: a device proves
what it gets.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.adapters.content import Item, item_at
from orchestrator.adapters.object_store import ObjectStoreError
from orchestrator.adapters.objects import Objects
from orchestrator.adapters.registry import serve_app
from orchestrator.adapters.site_answer import SiteAnswer, asked_span, etag, out_of_range
from orchestrator.adapters.site_arrival import ArrivalError

log = logging.getLogger(__name__)

_KNOWN_MAX: Final = 200_000
"""Things that are not looked for again; more than the chunks of most stores."""
_LOOKERS: Final = 16
"""Threads of their own, so that a store that is slow holds up nobody who asks for what is known."""
_LOOKED_FOR_MAX: Final = 200
_PART_BYTES: Final = 512 * 1024
"""Of what is passed on, so much is asked for at a time: a device that is slow keeps nobody waiting at the store."""
_BUSY: Final = {"Retry-After": "5"}


class ObjectRegistry:
    """One registry; used inside one event loop.

    Args:
        objects: Where releases were published.
        url_seconds: How long a signed address is good; None: what is there is passed on.
    """

    def __init__(self, objects: Objects, url_seconds: float | None) -> None:
        self._objects = objects
        self._url_seconds = url_seconds
        self._known: dict[Item, int] = {}
        self._lookers = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="objects")
        self._looking: dict[Item, asyncio.Future[int | None]] = {}

    def app(self) -> Starlette:
        """Return what answers devices."""
        return Starlette(routes=[Route("/healthz", _answer_healthy), Route("/{folder}/{sha256}", self._answer)])

    def close(self) -> None:
        """Look for nothing more."""
        self._lookers.shutdown(wait=False, cancel_futures=True)

    async def leads_to(self) -> str | None:
        """Return the server to which it leads devices, which their settings must name; None if it leads nowhere.

        Raises:
            ObjectStoreError: There is nothing to sign with.
        """
        if self._url_seconds is None:
            return None
        parts = urlsplit(await asyncio.to_thread(self._objects.sign, "chunks", self._url_seconds))
        return f"{parts.scheme}://{parts.netloc}"

    async def _answer(self, request: Request) -> Response:
        item = item_at(request.path_params["folder"], request.path_params["sha256"])
        try:
            size_bytes = None if item is None else await self._size_of(item)
            if item is None or size_bytes is None:
                return PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)
            if self._url_seconds is not None and request.method == "GET":
                signed = await asyncio.to_thread(self._objects.sign, str(item), self._url_seconds)
                headers = {"Location": signed, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
                return Response(None, HTTPStatus.TEMPORARY_REDIRECT, headers)
        except ObjectStoreError as error:
            log.warning("%s", error)
            return PlainTextResponse("the object store does not answer\n", HTTPStatus.SERVICE_UNAVAILABLE, _BUSY)
        if request.method == "HEAD":
            return Response(None, headers={"ETag": etag(item), "Content-Length": str(size_bytes)})
        span = asked_span(request.headers, item)
        if span is not None and span.within(size_bytes) is None:
            return out_of_range(item, size_bytes)
        stored = _Stored(self._objects, item, size_bytes)
        return SiteAnswer(item, stored, span, count=lambda _: None, done=lambda: None)

    async def _size_of(self, item: Item) -> int | None:
        """Return the size of a thing; one that was there once is not looked for again, since it never changes."""
        size_bytes = self._known.get(item)
        if size_bytes is not None:
            return size_bytes
        looking = self._looking.get(item)
        if looking is None:
            if len(self._looking) >= _LOOKED_FOR_MAX:
                raise ObjectStoreError(f"{self._objects.shown}: it is slow, and too much is looked for at once")
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._lookers, self._objects.size_of, str(item))
            self._looking[item] = looking
            looking.add_done_callback(partial(self._note, item))
        return await asyncio.shield(looking)

    def _note(self, item: Item, looked: "asyncio.Future[int | None]") -> None:
        """Remember what was there."""
        del self._looking[item]
        if looked.cancelled() or looked.exception() is not None:
            return
        size_bytes = looked.result()
        if size_bytes is not None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[item] = size_bytes


@dataclass(frozen=True, slots=True)
class _Stored:
    """A thing in the store, as the source of an answer."""

    objects: Objects
    item: Item
    total_bytes: int

    async def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give its bytes; see ``Source``."""
        last = self.total_bytes if end is None else end
        try:
            while start < last:
                part_end = min(start + _PART_BYTES, last)
                yield await asyncio.to_thread(self.objects.read_part, str(self.item), start, part_end)
                start = part_end
        except ObjectStoreError as error:
            log.warning("%s", error)
            raise ArrivalError(str(error), HTTPStatus.BAD_GATEWAY) from error

    def close(self) -> None:
        """Let go of it."""


@contextlib.asynccontextmanager
async def serve_objects(
    objects: Objects, host: str, port: int, *, url_seconds: float | None
) -> AsyncIterator[tuple[str, str | None]]:
    """Serve inside the running loop; yield the base URL, and the server to which devices are led, if to any.

    Args:
        objects: Where releases were published.
        host: As for ``serve_app``.
        port: The same.
        url_seconds: How long a signed address is good; None: what is there is passed on.

    Raises:
        ObjectStoreError: It cannot be read, or there is nothing to sign with.
        RegistryError: Host and port cannot be listened on.
    """
    await asyncio.to_thread(objects.check)
    registry = ObjectRegistry(objects, url_seconds)
    try:
        leads_to = await registry.leads_to()
        async with serve_app(registry.app(), host, port, options="--") as url:
            yield url, leads_to
    finally:
        registry.close()


async def _answer_healthy(_request: Request) -> Response:
    return PlainTextResponse("ok")
