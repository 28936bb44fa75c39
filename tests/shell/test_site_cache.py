"""What a site's cache answers devices: whole things and ranges, once for many, never too many at once."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from tests.device.raw_http import Asked, Server, has, says
from tests.shell.site_world import DATA, NAME, site


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
