"""Cutting a release into chunks, and keeping them where devices fetch them.

Cuts follow the content (FastCDC), so what is the same in two releases is cut the same way wherever it stands, and is
kept once. The cut is no matter of trust: a device proves every file by the signed digest, whatever it was put together
from. So another version of the library costs sharing at most.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyfastcdc import FastCDC

from orchestrator.adapters.durable import sync_folder
from orchestrator.core.releases import ReleaseError
from schemas.chunks import (
    CHUNK_BYTES_MAX,
    CHUNKS_MAX,
    Chunk,
    name_chunk,
    read_chunk_list,
    to_stored,
    write_chunk_list,
)
from schemas.errors import DecodeError
from schemas.manifest import ChunkList

CHUNKS: Final = "chunks"
CHUNK_BYTES_USUAL: Final = 64 * 1024
_SPREAD: Final = 4
"""A chunk is at least a quarter of the usual size and at most four times as large."""


def cut(content: bytes, usual_bytes: int = CHUNK_BYTES_USUAL) -> list[Chunk]:
    """Return the chunks of ``content``, the same for the same bytes."""
    cutter = FastCDC(
        usual_bytes,
        min_size=usual_bytes // _SPREAD,
        max_size=min(usual_bytes * _SPREAD, CHUNK_BYTES_MAX),
        normalized_chunking=1,
        seed=0,
    )
    return [name_chunk(bytes(piece.data)) for piece in cutter.cut_buf(content)]


def list_chunks(content: bytes) -> tuple[ChunkList | None, bytes]:
    """Return the chunk list of ``content`` and what a manifest says of it; None where there is nothing to cut.

    Raises:
        ReleaseError: It is too large to be cut; the publisher's fault.
    """
    chunks = cut(content)
    if not chunks:
        return None, b""
    if len(chunks) > CHUNKS_MAX:
        raise ReleaseError(f"{len(chunks)} chunks, at most {CHUNKS_MAX} are allowed; build it with --no-chunks")
    written = write_chunk_list(_with_stored(chunks, content))
    named = name_chunk(written)
    return ChunkList(sha256=named.sha256, size_bytes=named.size_bytes), written


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a release that is published.

    Attributes:
        chunk: Its name.
        data: Its bytes, or what the list takes for them.
        stored_bytes: What its stored form has, by the list.
    """

    chunk: Chunk
    data: memoryview
    stored_bytes: int

    def is_kept_in(self, size_bytes: int | None) -> bool:
        """Say whether what is under its name, so many bytes or None, may be it."""
        return size_bytes in (self.stored_bytes, self.chunk.size_bytes)

    def stored(self, size_bytes: int | None) -> bytes:
        """Return a stored form that fits every list that names it, given what is under its name now.

        Another zlib deflates to another size. Then, or where a list of before says another one already, it is kept as
        it is, which fits every list.

        Raises:
            ReleaseError: The list is about other bytes.
        """
        data = bytes(self.data)
        if name_chunk(data) != self.chunk:
            raise ReleaseError("its chunk list is about other files; build the release again")
        stored = to_stored(data)
        return stored if len(stored) == self.stored_bytes and size_bytes is None else data


def pieces_of(said: ChunkList, chunk_list: bytes, content: bytes) -> list[Piece]:
    """Return the chunks of ``content``, each once.

    Raises:
        ReleaseError: The list is not the one that is signed, or is not about this content.
    """
    if name_chunk(chunk_list) != said.chunk:
        raise ReleaseError("its chunk list is not the one of its manifest; build the release again")
    try:
        places = read_chunk_list(chunk_list, len(content))
    except DecodeError as error:
        raise ReleaseError(f"its chunk list does not fit: {error}; build the release again") from error
    view = memoryview(content)
    found = {
        each.chunk: Piece(
            each.chunk, view[each.offset_bytes : each.offset_bytes + each.chunk.size_bytes], each.stored_bytes
        )
        for each in places
    }
    return list(found.values())


def keep_chunks(folder: Path, said: ChunkList, chunk_list: bytes, content: bytes) -> None:
    """Put a chunk list and all chunks of ``content`` into ``folder``, each whole or not at all; what is there stays.

    Raises:
        ReleaseError: As ``pieces_of``.
        OSError: They cannot be written.
    """
    pieces = pieces_of(said, chunk_list, content)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {each.chunk: _size_of(folder / each.chunk.sha256) for each in pieces}
    missing = [each for each in pieces if not each.is_kept_in(kept[each.chunk])]
    _write_all(folder, ((each.chunk.sha256, each.stored(kept[each.chunk])) for each in missing))
    _write_all(folder, [(said.sha256, to_stored(chunk_list))])  # behind what it names


def _with_stored(chunks: Sequence[Chunk], content: bytes) -> Iterator[tuple[Chunk, int]]:
    sizes: dict[Chunk, int] = {}
    start = 0
    for chunk in chunks:
        end = start + chunk.size_bytes
        if chunk not in sizes:
            sizes[chunk] = len(to_stored(content[start:end]))
        yield chunk, sizes[chunk]
        start = end


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _write_all(folder: Path, named: Iterable[tuple[str, bytes]]) -> None:
    """Put each under its name; a power cut leaves it whole or away."""
    for name, stored in named:
        pending = folder / f"{name}.pending"
        with pending.open("wb") as file:
            file.write(stored)
            file.flush()
            os.fsync(file.fileno())
        pending.replace(folder / name)
    sync_folder(folder)
