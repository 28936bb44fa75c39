"""Bringing a release into caches before devices ask for it: each of its files is asked for once, and thrown away.

It needs no rights, because a cache gives what it is asked for to anybody. What is received is proven all the same, so
that what is said to be staged is the release.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from orchestrator.adapters.content import Item
from orchestrator.adapters.http_client import USUAL_PATIENCE, HttpClient, HttpError, Patience

_BLOCK_BYTES: Final = 256 * 1024
_ATTEMPTS_MAX: Final = 5
PAUSE_SECONDS: float = 2.0
"""Between two attempts for the same file."""
PATIENCE: Final = Patience(USUAL_PATIENCE.connect_seconds, 30.0)
"""A cache may be silent for as long as a device waits."""
_AT_ONCE: Final = 8


class NotThereError(HttpError):
    """The cache's registries do not have it, and asking again would not help."""


@dataclass(slots=True)
class Staged:
    """What came of it at one cache.

    Attributes:
        cache: Its address.
        files: How many it has now, as far as they were asked for.
        files_total: How many there are.
        received_bytes: What was given; what it had before as well.
        seconds: How long it took.
        error: Why not all is there; empty if it is.
    """

    cache: str
    files: int = 0
    files_total: int = 0
    received_bytes: int = 0
    seconds: float = 0.0
    error: str = ""


Progress = Callable[[Staged], None]
"""Told of a cache whenever it has a file more."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of a release, and what it weighs on its way at most."""

    item: Item
    size_bytes: int


@dataclass(slots=True)
class Staging:
    """Brings files into caches; used inside one event loop.

    Args:
        files: Of the release, in the order in which they are asked for, several at once.
        on_progress: Told as they come.
    """

    files: Sequence[StagedFile]
    on_progress: Progress = lambda _staged: None
    _client: HttpClient = field(default_factory=lambda: HttpClient(PATIENCE))

    async def run(self, caches: Sequence[str]) -> list[Staged]:
        """Bring all files into all caches at the same time, and say of each what came of it."""
        try:
            return await asyncio.gather(*(self._stage(cache) for cache in caches))
        finally:
            self._client.close()

    async def _stage(self, cache: str) -> Staged:
        staged, began_at = Staged(cache, files_total=len(self.files)), time.monotonic()
        try:
            async with asyncio.TaskGroup() as workers:
                waiting = iter(self.files)
                for _ in range(_AT_ONCE):
                    workers.create_task(self._work(cache, waiting, staged))
        except* HttpError as errors:
            staged.error = str(errors.exceptions[0])
        staged.seconds = time.monotonic() - began_at
        return staged

    async def _work(self, cache: str, waiting: Iterator[StagedFile], staged: Staged) -> None:
        for each in waiting:
            await self._bring(cache, each, staged)
            staged.files += 1

    async def _bring(self, cache: str, file: StagedFile, staged: Staged) -> None:
        """Ask for one file until it has come.

        Raises:
            HttpError: It does not come, or is another one.
        """
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                await self._receive(cache, file, staged)
            except HttpError as error:
                if attempt == _ATTEMPTS_MAX or isinstance(error, NotThereError):
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _receive(self, cache: str, file: StagedFile, staged: Staged) -> None:
        item, proof, received_bytes = file.item, file.item.kind.proof(), 0
        async with self._client.get(f"{cache}/{item}", {"Accept-Encoding": "identity"}) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                raise NotThereError(f"{cache}/{item}: no registry of this cache has it; publish the release there")
            if answer.status != HTTPStatus.OK:
                raise HttpError(f"{cache}/{item}: answers {answer.status}")
            async with aclosing(answer.blocks(_BLOCK_BYTES)) as blocks:
                async for block in blocks:
                    received_bytes += len(block)
                    if received_bytes > file.size_bytes:
                        raise HttpError(f"{cache}/{item}: sends more than {file.size_bytes} bytes")
                    proof.update(block)
        if not proof.is_of(item.sha256):
            raise HttpError(f"{cache}/{item}: sends other bytes than its name says")
        staged.received_bytes += received_bytes
        self.on_progress(staged)
