"""Chunks that stand in a slot already, found by what was kept with it: its chunk list and its files in their order.

Nothing of it is trusted. A file that changed, a list that was damaged or a link in the place of a file give no chunk,
or bytes that are seen not to be it; what they do not give is fetched.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from device_client.adapters.durable import write_durably
from schemas.chunks import CHUNK_LIST_BYTES_MAX, Chunk, name_chunk, read_chunk_list
from schemas.errors import DecodeError
from schemas.manifest import Manifest, check_artifact_path

CHUNK_LIST: Final = ".chunks"
FILES: Final = ".files"
_FILES_BYTES_MAX: Final = 16 * 1024 * 1024
_FILES_MAX: Final = 20_000


class _File(NamedTuple):
    offset_bytes: int
    size_bytes: int
    path: str


def keep_with_slot(folder: Path, manifest: Manifest, chunk_list: bytes) -> None:
    """Put beside the files of a slot, before it is sealed, where their chunks are.

    Raises:
        OSError: The disk's fault.
    """
    lines = (f"{entry.size_bytes} {entry.path}\n" for entry in manifest.files)
    write_durably(folder / FILES, "".join(lines).encode("ascii"))
    write_durably(folder / CHUNK_LIST, chunk_list)


class SlotChunks:
    """What can be had from one slot.

    Args:
        folder: The slot.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._folder = folder
        self._files: list[_File] = []
        self._offsets: dict[Chunk, int] = {}
        self._list_sha256 = ""
        with suppress(OSError, ValueError, DecodeError):
            self._files = _read_files(folder)
            content_bytes = sum(each.size_bytes for each in self._files)
            chunk_list = _read(folder / CHUNK_LIST, CHUNK_LIST_BYTES_MAX)
            places = read_chunk_list(chunk_list, content_bytes)
            self._offsets = {each.chunk: each.offset_bytes for each in places}
            self._list_sha256 = name_chunk(chunk_list).sha256

    def __contains__(self, chunk: Chunk) -> bool:
        """Say whether it should be there."""
        return chunk in self._offsets

    @property
    def chunks(self) -> Iterable[Chunk]:
        """All that should be there."""
        return self._offsets.keys()

    def get_list(self, sha256: str) -> bytes | None:
        """Return the chunk list if that is its name."""
        if sha256 != self._list_sha256:
            return None
        with suppress(OSError):
            data = _read(self._folder / CHUNK_LIST, CHUNK_LIST_BYTES_MAX)
            return data if name_chunk(data).sha256 == sha256 else None
        return None

    def get(self, chunk: Chunk) -> bytes | None:
        """Return the bytes of ``chunk`` as the slot's files have them; None if they are not there any more."""
        offset, left = self._offsets[chunk], chunk.size_bytes
        parts: list[bytes] = []
        number = bisect_right(self._files, offset, key=lambda each: each.offset_bytes) - 1
        try:
            while left:
                file = self._files[number]
                start = offset - file.offset_bytes
                part = _span(self._folder / file.path, start, min(left, file.size_bytes - start))
                parts.append(part)
                offset, left, number = offset + len(part), left - len(part), number + 1
                if offset != file.offset_bytes + file.size_bytes and left:
                    return None
        except (OSError, IndexError):
            return None
        data = b"".join(parts)
        return data if name_chunk(data) == chunk else None


def _read_files(folder: Path) -> list[_File]:
    files: list[_File] = []
    offset = 0
    for line in _read(folder / FILES, _FILES_BYTES_MAX).decode("ascii").splitlines()[:_FILES_MAX]:
        size, _, path = line.partition(" ")
        check_artifact_path(path)
        files.append(_File(offset, int(size), path))
        offset += int(size)
    return files


def _read(path: Path, bytes_max: int) -> bytes:
    return _span(path, 0, bytes_max)


def _span(path: Path, offset: int, size_bytes: int) -> bytes:
    """Read from a regular file and never from anything else, which might not give an end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is no file")
        return os.pread(descriptor, size_bytes, offset)
    finally:
        os.close(descriptor)
