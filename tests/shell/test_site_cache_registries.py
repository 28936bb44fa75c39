"""A site's cache behind registries that are slow, cut off, gone, or lie."""

import asyncio
import os
import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from device_client.adapters.download import download
from orchestrator.adapters import site_cache
from orchestrator.adapters.http_client import Patience
from orchestrator.adapters.registry import RegistryError, serve_registry
from orchestrator.adapters.site_cache import check_upstream_url
from tests.device.raw_http import Answer, Asked, Server, has, says
from tests.shell.site_world import DATA, NAME, breaks_off, files_in, name_of, site


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


async def test_registry_that_ignores_ranges_is_read_over(registry: Server, second: Server, tmp_path: Path) -> None:
    registry.answers[NAME] = says("200 OK", DATA[:5000], length=len(DATA))
    second.answers[NAME] = says("200 OK", DATA)
    async with site(tmp_path, registry.url, second.url) as cache:
        assert (await cache.get(NAME)).body == DATA


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


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
