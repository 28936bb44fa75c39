"""Chunk lists and chunks, honest and hostile."""

import hashlib
import struct
import zlib
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.chunks import (
    CHUNK_BYTES_MAX,
    CHUNK_LIST_BYTES_MAX,
    CHUNKS_MAX,
    Chunk,
    from_stored,
    name_chunk,
    read_chunk_list,
    to_stored,
    write_chunk_list,
)
from schemas.codec import MANIFEST, decode, encode
from schemas.errors import DecodeError
from schemas.manifest import ChunkList, Manifest
from tests.core.test_manifest import make_manifest

A, B = name_chunk(b"a" * 100), name_chunk(b"b" * 50)
LIST = write_chunk_list([(A, 12), (B, 50), (A, 12)])


def row(size_bytes: int, digest: bytes = b"d" * 32, stored_bytes: int = 1) -> bytes:
    return struct.pack(">32sII", digest, size_bytes, stored_bytes)


def test_list_says_where_each_chunk_stands() -> None:
    places = read_chunk_list(LIST, 250)

    assert [(each.chunk, each.offset_bytes, each.stored_bytes) for each in places] == [
        (A, 0, 12),
        (B, 100, 50),
        (A, 150, 12),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"tgchunk",
        b"tgchunk2" + LIST[8:],
        LIST[:-1],
        LIST + b"\0",
        LIST[:8] + row(0) + LIST[8:],
        LIST[:8] + row(CHUNK_BYTES_MAX + 1) + row(2**32 - 1),
        LIST + row(1),
        LIST[:-40],
        write_chunk_list([(A, 12), (B, 50), (Chunk(A.sha256, 99), 12)]) + row(1),
        write_chunk_list([(A, 12), (B, 50), (A, 13)]),
        write_chunk_list([(A, 12), (B, 51), (A, 12)]),
        write_chunk_list([(A, 12), (B, 0), (A, 12)]),
        write_chunk_list([(A, 12), (B, 2**32 - 1), (A, 12)]),
        b"tgchunk1" + row(1) * (CHUNKS_MAX + 1),
        b'{"chunks": []}',
    ],
    ids=[
        "nothing", "half_a_word", "another_kind", "cut", "a_byte_more", "chunk_of_nothing", "chunk_too_large",
        "a_chunk_more", "a_chunk_less", "one_name_of_two_sizes", "one_name_stored_twice", "stored_is_more_than_it",
        "stored_is_nothing", "stored_is_beyond_all", "too_many", "json",
    ],
)  # fmt: skip
def test_list_that_is_wrong_or_about_other_content_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_chunk_list(data, CHUNKS_MAX + 1 if len(data) > CHUNK_LIST_BYTES_MAX else 250)


def test_chunk_is_stored_deflated_only_where_that_is_smaller() -> None:
    noise = hashlib.shake_128(b"").digest(1000)

    assert to_stored(noise) == noise
    assert len(to_stored(bytes(1000))) < 30
    for data in (noise, bytes(1000), b"x"):
        assert from_stored(to_stored(data), name_chunk(data)) == data


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        bytes(999),
        bytes(1001),
        b"\1" * 1000,
        zlib.compress(bytes(999)),
        zlib.compress(bytes(1001)),
        zlib.compress(b"\1" * 1000),
        zlib.compress(bytes(1000))[:-1],
        zlib.compress(bytes(1000)) + b"\0",
        zlib.compress(bytes(500)) + zlib.compress(bytes(500)),
        zlib.compress(bytes(5_000_000))[:999],
    ],
    ids=[
        "nothing", "too_short", "too_long", "other_bytes", "deflated_too_short", "deflated_too_long", "deflated_other",
        "deflated_cut", "deflated_and_more", "deflated_twice", "bomb",
    ],
)  # fmt: skip
def test_bytes_that_are_not_the_chunk_are_refused(stored: bytes) -> None:
    with pytest.raises(DecodeError):
        from_stored(stored, name_chunk(bytes(1000)))


def test_bomb_becomes_no_more_than_the_chunk_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self._decoder = real()

        def decompress(self, data: bytes, size_max: int) -> bytes:
            asked.append(size_max)
            return self._decoder.decompress(data, size_max)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the decoder has
            return getattr(self._decoder, name)

    monkeypatch.setattr("schemas.chunks.zlib.decompressobj", Watched)
    with pytest.raises(DecodeError):
        from_stored(zlib.compress(bytes(10_000_000), 9), Chunk("0" * 64, 100_000))

    assert asked == [100_001]


def test_manifest_without_chunks_is_written_as_before_there_were_any() -> None:
    assert b"chunks" not in encode(decode(Manifest, make_manifest(), MANIFEST))


def test_manifest_with_chunks_comes_back_as_it_was() -> None:
    manifest = decode(Manifest, make_manifest(chunks={"sha256": "0" * 64, "size_bytes": 80}), MANIFEST)

    assert manifest.chunks == ChunkList(sha256="0" * 64, size_bytes=80)
    assert decode(Manifest, encode(manifest), MANIFEST) == manifest


@pytest.mark.parametrize("size_bytes", [0, -1, CHUNK_LIST_BYTES_MAX + 1, "80"])
def test_manifest_refuses_a_chunk_list_of_a_size_that_none_has(size_bytes: object) -> None:
    with pytest.raises(ValidationError):
        ChunkList.model_validate({"sha256": "0" * 64, "size_bytes": size_bytes})
