"""The content of a release while it is put together, in one file of staging.

Each chunk is written where it belongs, in whatever order they come. What is there after a crash is not remembered but
read: a chunk counts when the bytes in its place have its digest, and then it is never fetched again.

What the whole is worth is proven by the signed digests of the files, whatever it was put together from.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from schemas.chunks import Chunk, Place, name_chunk
from schemas.manifest import FileEntry

_BLOCK_BYTES: Final = 1024 * 1024
_LOSS_BYTES_MAX: Final = 16 * 1024 * 1024
"""What a power cut may take of what was written."""


class Content:
    """A file that becomes the content; of one process at a time, and of any of its threads.

    Args:
        path: Where it is; made if it is not there.
        places: Where each chunk belongs.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, places: Sequence[Place]) -> None:
        self._path = path
        self._places = places
        self._offsets: dict[Chunk, list[int]] = {}
        self._stored_bytes: dict[Chunk, int] = {}
        for place in places:
            self._offsets.setdefault(place.chunk, []).append(place.offset_bytes)
            self._stored_bytes[place.chunk] = place.stored_bytes
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._unsynced_bytes = 0
        self._guard = threading.Lock()

    @property
    def chunks(self) -> Iterable[Chunk]:
        """All that it needs, each once."""
        return self._offsets.keys()

    def stored_bytes(self, chunk: Chunk) -> int:
        """Return what fetching ``chunk`` takes, as its publisher has it."""
        return self._stored_bytes[chunk]

    def find(self, go_on: Callable[[], None]) -> set[Chunk]:
        """Read all that is there and return the chunks that are whole."""
        found: dict[Chunk, int] = {}
        for place in self._places:
            go_on()
            chunk = place.chunk
            data = os.pread(self._descriptor, chunk.size_bytes, place.offset_bytes)
            if len(data) == chunk.size_bytes and name_chunk(data) == chunk:
                found[chunk] = found.get(chunk, 0) + 1
        return {chunk for chunk, count in found.items() if count == len(self._offsets[chunk])}

    def write(self, chunk: Chunk, data: bytes) -> None:
        """Put the bytes of ``chunk``, which are proven, wherever they belong.

        Raises:
            OSError: The disk's fault.
        """
        for start in self._offsets[chunk]:
            view, offset = memoryview(data), start
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        with self._guard:
            self._unsynced_bytes += len(data)
            is_much = self._unsynced_bytes >= _LOSS_BYTES_MAX
            self._unsynced_bytes = 0 if is_much else self._unsynced_bytes
        if is_much:
            os.fdatasync(self._descriptor)

    def finish(self, path: Path) -> None:
        """Give it the name of what is complete.

        Raises:
            OSError: The disk's fault.
        """
        last = self._places[-1]
        os.ftruncate(self._descriptor, last.offset_bytes + last.chunk.size_bytes)
        os.fdatasync(self._descriptor)
        self._path.replace(path)

    def close(self) -> None:
        """Leave it as it is."""
        os.close(self._descriptor)


def has_files(path: Path, files: Iterable[FileEntry]) -> bool:
    """Say whether the content at ``path`` is exactly ``files``, by their digests.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as content:
        for entry in files:
            digest, left = hashlib.sha256(), entry.size_bytes
            while left and (block := content.read(min(left, _BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
            if left or digest.hexdigest() != entry.sha256:
                return False
        return not content.read(1)
