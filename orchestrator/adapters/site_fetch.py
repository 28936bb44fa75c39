"""Bringing one thing from the registries to a site: once, whole and proven, or not at all.

A registry may be slow, cut off, gone, or lie. The next one goes on where it stopped, as long as the bytes fit together,
and what counts is the digest of all of them. Whoever sent other bytes is asked last for a while.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from http import HTTPStatus
from typing import Final

from orchestrator.adapters.chunking import CHUNKS
from orchestrator.adapters.content import Item, Proof
from orchestrator.adapters.http_client import HttpClient, HttpError
from orchestrator.adapters.pace import Pace
from orchestrator.adapters.site_arrival import Arrival, ArrivalError
from orchestrator.adapters.site_registry import AbsentError, Registry, headers_for, place_of
from orchestrator.adapters.site_store import SiteStore

log = logging.getLogger(__name__)

_FULL: Final = frozenset({ENOSPC, EDQUOT, EFBIG})
_REHASH_BYTES: Final = 1024 * 1024
_DISTRUST_SECONDS: Final = 600.0
_DOUBT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a registry is tried.

    Attributes:
        rounds_max: In a row in which no byte came.
        pause_seconds: After the first of them, doubled with each that follows.
        seconds: For all of it, beside what ``bytes_per_second_min`` adds for its size.
        bytes_per_second_min: The slowest that is waited for.
    """

    rounds_max: int = 3
    pause_seconds: float = 0.5
    seconds: float = 600.0
    bytes_per_second_min: int = 8 * 1024


USUAL_EFFORT: Final = Effort()


class _NoRoomError(Exception):
    """The disk is full."""


class Fetcher:
    """Fetches from the first registry that gives what is asked for.

    Args:
        registries: Their base addresses, the preferred first.
        client: Asks them.
        store: Where it is kept.
        pace: How fast.
        effort: How long each thing is tried.
        at_once_max: Things that are fetched at the same time; others wait.
    """

    def __init__(
        self,
        registries: Sequence[str],
        client: HttpClient,
        store: SiteStore,
        pace: Pace,
        *,
        effort: Effort,
        at_once_max: int,
    ) -> None:
        self._registries = [Registry(url.rstrip("/")) for url in registries]
        self._client = client
        self._store = store
        self._pace = pace
        self._effort = effort
        self._places = asyncio.Semaphore(at_once_max)
        self.fetched_bytes = self.lies = 0

    @property
    def registries(self) -> list[str]:
        """Whom it asks, without secrets."""
        return [str(each) for each in self._registries]

    async def fetch(self, arrival: Arrival) -> None:
        """Bring ``arrival`` to its end, whichever it is; afterwards it is kept, or what came is there to go on from."""
        item, is_useless = arrival.item, False
        try:
            async with self._places:
                await self._complete(arrival)
                await self._store.keep(item, arrival.descriptor)
        except _NoRoomError:
            is_useless = True
            log.warning("%s: the disk is full, so it is passed on without being kept", item)
            arrival.fail(ArrivalError("the disk is full", HTTPStatus.SERVICE_UNAVAILABLE, is_for_lack_of_room=True))
        except ArrivalError as error:
            is_useless = not arrival.arrived_bytes or error.status is HTTPStatus.BAD_GATEWAY
            log.warning("%s given up: %s", item, error)
            arrival.fail(error)
        except OSError as error:
            is_useless = True
            log.warning("%s: not kept: %s", item, error.strerror)
            arrival.fail(ArrivalError(str(error.strerror), HTTPStatus.SERVICE_UNAVAILABLE, is_for_lack_of_room=True))
        finally:
            if not arrival.is_whole:
                arrival.fail(ArrivalError("the cache stops", HTTPStatus.SERVICE_UNAVAILABLE))
            if item not in self._store:
                self._store.leave_part(item, drop=is_useless or arrival.is_whole)
            arrival.close()

    async def relay(self, item: Item, start: int) -> tuple[int | None, AsyncGenerator[bytes]]:
        """Ask for what is from ``start`` on and return the size of the whole and those bytes; nothing is kept.

        Where they begin with the first, the last block comes only if all of it is what it should be.

        Raises:
            ArrivalError: Nobody sends it. Out of the bytes also if they are other ones.
        """
        said: Exception = AbsentError("no registry has it")
        for registry in self._in_order():
            blocks = self._relayed(registry, item, start)
            try:
                total = await anext(blocks)
            except (HttpError, AbsentError) as error:
                said = error
            else:
                assert not isinstance(total, bytes), "the size comes first"
                return total, _bytes_of(blocks)
        status = HTTPStatus.NOT_FOUND if isinstance(said, AbsentError) else HTTPStatus.BAD_GATEWAY
        raise ArrivalError(str(said), status)

    def _in_order(self) -> list[Registry]:
        now = time.monotonic()
        return sorted(self._registries, key=lambda each: max(0.0, each.avoided_until - now))

    async def _complete(self, arrival: Arrival) -> None:
        """Bring all of it, proven.

        Raises:
            ArrivalError: It is not to be had.
            _NoRoomError: The disk is full.
            OSError: The disk's fault.
        """
        item, began_at = arrival.item, time.monotonic()
        proof = item.kind.proof()
        await asyncio.to_thread(_take_in, proof, arrival.descriptor, arrival.arrived_bytes)
        senders: set[str] = {"an earlier attempt"} if arrival.arrived_bytes else set()
        fruitless = 0
        while True:
            before = arrival.arrived_bytes
            absent, said, is_here = 0, "", False
            for registry in self._in_order():
                had = arrival.arrived_bytes
                try:
                    await self._pull(registry, arrival, proof, began_at)
                    is_here = True
                except AbsentError:
                    absent += 1
                except HttpError as error:
                    said = str(error)
                    registry.avoid(_DOUBT_SECONDS)
                    log.warning("%s, at byte %d", error, arrival.arrived_bytes)
                if arrival.arrived_bytes > had:
                    senders.add(str(registry))
                if is_here:
                    self._prove(arrival, proof, senders, registry)
                    took = time.monotonic() - began_at
                    size, asked = arrival.arrived_bytes, arrival.asked
                    level = logging.DEBUG if item.folder == CHUNKS else logging.INFO  # a release has thousands
                    log.log(level, "%s: %d bytes from %s in %.1f s, asked for by %d", item, size, registry, took, asked)
                    return
            if absent == len(self._registries):
                raise ArrivalError("no registry has it", HTTPStatus.NOT_FOUND)
            fruitless = 0 if arrival.arrived_bytes > before else fruitless + 1
            if fruitless >= self._effort.rounds_max:
                raise ArrivalError(said, HTTPStatus.GATEWAY_TIMEOUT)
            self._check_time(arrival, began_at)
            await asyncio.sleep(self._effort.pause_seconds * 2 ** max(0, fruitless - 1))

    def _prove(self, arrival: Arrival, proof: Proof, senders: set[str], registry: Registry) -> None:
        if proof.is_of(arrival.item.sha256):
            arrival.complete()
            return
        self.lies += 1
        if len(senders) <= 1:
            registry.avoid(_DISTRUST_SECONDS)
        raise ArrivalError(f"other bytes than its name says, from {', '.join(sorted(senders))}", HTTPStatus.BAD_GATEWAY)

    async def _pull(self, registry: Registry, arrival: Arrival, proof: Proof, began_at: float) -> None:
        """Bring what is missing from one registry.

        Raises:
            AbsentError: It has no such thing.
            HttpError: It does not give it, or not all of it.
        """
        item, offset = arrival.item, arrival.arrived_bytes
        headers = headers_for(item, offset)
        async with self._client.get(f"{registry.url}/{item}", headers) as answer:
            start, total = place_of(registry, answer, item, offset)
            if None not in (total, arrival.total_bytes) and total != arrival.total_bytes:
                raise HttpError(f"{registry}: has {total} bytes, and another registry {arrival.total_bytes}")
            if total is not None and total > self._store.bytes_max:
                raise _NoRoomError
            if arrival.total_bytes is None:
                arrival.announce(total)
            skipped = offset - start
            async with aclosing(answer.blocks(self._pace.block_bytes)) as blocks:
                async for block in blocks:
                    await self._pace.take(len(block))
                    self.fetched_bytes += len(block)
                    self._check_time(arrival, began_at)
                    new, skipped = block[skipped:], max(0, skipped - len(block))
                    if new:
                        await self._write(registry, arrival, proof, new)
            if arrival.total_bytes not in (None, arrival.arrived_bytes):
                raise HttpError(f"{registry}: sent {arrival.arrived_bytes} of {arrival.total_bytes} bytes")

    async def _write(self, registry: Registry, arrival: Arrival, proof: Proof, block: bytes) -> None:
        end = arrival.arrived_bytes + len(block)
        bytes_max = arrival.total_bytes if arrival.total_bytes is not None else arrival.item.kind.bytes_max
        if bytes_max is not None and end > bytes_max:
            raise HttpError(f"{registry}: sends more than {bytes_max} bytes")
        if not self._store.make_room(arrival.item, end):
            raise _NoRoomError
        while True:
            try:
                await asyncio.to_thread(_put, arrival.descriptor, block, arrival.arrived_bytes)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if not self._store.give_up_one():
                    raise _NoRoomError from error
            else:
                proof.update(block)
                arrival.add(len(block))
                return

    def _check_time(self, arrival: Arrival, began_at: float) -> None:
        effort, rate = self._effort, self._pace.bytes_per_second
        slowest = effort.bytes_per_second_min if rate is None else min(effort.bytes_per_second_min, rate // 64 + 1)
        if time.monotonic() - began_at > effort.seconds + arrival.arrived_bytes / slowest:
            raise ArrivalError("too slow", HTTPStatus.GATEWAY_TIMEOUT)

    async def _relayed(self, registry: Registry, item: Item, start: int) -> AsyncGenerator[int | bytes | None]:
        """Give the size of the whole, and then the bytes from ``start`` on."""
        headers = headers_for(item, start)
        proof, held = item.kind.proof(), b""
        async with self._client.get(f"{registry.url}/{item}", headers) as answer:
            begins, total = place_of(registry, answer, item, start)
            yield total
            skipped = start - begins
            async with aclosing(answer.blocks(self._pace.block_bytes)) as blocks:
                async for block in blocks:
                    await self._pace.take(len(block))
                    self.fetched_bytes += len(block)
                    proof.update(block)
                    new, skipped = block[skipped:], max(0, skipped - len(block))
                    if held:
                        yield held
                    held = new
        if not begins and not proof.is_of(item.sha256):
            self.lies += 1
            registry.avoid(_DISTRUST_SECONDS)
            raise ArrivalError(f"{item}: other bytes than its name says, from {registry}", HTTPStatus.BAD_GATEWAY)
        yield held


async def _bytes_of(given: AsyncGenerator[int | bytes | None]) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(given) as blocks:
            async for block in blocks:
                if isinstance(block, bytes):
                    yield block
    except HttpError as error:
        raise ArrivalError(str(error), HTTPStatus.BAD_GATEWAY) from error


def _take_in(proof: Proof, descriptor: int, size_bytes: int) -> None:
    """Let ``proof`` see what is there already."""
    position = 0
    while position < size_bytes:
        block = os.pread(descriptor, min(_REHASH_BYTES, size_bytes - position), position)
        if not block:
            raise OSError("the part became shorter")
        proof.update(block)
        position += len(block)


def _put(descriptor: int, block: bytes, position: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
