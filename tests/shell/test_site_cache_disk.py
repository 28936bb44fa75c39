"""What a site's cache keeps: within a bound, on a disk that fills up or rots, and nothing that is false."""

import asyncio
import errno
import hashlib
import os
import zlib
from pathlib import Path

import pytest

from orchestrator.adapters import site_fetch
from orchestrator.adapters.content import CHUNK_BYTES_MAX, ChunkProof
from orchestrator.adapters.site_store import SiteStoreError
from tests.device.raw_http import Server, has, says, serving
from tests.shell.site_world import DATA, NAME, OTHER, breaks_off, files_in, name_of, site


async def test_second_request_is_served_from_the_disk_also_without_a_registry(tmp_path: Path) -> None:
    with serving() as server:
        server.answers[NAME] = has(DATA)
        async with site(tmp_path, server.url) as cache:
            assert (await cache.get(NAME)).body == DATA
    async with site(tmp_path, server.url) as cache:  # a new process, and the registry is gone
        got = await cache.get(NAME)
        status = await cache.status()

    assert (got.status, got.body) == (200, DATA)
    assert got.headers["etag"] == f'"{NAME.rpartition("/")[2]}"'
    assert got.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (status["hits"], status["misses"], status["hit_bytes"]) == (1, 0, len(DATA))


async def test_what_was_given_up_is_gone_on_from_after_a_restart(registry: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = lambda peer, asked: (
        says("503 Later")(peer, asked) if asked.offset else breaks_off(DATA, 5000)(peer, asked)
    )
    async with site(tmp_path, registry.url) as cache:
        got = await cache.get(NAME)
        assert (got.body, got.is_whole) == (DATA[:4999], False)
    registry.answers[NAME] = has(DATA)
    registry.asked.clear()
    async with site(tmp_path, registry.url) as cache:
        assert (await cache.get(NAME)).body == DATA

    assert [each.offset for each in registry.asked] == [5000]


async def test_least_recently_used_goes_when_the_disk_bound_is_reached(registry: Server, tmp_path: Path) -> None:
    things = [os.urandom(1000) for _ in range(4)]
    for each in things:
        registry.answers[name_of(each)] = has(each)
    async with site(tmp_path, registry.url, disk_bytes_max=3000) as cache:
        for each in [*things[:3], things[0], things[3]]:
            assert (await cache.get(name_of(each))).body == each
            await cache.settled()
        status = await cache.status()

    assert files_in(tmp_path) == {name_of(each)[1:] for each in (things[0], things[2], things[3])}
    assert (status["disk_bytes"], status["evicted_bytes"]) == (3000, 1000)


async def test_what_is_larger_than_the_disk_bound_is_passed_on_and_nothing_is_evicted_for_it(
    registry: Server, tmp_path: Path
) -> None:
    registry.answers[name_of(OTHER)] = has(OTHER)
    async with site(tmp_path, registry.url, disk_bytes_max=10_000) as cache:
        await cache.get(name_of(OTHER))
        await cache.settled()
        got = await cache.get(NAME)
        part = await cache.get(NAME, Range="bytes=1000-1999")
        await cache.until(lambda status: status["answering"] == 0)
        status = await cache.status()

    assert (got.status, got.body, got.is_whole) == (200, DATA, True)
    assert (part.status, part.body) == (206, DATA[1000:2000])
    assert files_in(tmp_path) == {name_of(OTHER)[1:]}
    assert status["relayed"] == 2


async def test_lie_is_not_completed_when_it_is_only_passed_on(registry: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = says("200 OK", b"x" + DATA[1:])
    async with site(tmp_path, registry.url, disk_bytes_max=10_000) as cache:
        assert not (await cache.get(NAME)).is_whole


async def test_disk_that_fills_up_midway_costs_no_device_its_download(
    registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = site_fetch._put

    def full_after_some(descriptor: int, block: bytes, position: int) -> None:
        if position > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(descriptor, block, position)

    monkeypatch.setattr(site_fetch, "_put", full_after_some)
    async with site(tmp_path, registry.url) as cache:
        got = await asyncio.gather(*(cache.get(NAME) for _ in range(5)))
        status = await cache.status()

    assert {(each.status, each.body == DATA, each.is_whole) for each in got} == {(200, True, True)}
    assert files_in(tmp_path) == set()
    assert status["disk_bytes"] == 0


async def test_full_disk_makes_room_of_what_is_there_before_it_gives_up(
    registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.answers[name_of(OTHER)] = has(OTHER)
    put = site_fetch._put

    def full_while_other_is_there(descriptor: int, block: bytes, position: int) -> None:
        if (tmp_path / name_of(OTHER)[1:]).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        put(descriptor, block, position)

    async with site(tmp_path, registry.url) as cache:
        await cache.get(name_of(OTHER))
        await cache.settled()
        monkeypatch.setattr(site_fetch, "_put", full_while_other_is_there)
        assert (await cache.get(NAME)).body == DATA

    assert files_in(tmp_path) == {NAME[1:]}


async def test_file_that_rotted_is_fetched_again(registry: Server, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / NAME[1:]).write_bytes(b"x" + DATA[1:])
    async with site(tmp_path, registry.url) as cache:
        assert (await cache.get(NAME)).body == DATA

    assert (tmp_path / NAME[1:]).read_bytes() == DATA


async def test_folder_belongs_to_one_cache(registry: Server, tmp_path: Path) -> None:
    async with site(tmp_path, registry.url):
        with pytest.raises(SiteStoreError, match="another cache uses it"):
            async with site(tmp_path, registry.url):
                pass


CHUNK = b"a chunk of text " * 1000


@pytest.mark.parametrize("stored", [CHUNK, zlib.compress(CHUNK)])
async def test_chunk_is_kept_when_its_content_is_what_it_is_called(
    registry: Server, tmp_path: Path, stored: bytes
) -> None:
    path = name_of(CHUNK, "chunks")
    registry.answers[path] = has(stored)
    async with site(tmp_path, registry.url) as cache:
        assert (await cache.get(path)).body == stored

    assert files_in(tmp_path) == {path[1:]}


SMALL = os.urandom(100)


@pytest.mark.parametrize(
    ("stored", "content"),
    [
        (zlib.compress(CHUNK)[:-1], CHUNK),
        (zlib.compress(CHUNK) + b"x", CHUNK),
        (zlib.compress(SMALL), SMALL),
        (zlib.compress(b"\0" * (CHUNK_BYTES_MAX + 1)), b"\0" * (CHUNK_BYTES_MAX + 1)),
        (b"neither", CHUNK),
    ],
    ids=["cut off", "more behind", "deflated for nothing", "bomb", "other bytes"],
)
def test_what_no_device_would_take_as_a_chunk_is_none(stored: bytes, content: bytes) -> None:
    proof = ChunkProof()
    for start in range(0, len(stored), 1000):
        proof.update(stored[start : start + 1000])

    assert not proof.is_of(hashlib.sha256(content).hexdigest())
