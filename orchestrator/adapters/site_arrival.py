"""A file while it arrives: one writer, and any number of readers that are never told a byte too much.

The last byte is held back until the whole is proven. So whoever has all of a file has the right one, and whoever was
sent something else sees an answer that breaks off.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from http import HTTPStatus

from orchestrator.adapters.content import Item

BLOCK_BYTES = 256 * 1024


class ArrivalError(Exception):
    """It does not arrive.

    Attributes:
        status: What those are answered who have not been sent anything yet.
        is_for_lack_of_room: The disk is full; it could be had without being kept.
    """

    def __init__(self, message: str, status: HTTPStatus, *, is_for_lack_of_room: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_for_lack_of_room = is_for_lack_of_room


class Arrival:
    """Used inside one event loop.

    Attributes:
        descriptor: Of the part; open until ``close``.
        arrived_bytes: How much of it is there.
        total_bytes: How much it will be, as soon as somebody says so.
        is_announced: Whether an upstream has begun to send it.
        is_whole: All of it is there, and proven.
        asked: How many asked for it meanwhile.
        failure: Why no more will come; None while it may.
    """

    def __init__(self, item: Item, descriptor: int, arrived_bytes: int) -> None:
        self.item = item
        self.descriptor = descriptor
        self.arrived_bytes = arrived_bytes
        self.total_bytes: int | None = None
        self.is_announced = self.is_whole = False
        self.asked = 0
        self.failure: ArrivalError | None = None
        self._news = asyncio.Event()

    def announce(self, total_bytes: int | None) -> None:
        """Say that it begins to come, and how much that will be."""
        self.is_announced, self.total_bytes = True, total_bytes
        self._tell()

    def add(self, count_bytes: int) -> None:
        """Say that so many more bytes are in the part."""
        self.arrived_bytes += count_bytes
        self._tell()

    def complete(self) -> None:
        """Say that it is whole and proven."""
        self.is_announced = self.is_whole = True
        self.total_bytes = self.arrived_bytes
        self._tell()

    def fail(self, failure: ArrivalError) -> None:
        """Say that no more will come; the first reason counts."""
        self.failure = self.failure or failure
        self._tell()

    async def announced(self, patience_seconds: float) -> None:
        """Return when it begins to come.

        Raises:
            ArrivalError: It does not, or not in time; it may come later then.
        """
        try:
            async with asyncio.timeout(patience_seconds):
                while not self.is_announced:
                    await self._wait()
        except TimeoutError as error:
            raise ArrivalError("nobody sends it in time", HTTPStatus.GATEWAY_TIMEOUT) from error

    async def blocks(self, start: int, end: int | None) -> AsyncGenerator[bytes]:
        """Give what is from ``start`` to before ``end`` as it comes; without an end, all.

        Raises:
            ArrivalError: No more comes; what was given stays as it is.
        """
        descriptor = os.dup(self.descriptor)
        try:
            position = start
            while end is None or position < end:
                readable = self.arrived_bytes if self.is_whole else self.arrived_bytes - 1
                stop = readable if end is None else min(readable, end)
                if position < stop:
                    block = await asyncio.to_thread(os.pread, descriptor, min(stop - position, BLOCK_BYTES), position)
                    position += len(block)
                    yield block
                elif self.is_whole:
                    return
                else:
                    await self._wait()
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """The writer is done; readers go on."""
        os.close(self.descriptor)

    async def _wait(self) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.is_whole:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
