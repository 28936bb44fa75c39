"""A site's cache over HTTP: what devices ask it for is fetched once from the registries, and given on while it comes.

Only what is addressed by its digest, so nothing is ever stale, and nobody needs rights: a device checks everything that
it is given, as it does with a registry. Where no registry can be reached, what is there is given all the same.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.adapters.content import Item, item_at
from orchestrator.adapters.http_client import USUAL_PATIENCE, HttpClient, Patience
from orchestrator.adapters.pace import Pace
from orchestrator.adapters.registry import RegistryError, serve_app
from orchestrator.adapters.site_answer import SiteAnswer, Source, Span, asked_span, out_of_range
from orchestrator.adapters.site_arrival import Arrival, ArrivalError
from orchestrator.adapters.site_fetch import USUAL_EFFORT, Effort, Fetcher
from orchestrator.adapters.site_sources import Arriving, OnDisk, Relayed
from orchestrator.adapters.site_store import SiteStore
from orchestrator.version import VERSION

ANSWER_SECONDS: Final = 25.0
"""Within so long a device has the head of an answer, or is sent away; one gives up after 30 s of silence."""
ARRIVALS_MAX: Final = 200
"""Things that are on their way or wait for it."""
_BUSY: Final = {"Retry-After": "5"}
_UNKEPT_SECONDS: Final = 60.0
_UNKEPT_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How a cache is run.

    Attributes:
        registries: Base addresses, the preferred first.
        folder: Where it keeps what it has.
        disk_bytes_max: What that may take.
        bandwidth_bytes_per_second: What may come from the registries; None for as much as there is.
        answers_max: Devices that are answered at the same time; more are told to come again.
        fetches_max: Things that are fetched at the same time; others wait, but not for long.
        patience: With a registry.
        effort: For each thing.
    """

    registries: Sequence[str]
    folder: Path
    disk_bytes_max: int
    bandwidth_bytes_per_second: int | None = None
    answers_max: int = 500
    fetches_max: int = 16
    patience: Patience = USUAL_PATIENCE
    effort: Effort = USUAL_EFFORT


@dataclass(slots=True)
class Counts:
    """What was done since the start.

    Attributes:
        hit_bytes: Given away from the disk.
        miss_bytes: Given away while they arrived.
        relayed_bytes: Given away without being kept, because there was no room.
    """

    hits: int = 0
    misses: int = 0
    relayed: int = 0
    refused: int = 0
    failed: int = 0
    hit_bytes: int = 0
    miss_bytes: int = 0
    relayed_bytes: int = 0


class SiteCache:
    """One cache; used inside one event loop.

    Args:
        settings: How it is run.

    Raises:
        SiteStoreError: Its folder cannot be used.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._store = SiteStore(settings.folder, settings.disk_bytes_max)
        self._client = HttpClient(settings.patience)
        pace = Pace(settings.bandwidth_bytes_per_second)
        self._fetcher = Fetcher(
            settings.registries,
            self._client,
            self._store,
            pace,
            effort=settings.effort,
            at_once_max=settings.fetches_max,
        )
        self._arrivals: dict[Item, Arrival] = {}
        self._unkept: dict[Item, float] = {}
        self._fetching: dict[Arrival, asyncio.Task[None]] = {}
        self._answering = self._relaying = 0
        self.counts = Counts()

    def app(self) -> Starlette:
        """Return what answers devices."""
        return Starlette(
            routes=[
                Route("/healthz", self._answer_healthy),
                Route("/status", self._answer_status),
                Route("/{folder}/{sha256}", self._answer),
            ]
        )

    async def close(self) -> None:
        """Stop fetching; what came so far is there to go on from, and what is whole is kept."""
        tasks = list(self._fetching.values())
        for arrival, task in self._fetching.items():
            if not arrival.is_whole:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._client.close()
        self._store.close()

    async def _answer(self, request: Request) -> Response:
        item = item_at(request.path_params["folder"], request.path_params["sha256"])
        if item is None:
            return PlainTextResponse("nothing has this name\n", HTTPStatus.NOT_FOUND)
        if self._answering >= self._settings.answers_max:
            self.counts.refused += 1
            return PlainTextResponse("too many ask at once\n", HTTPStatus.SERVICE_UNAVAILABLE, _BUSY)
        self._answering += 1
        response: Response | None = None
        try:
            response = await self._found(item, request)
        except ArrivalError as error:
            self.counts.failed += 1
            return PlainTextResponse(
                f"{error}\n", error.status, _BUSY if error.status is not HTTPStatus.NOT_FOUND else {}
            )
        finally:
            if not isinstance(response, SiteAnswer):
                self._answering -= 1
        return response

    async def _found(self, item: Item, request: Request) -> Response:
        """Answer with what is there, or comes, or is passed on."""
        span = asked_span(request.headers, item)
        opened = await self._store.open(item)
        if opened is not None:
            self.counts.hits += 1
            return self._send(item, OnDisk(*opened), span, self._count_hit)
        if self._is_unkept(item):
            return await self._relay_all(item, span)
        try:
            arrival = self._arrival(item)
            await arrival.announced(ANSWER_SECONDS)
        except ArrivalError as error:
            if not error.is_for_lack_of_room:
                raise
            return await self._relay_all(item, span)
        self.counts.misses += 1
        return self._send(item, Arriving(arrival, partial(self._relay, item)), span, self._count_miss)

    def _send(self, item: Item, source: Source, span: Span | None, count: Callable[[int], None]) -> Response:
        total = source.total_bytes
        if span is not None and total is not None and span.within(total) is None:
            source.close()
            return out_of_range(item, total)
        return SiteAnswer(item, source, span, count=count, done=self._note_answered)

    def _arrival(self, item: Item) -> Arrival:
        """Return a thing on its way, which it is from now on.

        Raises:
            ArrivalError: Too much is on its way, or the disk takes nothing.
        """
        arrival = self._arrivals.get(item)
        if arrival is None:
            if len(self._arrivals) >= ARRIVALS_MAX:
                raise ArrivalError("too much is fetched at once", HTTPStatus.SERVICE_UNAVAILABLE)
            try:
                descriptor, size_bytes = self._store.open_part(item)
            except OSError as error:
                raise ArrivalError(
                    f"no file can be made: {error.strerror}", HTTPStatus.SERVICE_UNAVAILABLE, is_for_lack_of_room=True
                ) from error
            arrival = self._arrivals[item] = Arrival(item, descriptor, size_bytes)
            self._fetching[arrival] = asyncio.create_task(self._fetch(arrival))
        arrival.asked += 1
        return arrival

    async def _fetch(self, arrival: Arrival) -> None:
        try:
            await self._fetcher.fetch(arrival)
        finally:
            del self._arrivals[arrival.item], self._fetching[arrival]
            if arrival.failure is not None and arrival.failure.is_for_lack_of_room:
                if len(self._unkept) >= _UNKEPT_MAX:
                    self._unkept.clear()
                self._unkept[arrival.item] = time.monotonic() + _UNKEPT_SECONDS

    def _is_unkept(self, item: Item) -> bool:
        """Say whether there was no room for it a moment ago."""
        if self._unkept.get(item, 0.0) > time.monotonic():
            return True
        self._unkept.pop(item, None)
        return False

    async def _relay_all(self, item: Item, span: Span | None) -> Response:
        """Answer with what a registry sends, without keeping it."""
        wanted = None if span is None or span.start < 0 else span
        total, given = await self._relay(item, wanted.start if wanted else 0)
        if wanted is not None and total is None:
            await given.aclose()
            wanted = None
            total, given = await self._relay(item, 0)
        if wanted is not None and total is not None and wanted.within(total) is None:
            await given.aclose()
            return out_of_range(item, total)
        self.counts.relayed += 1
        return self._send(item, Relayed(total, wanted.start if wanted else 0, given), wanted, self._count_relayed)

    async def _relay(self, item: Item, start: int) -> tuple[int | None, AsyncGenerator[bytes]]:
        if self._relaying >= self._settings.fetches_max:
            raise ArrivalError("the disk is full, and too much is passed on at once", HTTPStatus.SERVICE_UNAVAILABLE)
        self._relaying += 1
        try:
            total, given = await self._fetcher.relay(item, start)
        except BaseException:
            self._relaying -= 1
            raise
        counted = self._relayed(given)
        await anext(counted)  # from here on it is counted until it is closed
        return total, counted

    async def _relayed(self, given: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        try:
            yield b""
            async with contextlib.aclosing(given) as blocks:
                async for block in blocks:
                    yield block
        finally:
            self._relaying -= 1

    def _note_answered(self) -> None:
        self._answering -= 1

    def _count_hit(self, count_bytes: int) -> None:
        self.counts.hit_bytes += count_bytes

    def _count_miss(self, count_bytes: int) -> None:
        self.counts.miss_bytes += count_bytes

    def _count_relayed(self, count_bytes: int) -> None:
        self.counts.relayed_bytes += count_bytes

    async def _answer_healthy(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _answer_status(self, _request: Request) -> Response:
        fetcher, store = self._fetcher, self._store
        return JSONResponse(
            {
                "version": VERSION,
                "registries": fetcher.registries,
                **asdict(self.counts),
                "fetched_bytes": fetcher.fetched_bytes,
                "lies": fetcher.lies,
                "disk_items": len(store),
                "disk_bytes": store.used_bytes,
                "disk_bytes_max": store.bytes_max,
                "evicted_bytes": store.evicted_bytes,
                "answering": self._answering,
                "fetching": len(self._arrivals),
            }
        )


@contextlib.asynccontextmanager
async def serve_cache(settings: CacheSettings, host: str, port: int) -> AsyncIterator[str]:
    """Run a cache inside the running loop and yield its base URL; for host and port see ``serve_app``.

    Raises:
        SiteStoreError: Its folder cannot be used.
        RegistryError: Host and port cannot be listened on, or a registry's address is none.
    """
    for url in settings.registries:
        check_upstream_url(url)
    cache = SiteCache(settings)
    try:
        async with serve_app(cache.app(), host, port, who="the cache", options="--") as url:
            yield url
    finally:
        await cache.close()


def check_upstream_url(url: str, option: str = "--registry") -> None:
    """Return if ``url`` is a base address that can be fetched from; it may hold a user and a password.

    Args:
        url: Given by a person.
        option: Where, for the message.

    Raises:
        RegistryError: It is not.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise RegistryError(f"{option} is no address; write http://host:port or https://host, perhaps with a path")
