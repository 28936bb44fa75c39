"""Chunks: the content of a release, cut into pieces that are each named by their digest.

The content is all files of a manifest, one behind the other, in its order. The chunk list says how it is cut; it is
named by its own digest in the signed manifest, so where it and its chunks come from does not matter. Whoever has a
chunk gives it in its stored form: deflated where that is smaller, else as it is. The length tells which.

A chunk list is binary, because digests do not compress and a device may hold several: eight letters, then 40 bytes for
each chunk, its digest, its size and how many bytes its publisher's stored form has. The last says beforehand what a
fetch will cost; whoever has no such form gives the chunk as it is.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.errors import DecodeError

CHUNK_BYTES_MAX: Final = 256 * 1024
CHUNKS_MAX: Final = 2**17
"""Eight gibibytes of chunks of the usual size."""
_MAGIC: Final = b"tgchunk1"
_ROW: Final = struct.Struct(">32sII")
CHUNK_LIST_BYTES_MAX: Final = len(_MAGIC) + CHUNKS_MAX * _ROW.size
_DEFLATE_LEVEL: Final = 9


class Chunk(NamedTuple):
    """One piece of content, by its name."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk where it stands in the content, and how many bytes its stored form has."""

    chunk: Chunk
    offset_bytes: int
    stored_bytes: int


def name_chunk(data: bytes) -> Chunk:
    """Return the name of ``data``."""
    return Chunk(hashlib.sha256(data).hexdigest(), len(data))


def write_chunk_list(pieces: Iterable[tuple[Chunk, int]]) -> bytes:
    """Return the chunk list of content that is cut into ``pieces``, each with the size of its stored form."""
    return _MAGIC + b"".join(
        _ROW.pack(bytes.fromhex(chunk.sha256), chunk.size_bytes, stored_bytes) for chunk, stored_bytes in pieces
    )


def read_chunk_list(data: bytes, content_bytes: int) -> tuple[Place, ...]:
    """Return the chunks of content that is ``content_bytes`` long, in order and where they stand.

    Raises:
        DecodeError: It is no chunk list, or not of such content; the publisher's fault.
    """
    rows = data[len(_MAGIC) :]
    if not data.startswith(_MAGIC) or len(rows) % _ROW.size or len(data) > CHUNK_LIST_BYTES_MAX:
        raise DecodeError("it is no chunk list")
    places: list[Place] = []
    known: dict[bytes, tuple[int, int]] = {}
    end = 0
    for digest, size_bytes, stored_bytes in _ROW.iter_unpack(rows):
        sizes = size_bytes, stored_bytes
        if not 0 < stored_bytes <= size_bytes <= CHUNK_BYTES_MAX or known.setdefault(digest, sizes) != sizes:
            raise DecodeError(f"chunk {len(places)} of a chunk list has no size that can be")
        places.append(Place(Chunk(digest.hex(), size_bytes), end, stored_bytes))
        end += size_bytes
    if end != content_bytes:
        raise DecodeError(f"a chunk list is about {end} bytes, and its files have {content_bytes}")
    return tuple(places)


def to_stored(data: bytes) -> bytes:
    """Return a chunk, or a chunk list, in the form in which it lies and travels."""
    deflated = zlib.compress(data, _DEFLATE_LEVEL)
    return deflated if len(deflated) < len(data) else data


def from_stored(stored: bytes, chunk: Chunk) -> bytes:
    """Return the very bytes that ``chunk`` names; a stored form that would become more of them is not followed.

    Raises:
        DecodeError: These are not they; the fault of whoever gave them.
    """
    data = stored
    if len(stored) < chunk.size_bytes:
        decoder = zlib.decompressobj()
        try:
            data = decoder.decompress(stored, chunk.size_bytes + 1)
        except zlib.error as error:
            raise DecodeError(f"chunk {chunk.sha256[:12]} is damaged") from error
        if not decoder.eof or decoder.unused_data:
            raise DecodeError(f"chunk {chunk.sha256[:12]} is not exactly one deflated piece of its size")
    if name_chunk(data) != chunk:
        raise DecodeError(f"chunk {chunk.sha256[:12]} is other bytes")
    return data
