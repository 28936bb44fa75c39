"""Bringing together the content of a release: what staging and the slots have, and the rest from sources, side by side.

Every chunk is proven before it is written, whoever gave it. An interruption costs what was on its way, nothing else.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from device_client.adapters.chunk_content import Content
from device_client.adapters.chunk_http import HttpChunks, chunk_bases
from device_client.adapters.chunk_slots import SlotChunks
from device_client.adapters.chunk_sources import GoOn, Sources
from device_client.adapters.failure import CancelledError
from device_client.adapters.peers import ORIGIN
from device_client.adapters.slots import SLOT_NAMES
from device_client.core.effects import Source
from schemas.chunks import Chunk
from schemas.messages import Fetched

CONNECTIONS_MAX: Final = 4
STAGED: Final = "staging"


@dataclass(slots=True)
class Receipt:
    """Where the bytes of a release came from.

    Attributes:
        content_bytes: By origin: ``staging`` for what was fetched before, a slot, or a source.
        carried_bytes: What each source sent for that; slots send nothing.
    """

    content_bytes: Counter[str] = field(default_factory=Counter)
    carried_bytes: Counter[str] = field(default_factory=Counter)

    def told(self, source: Source) -> Fetched | None:
        """Return it as an order's report says it; None where nothing had to be brought."""
        if not any(self.content_bytes.values()):
            return None
        names = [
            [HttpChunks(it).name for it in chunk_bases((url,), source.artifact.sha256)]
            for url in source.artifact.sources
        ]
        return Fetched(
            slots=sum(self.content_bytes[slot] for slot in SLOT_NAMES),
            peers=self.carried_bytes[ORIGIN],
            sources=tuple(self.carried_bytes[each[0]] if each else 0 for each in names),
        )

    def __str__(self) -> str:
        return " ".join(f"{origin}={count}" for origin, count in sorted(self.content_bytes.items())) + (
            f" carried={sum(self.carried_bytes.values())}"
        )


class DearError(Exception):
    """The chunks that are missing take more bytes than the caller wants."""


def gather(
    content: Content,
    slots: Sequence[SlotChunks],
    sources: Sources,
    *,
    fetch_bytes_max: int | None = None,
    is_cancelled: Callable[[], bool],
    on_progress: Callable[[float], None],
) -> Receipt:
    """Complete ``content``.

    Args:
        content: What is there of it stays.
        slots: Looked at before anybody is asked.
        sources: Asked for the rest, by several threads.
        fetch_bytes_max: What the rest may take, in stored form, by the chunk list and the lists of the slots; None:
            whatever it takes.
        is_cancelled: Asked again and again.
        on_progress: Told, in percent, how much of what no slot has is there, by stored bytes.

    Raises:
        ChunkMissingError: Nobody has a chunk.
        DearError: More than ``fetch_bytes_max``; nothing is changed then.
        CancelledError: ``is_cancelled`` said so.
        OSError: The disk's fault.
    """

    def go_on() -> None:
        if is_cancelled():
            raise CancelledError

    receipt = Receipt()
    there = content.find(go_on)
    lacking = [each for each in content.chunks if not any(each in slot for slot in slots)]
    if (
        fetch_bytes_max is not None
        and _cost(content, (each for each in lacking if each not in there)) > fetch_bytes_max
    ):
        raise DearError
    missing: list[Chunk] = []
    for chunk in content.chunks:
        go_on()
        if chunk in there:
            receipt.content_bytes[STAGED] += chunk.size_bytes
        elif (origin := _copy(chunk, content, slots)) is not None:
            receipt.content_bytes[origin] += chunk.size_bytes
        else:
            missing.append(chunk)
    had_bytes = _cost(content, (each for each in lacking if each in there))
    work = _Work(content, sources, receipt, missing, had_bytes=had_bytes, go_on=go_on, on_progress=on_progress)
    work.do()
    return receipt


def _cost(content: Content, chunks: Iterable[Chunk]) -> int:
    return sum(map(content.stored_bytes, chunks))


def _copy(chunk: Chunk, content: Content, slots: Iterable[SlotChunks]) -> str | None:
    """Take ``chunk`` from a slot and return from which; None if none has it."""
    for slot in slots:
        if chunk in slot and (data := slot.get(chunk)) is not None:
            content.write(chunk, data)
            return slot.name
    return None


class _Work:
    """What is to be fetched, shared out among threads."""

    def __init__(
        self,
        content: Content,
        sources: Sources,
        receipt: Receipt,
        missing: Sequence[Chunk],
        *,
        had_bytes: int,
        go_on: GoOn,
        on_progress: Callable[[float], None],
    ) -> None:
        self._content, self._sources, self._receipt = content, sources, receipt
        self._count = len(missing)
        self._missing: Iterator[Chunk] = iter(missing)
        self._done_bytes = had_bytes
        self._all_bytes = had_bytes + _cost(content, missing)
        self._asked_go_on, self._on_progress = go_on, on_progress
        self._guard = threading.Lock()
        self._failure: BaseException | None = None

    def do(self) -> None:
        """Bring everything, or raise the first thing that went wrong after all threads have ended."""
        threads = min(CONNECTIONS_MAX, self._count)
        if threads:
            with ThreadPoolExecutor(threads, thread_name_prefix="chunks") as pool:
                for _ in range(threads):
                    pool.submit(self._work)
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while (chunk := self._next()) is not None:
                brought = self._sources.bring(chunk, self._go_on, self._content.stored_bytes(chunk))
                self._content.write(chunk, brought.data)
                self._note(chunk, brought.origin, brought.carried_bytes)
        except BaseException as failure:  # noqa: BLE001 - raised by the thread that waits
            with self._guard:
                self._failure = self._failure or failure

    def _next(self) -> Chunk | None:
        with self._guard:
            return None if self._failure is not None else next(self._missing, None)

    def _go_on(self) -> None:
        if self._failure is not None:
            raise CancelledError
        self._asked_go_on()

    def _note(self, chunk: Chunk, origin: str, carried_bytes: int) -> None:
        with self._guard:
            self._receipt.content_bytes[origin] += chunk.size_bytes
            self._receipt.carried_bytes[origin] += carried_bytes
            self._done_bytes += self._content.stored_bytes(chunk)
            self._on_progress(100 * self._done_bytes / self._all_bytes)
