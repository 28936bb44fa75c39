"""Where the bytes of a cache's answer come from: its disk, a file while it arrives, or straight from a registry."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

from orchestrator.adapters.site_arrival import BLOCK_BYTES, Arrival, ArrivalError

Relay = Callable[[int], Awaitable[tuple[int | None, AsyncGenerator[bytes]]]]
"""Gives the size of a thing, and its bytes from a place on, from a registry."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file that is whole."""

    descriptor: int
    total_bytes: int

    async def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give its bytes; see ``Source``."""
        position, end = start, self.total_bytes if end is None else end
        while position < end:
            block = await asyncio.to_thread(os.pread, self.descriptor, min(end - position, BLOCK_BYTES), position)
            if not block:
                raise OSError("the file became shorter")
            position += len(block)
            yield block

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Arriving:
    """A file while it arrives; where the disk fills up meanwhile, the rest is relayed."""

    arrival: Arrival
    relay: Relay

    @property
    def total_bytes(self) -> int | None:
        """The size of the whole thing, if that is known."""
        return self.arrival.total_bytes

    async def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give its bytes; see ``Source``."""
        position = start
        try:
            async with aclosing(self.arrival.blocks(start, end)) as blocks:
                async for block in blocks:
                    position += len(block)
                    yield block
        except ArrivalError as error:
            if not error.is_for_lack_of_room:
                raise
        else:
            return
        total, rest = await self.relay(position)
        if total != self.total_bytes:
            raise ArrivalError("a registry has another size", HTTPStatus.BAD_GATEWAY)
        async with aclosing(_until(rest, position, end)) as blocks:
            async for block in blocks:
                yield block

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What a registry sends, from ``start`` on."""

    total_bytes: int | None
    start: int
    given: AsyncGenerator[bytes]

    async def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give its bytes; see ``Source``."""
        assert start == self.start, "it was asked for from here on"
        async with aclosing(_until(self.given, start, end)) as blocks:
            async for block in blocks:
                yield block

    def close(self) -> None:
        """Let go of it."""


async def _until(given: AsyncGenerator[bytes], position: int, end: int | None) -> AsyncGenerator[bytes]:
    """Give no more than what is before ``end``."""
    async with aclosing(given) as blocks:
        async for block in blocks:
            yield block if end is None else block[: end - position]
            position += len(block)
            if end is not None and position >= end:
                return
