"""A site's cache between devices and registries that are slow, cut off, gone, or lie."""

import asyncio
import errno
import hashlib
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from device_client.adapters.download import download
from orchestrator.adapters import site_cache, site_fetch
from orchestrator.adapters.content import CHUNK_BYTES_MAX, ChunkProof
from orchestrator.adapters.http_client import Patience
from orchestrator.adapters.registry import RegistryError, serve_registry
from orchestrator.adapters.site_cache import check_upstream_url
from orchestrator.adapters.site_store import SiteStoreError
from tests.device.raw_http import Answer, Asked, Server, has, says, serving
from tests.shell.site_world import files_in, name_of, site

DATA = bytes(range(256)) * 4096
NAME = name_of(DATA)
OTHER = b"other" * 1000


@pytest.fixture
def registry() -> Iterator[Server]:
    with serving() as server:
        server.answers[NAME] = has(DATA)
        yield server


@pytest.fixture
def second() -> Iterator[Server]:
    with serving() as server:
        server.answers[NAME] = has(DATA)
        yield server


def breaks_off(data: bytes, after: int) -> Answer:
    """Answer with what ranges ask for, but never more than ``after`` bytes of it."""

    def answer(peer: socket.socket, asked: Asked) -> None:
        rest = data[asked.offset :]
        span = [f"Content-Range: bytes {asked.offset}-{len(data) - 1}/{len(data)}"] if asked.offset else []
        says("206 Partial Content" if span else "200 OK", rest[:after], *span, length=len(rest))(peer, asked)

    return answer


async def test_thirty_devices_at_once_cost_one_download_which_they_see_while_it_comes(
    registry: Server, tmp_path: Path
) -> None:
    may_end = threading.Event()

    def slowly(peer: socket.socket, asked: Asked) -> None:
        says("200 OK", DATA[:1000], length=len(DATA))(peer, asked)
        may_end.wait(20)
        peer.sendall(DATA[1000:])

    registry.answers[NAME] = slowly
    async with site(tmp_path, registry.url) as cache:
        address = cache.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        writer.write(f"GET {NAME} HTTP/1.1\r\nHost: cache\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(999) == DATA[:999], "it is given on before the registry has sent the rest"
        asking = [asyncio.create_task(cache.get(NAME)) for _ in range(29)]
        await cache.until(lambda status: status["misses"] == 30)
        may_end.set()
        got = await asyncio.gather(*asking)
        assert await reader.readexactly(len(DATA) - 999) == DATA[999:]
        writer.close()
        status = await cache.status()

    assert {(each.status, each.body == DATA, each.is_whole) for each in got} == {(200, True, True)}
    assert len(registry.asked) == 1
    assert (status["fetched_bytes"], status["miss_bytes"]) == (len(DATA), 30 * len(DATA))


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


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=1000-", 1000, len(DATA)), ("bytes=10-19", 10, 20), ("bytes=-5", len(DATA) - 5, len(DATA)),
     (f"bytes=1000-{10**9}", 1000, len(DATA))],
)  # fmt: skip
async def test_ranges_are_answered_from_the_disk_and_while_it_comes(
    registry: Server, tmp_path: Path, asked: str, start: int, end: int, *, is_there: bool
) -> None:
    async with site(tmp_path, registry.url) as cache:
        if is_there:
            await cache.get(NAME)
            await cache.settled()
        got = await cache.get(NAME, Range=asked)

    assert (got.status, got.body) == (206, DATA[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=x-", "bytes=5-3", "bytes=-0", "lines=1-2"])
async def test_what_is_no_single_range_gets_all_of_it(registry: Server, tmp_path: Path, asked: str) -> None:
    async with site(tmp_path, registry.url) as cache:
        got = await cache.get(NAME, Range=asked)

    assert (got.status, got.body) == (200, DATA)


async def test_range_beyond_the_end_and_another_tag_are_answered_as_a_registry_does(
    registry: Server, tmp_path: Path
) -> None:
    async with site(tmp_path, registry.url) as cache:
        beyond = await cache.get(NAME, Range=f"bytes={len(DATA)}-")
        other = await cache.get(NAME, Range="bytes=5-", If_Range='"other"')

    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert (other.status, other.body) == (200, DATA)


async def test_head_is_answered_without_a_body(registry: Server, tmp_path: Path) -> None:
    async with site(tmp_path, registry.url) as cache:
        got = await cache.head(NAME)

    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", str(len(DATA)))


@pytest.mark.parametrize(
    "path",
    [
        "/artifacts/..%2f..%2fetc%2fpasswd",
        "/artifacts/ABC",
        f"/secrets/{'a' * 64}",
        f"/incoming/{'a' * 64}",
        "/",
        "/.lock",
    ],
)
async def test_only_what_is_named_by_its_digest_is_asked_for(registry: Server, tmp_path: Path, path: str) -> None:
    async with site(tmp_path, registry.url) as cache:
        assert (await cache.get(path)).status == 404

    assert registry.asked == []


async def test_download_goes_on_where_the_registry_broke_off(registry: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = breaks_off(DATA, 300_000)
    async with site(tmp_path, registry.url) as cache:
        got = await cache.get(NAME)
        status = await cache.status()

    assert (got.body, got.is_whole) == (DATA, True)
    assert [each.offset for each in registry.asked] == [0, 300_000, 600_000, 900_000]
    assert status["fetched_bytes"] == len(DATA)


async def test_another_registry_goes_on_when_the_first_is_gone(
    registry: Server, second: Server, tmp_path: Path
) -> None:
    registry.answers[NAME] = says("200 OK", DATA[:5000], length=len(DATA))
    async with site(tmp_path, registry.url, second.url) as cache:
        got = await cache.get(NAME)

    assert (got.body, got.is_whole) == (DATA, True)
    assert [each.offset for each in second.asked] == [5000]


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


async def test_registry_that_ignores_ranges_is_read_over(registry: Server, second: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = says("200 OK", DATA[:5000], length=len(DATA))
    second.answers[NAME] = says("200 OK", DATA)
    async with site(tmp_path, registry.url, second.url) as cache:
        assert (await cache.get(NAME)).body == DATA


@pytest.mark.parametrize("kept_length", [len(DATA), None])
async def test_lie_is_never_completed_nor_kept_and_the_liar_is_asked_last(
    registry: Server, second: Server, tmp_path: Path, kept_length: int | None
) -> None:
    lie = b"x" + DATA[1:]
    registry.answers[NAME] = (
        says("200 OK", lie) if kept_length else says("200 OK", _chunked(lie), "Transfer-Encoding: chunked", length=None)
    )
    async with site(tmp_path, registry.url, second.url) as cache:
        lied = await cache.get(NAME)
        assert (lied.is_whole, len(lied.body) < len(DATA)) == (False, True)
        await cache.settled()
        assert files_in(tmp_path) == set()
        assert (await cache.get(NAME)).body == DATA
        status = await cache.status()

    assert (len(registry.asked), len(second.asked), status["lies"]) == (1, 1, 1)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


async def test_body_of_unknown_length_is_given_on_and_kept(registry: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = says("200 OK", _chunked(DATA), "Transfer-Encoding: chunked", length=None)
    async with site(tmp_path, registry.url) as cache:
        got = await cache.get(NAME)
        await cache.settled()
        again = await cache.get(NAME, Range="bytes=5-")

    assert (got.body, got.is_whole, again.status) == (DATA, True, 206)
    assert len(registry.asked) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (says("404 Not Found"), 404),
        (says("410 Gone"), 404),
        (says("500 Broken"), 504),
        (says("206 Partial Content", b"x", "Content-Range: bytes 0-0/1"), 504),
        (says("200 OK", b"x", "Content-Encoding: gzip"), 504),
        (says("302 Found", b"", "Location: ftp://example/x"), 504),
        (says("302 Found", b"", f"Location: {NAME}"), 504),
        (lambda peer, _: peer.sendall(b"no HTTP at all\r\n\r\n"), 504),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"), 504),
        (lambda _peer, _asked: None, 504),
    ],
    ids=["absent", "gone", "broken", "unasked part", "encoded", "ftp", "endless redirects", "no http", "endless head",
         "closed"],
)  # fmt: skip
async def test_registry_that_gives_nothing_is_a_short_answer(
    registry: Server,
    tmp_path: Path,
    answer: Answer,
    status: int,
) -> None:
    registry.answers[NAME] = answer
    async with site(tmp_path, registry.url) as cache:
        got = await cache.get(NAME)
        about = await cache.status()

    assert (got.status, got.is_whole) == (status, True)
    assert (about["failed"], about["answering"], about["fetching"]) == (1, 0, 0)


async def test_redirect_elsewhere_is_followed_and_what_comes_is_proven(
    registry: Server, second: Server, tmp_path: Path
) -> None:
    registry.answers[NAME] = says("302 Found", b"", f"Location: {second.url}{NAME}")
    async with site(tmp_path, registry.url) as cache:
        assert (await cache.get(NAME)).body == DATA


async def test_silence_in_the_middle_is_not_waited_for(registry: Server, second: Server, tmp_path: Path) -> None:
    is_over = threading.Event()

    def stops(peer: socket.socket, asked: Asked) -> None:
        says("200 OK", DATA[:5000], length=len(DATA))(peer, asked)
        is_over.wait(20)

    registry.answers[NAME] = stops
    async with site(tmp_path, registry.url, second.url, patience=Patience(2.0, 0.2)) as cache:
        got = await cache.get(NAME)
        is_over.set()

    assert (got.body, got.is_whole) == (DATA, True)


async def test_device_is_sent_away_before_it_gives_up_when_no_registry_answers(
    registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_cache, "ANSWER_SECONDS", 0.1)
    is_over = threading.Event()
    registry.answers[NAME] = lambda _peer, _asked: (is_over.wait(20), None)[1]
    async with site(tmp_path, registry.url, patience=Patience(30.0, 30.0)) as cache:
        got = await cache.get(NAME)
        is_over.set()

    assert (got.status, got.headers["retry-after"]) == (504, "5")


async def test_device_whose_cache_was_lied_to_has_the_right_file_from_the_registry(
    registry: Server, second: Server, tmp_path: Path
) -> None:
    registry.answers[NAME] = says("200 OK", b"x" + DATA[1:])
    async with site(tmp_path / "cache", registry.url) as cache:
        await asyncio.get_running_loop().run_in_executor(
            None,
            partial(
                download,
                [cache.url + NAME, second.url + NAME],
                tmp_path / "file",
                size_bytes=len(DATA),
                sha256=NAME.rpartition("/")[2],
                is_cancelled=lambda: False,
            ),
        )

    assert (tmp_path / "file").read_bytes() == DATA


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


async def test_too_many_at_once_are_told_when_to_come_again(registry: Server, tmp_path: Path) -> None:
    may_end = threading.Event()
    registry.answers[NAME] = lambda peer, asked: (may_end.wait(20), has(DATA)(peer, asked))[1]
    async with site(tmp_path, registry.url, answers_max=1) as cache:
        first = asyncio.create_task(cache.get(NAME))
        await cache.until(lambda status: status["answering"] == 1)
        refused = await cache.get(NAME)
        may_end.set()
        assert (await first).body == DATA

    assert (refused.status, refused.headers["retry-after"]) == (503, "5")


async def test_device_that_leaves_costs_the_others_nothing(registry: Server, tmp_path: Path) -> None:
    may_end = threading.Event()

    def slowly(peer: socket.socket, asked: Asked) -> None:
        says("200 OK", DATA[:1000], length=len(DATA))(peer, asked)
        may_end.wait(20)
        peer.sendall(DATA[1000:])

    registry.answers[NAME] = slowly
    async with site(tmp_path, registry.url) as cache:
        host, port = cache.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {NAME} HTTP/1.1\r\nHost: cache\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await cache.until(lambda status: status["answering"] == 0)
        may_end.set()
        got = await cache.get(NAME)

    assert got.body == DATA
    assert len(registry.asked) == 1


async def test_line_is_not_used_more_than_it_may_be(registry: Server, tmp_path: Path) -> None:
    data = os.urandom(60_000)
    registry.answers[name_of(data)] = has(data)
    loop = asyncio.get_running_loop()
    async with site(tmp_path, registry.url, bandwidth_bytes_per_second=100_000) as cache:
        began_at = loop.time()
        assert (await cache.get(name_of(data))).body == data
        took = loop.time() - began_at

    assert took >= 0.6 - 0.01


async def test_caches_may_stand_in_a_row_before_a_real_registry(tmp_path: Path) -> None:
    store = tmp_path / "store"
    things = [os.urandom(2000) for _ in range(20)]
    (store / "artifacts").mkdir(parents=True)
    for each in things:
        (store / name_of(each)[1:]).write_bytes(each)
    async with (
        serve_registry(store, "127.0.0.1", 0) as url,
        site(tmp_path / "a", url) as near,
        site(tmp_path / "b", near.url) as far,
    ):
        for each in things:
            assert (await far.get(name_of(each))).body == each


async def test_folder_belongs_to_one_cache(registry: Server, tmp_path: Path) -> None:
    async with site(tmp_path, registry.url):
        with pytest.raises(SiteStoreError, match="another cache uses it"):
            async with site(tmp_path, registry.url):
                pass


@pytest.mark.parametrize("url", ["", "registry", "ftp://registry", "http://", "http://r:x", "http://r?token=1"])
def test_registry_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="--registry"):
        check_upstream_url(url)


async def test_password_goes_to_the_registry_and_to_no_log(
    registry: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.answers[NAME] = says("500 Broken")
    url = registry.url.replace("http://", "http://cache:s3cret@")
    async with site(tmp_path, url) as cache:
        await cache.get(NAME)
        status = await cache.status()

    assert caplog.messages
    assert "s3cret" not in caplog.text + str(status)


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
