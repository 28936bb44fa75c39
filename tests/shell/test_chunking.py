"""Chunks as they are cut, kept, carried in files and served."""

import asyncio
import random
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.adapters.bundles import read_bundle, write_bundle
from orchestrator.adapters.chunking import CHUNK_BYTES_USUAL, cut
from orchestrator.adapters.packing import content_of
from orchestrator.adapters.registry import serve_registry
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from orchestrator.core.releases import ReleaseError
from schemas.chunks import CHUNK_BYTES_MAX, from_stored, name_chunk, read_chunk_list
from schemas.manifest import Format

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DATA = random.Random(1).randbytes(2_000_000)


def build(folder: Path, data: bytes = DATA, version: str = "1.0.0", **changes: Any) -> BuiltRelease:  # noqa: ANN401 - any field
    for path, content in {"app/main.py": b"print(1)", "models/m.bin": data, "config/empty": b""}.items():
        (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / path).write_bytes(content)
    values: dict[str, Any] = {
        "release": f"app-{version}", "version": version, "release_counter": 1, "command": ("true",), "key": KEY,
    }  # fmt: skip
    return build_release(folder / "tree", **{**values, **changes})


def sha256(data: bytes) -> str:
    return name_chunk(data).sha256


def test_chunks_put_together_are_the_content() -> None:
    pieces, start = [], 0
    for chunk in cut(DATA):
        pieces.append(DATA[start : start + chunk.size_bytes])
        assert name_chunk(pieces[-1]) == chunk
        start += chunk.size_bytes

    assert b"".join(pieces) == DATA
    assert all(CHUNK_BYTES_USUAL // 4 <= len(each) <= CHUNK_BYTES_MAX for each in pieces[:-1])
    assert CHUNK_BYTES_USUAL / 2 < len(DATA) / len(pieces) < CHUNK_BYTES_USUAL * 2


@pytest.mark.parametrize("content", [b"", b"x", bytes(1_000_000)])
def test_content_of_any_kind_can_be_cut(content: bytes) -> None:
    assert sum(chunk.size_bytes for chunk in cut(content)) == len(content)


def test_what_is_put_in_changes_the_chunks_around_it_and_no_others() -> None:
    changed = DATA[:900_000] + b"something new" + DATA[900_000:]

    assert len(set(cut(changed)) - set(cut(DATA))) <= 2


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.zst"])
def test_content_is_that_of_the_files_in_their_order_whatever_the_archive(tmp_path: Path, form: Format) -> None:
    built = build(tmp_path, b"model", form=form)

    assert content_of(built.artifact, form) == b"print(1)model"
    assert built.chunk_list == build(tmp_path, b"model").chunk_list
    with pytest.raises(ReleaseError, match="its archive is damaged"):
        content_of(built.artifact[:100], form)


def test_release_without_chunks_says_nothing_of_them(tmp_path: Path) -> None:
    built = build(tmp_path, chunked=False)

    assert built.manifest.chunks is None
    assert b"chunks" not in built.envelope
    assert ReleaseStore(tmp_path / "store").publish(built).by_arch["noarch"].needs == ()
    assert not (tmp_path / "store" / "chunks").exists()


def test_two_releases_keep_what_they_share_once(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    old = build(tmp_path)
    store.publish(old)
    before = set((tmp_path / "store" / "chunks").iterdir())
    new = build(tmp_path, DATA + b"more", "1.1.0")
    assert store.publish(new).by_arch["noarch"].needs == ("chunks",)

    added = set((tmp_path / "store" / "chunks").iterdir()) - before
    assert len(before) > 20
    assert len(added) == 2, "the last chunk, and the list"
    for built in (old, new):
        for place in read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes):
            stored = (tmp_path / "store" / "chunks" / place.chunk.sha256).read_bytes()
            assert name_chunk(from_stored(stored, place.chunk)) == place.chunk
    assert store.load("app-1.1.0") == [new]


def test_list_says_how_many_bytes_each_chunk_takes(tmp_path: Path) -> None:
    built = build(tmp_path, bytes(300_000) + DATA)
    ReleaseStore(tmp_path / "store").publish(built)

    places = read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes)
    assert {(tmp_path / "store" / "chunks" / e.chunk.sha256).stat().st_size - e.stored_bytes for e in places} == {0}
    assert any(each.stored_bytes < each.chunk.size_bytes // 10 for each in places)


def test_chunk_that_another_zlib_has_deflated_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(tmp_path, bytes(300_000))
    monkeypatch.setattr("schemas.chunks._DEFLATE_LEVEL", 1)
    other = build(tmp_path, bytes(300_000), "1.1.0")
    store = ReleaseStore(tmp_path / "store")
    store.publish(other)
    store.publish(built)

    for place in read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes):
        stored = (tmp_path / "store" / "chunks" / place.chunk.sha256).read_bytes()
        assert len(stored) in (place.stored_bytes, place.chunk.size_bytes)
        assert name_chunk(from_stored(stored, place.chunk)) == place.chunk
    assert built.chunk_list != other.chunk_list


def test_list_that_is_not_the_signed_one_is_not_published(tmp_path: Path) -> None:
    built = build(tmp_path)
    other = build(tmp_path, DATA + b"more")

    with pytest.raises(ReleaseError, match="not the one of its manifest"):
        ReleaseStore(tmp_path / "store").publish(replace(built, chunk_list=other.chunk_list))
    assert not (tmp_path / "store" / "releases").exists()


def test_list_about_other_files_is_not_published(tmp_path: Path) -> None:
    built = build(tmp_path)
    other = build(tmp_path, DATA[::-1])
    assert other.manifest.unpacked_bytes == built.manifest.unpacked_bytes
    manifest = built.manifest.model_copy(update={"chunks": other.manifest.chunks})

    with pytest.raises(ReleaseError, match="about other files"):
        ReleaseStore(tmp_path / "store").publish(replace(built, manifest=manifest, chunk_list=other.chunk_list))


def test_chunk_list_travels_in_a_file(tmp_path: Path) -> None:
    built = build(tmp_path)
    write_bundle(tmp_path / "app.release", built)

    assert read_bundle(tmp_path / "app.release") == built


def test_file_without_its_chunk_list_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "app.release", replace(build(tmp_path), chunk_list=b""))

    with pytest.raises(ReleaseError, match="its chunk list is not the one of its manifest"):
        read_bundle(tmp_path / "app.release")


async def test_chunks_are_served_and_may_be_cached_for_ever(tmp_path: Path) -> None:
    built = build(tmp_path)
    ReleaseStore(tmp_path / "store").publish(built)
    async with serve_registry(tmp_path / "store", "127.0.0.1", 0) as url:

        def ask() -> tuple[bytes, str]:
            with urllib.request.urlopen(f"{url}/chunks/{sha256(built.chunk_list)}", timeout=20) as answer:
                return answer.read(), answer.headers["Cache-Control"]

        stored, caching = await asyncio.to_thread(ask)

    assert built.manifest.chunks is not None
    assert from_stored(stored, built.manifest.chunks.chunk) == built.chunk_list
    assert caching == "public, max-age=31536000, immutable"
