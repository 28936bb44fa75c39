"""Releases in an object store: published once, whole or not at all, and served by a registry that has none of it."""

import asyncio
import hashlib
import logging
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from orchestrator.adapters.chunking import CHUNKS
from orchestrator.adapters.content import Item
from orchestrator.adapters.http_client import USUAL_PATIENCE, HttpClient
from orchestrator.adapters.object_registry import ObjectRegistry, serve_objects
from orchestrator.adapters.object_releases import Sent, publish_release
from orchestrator.adapters.object_store import ObjectStoreError, open_objects
from orchestrator.adapters.objects import Objects, connect
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.core.releases import ReleaseError
from schemas.chunks import read_chunk_list
from tests.shell.s3_server import ACCESS_KEY, BUCKET, S3, SECRET_KEY, Exchange, check_signature, s3_server
from tests.shell.site_world import Got, fetch, site
from tests.shell.test_chunking import build

STORE = f"s3://{BUCKET}/fleet"
DATA = random.Random(7).randbytes(900_000)
INDEX = "fleet/releases/app-1.0.0.json"
SECRETS = re.compile(f"{re.escape(SECRET_KEY)}|{ACCESS_KEY}|X-Amz-|Signature=|AWS4-HMAC")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server() as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


def refusing(status: int, code: str) -> Callable[[Exchange], bool]:
    def disturb(exchange: Exchange) -> bool:
        exchange.refuse(status, code, f"AWS4-HMAC-SHA256 {ACCESS_KEY}")
        return True

    return disturb


async def ask(url: str, path: str, method: str = "GET", **headers: str) -> Got:
    return await asyncio.to_thread(fetch, url, path, method, headers)


async def test_what_is_published_is_what_a_folder_would_hold(s3: S3, tmp_path: Path) -> None:
    built = build(tmp_path, DATA)
    ReleaseStore(tmp_path / "store").publish(built)

    sent = publish_release(connect(STORE), built)

    files = {f"fleet/{p.relative_to(tmp_path / 'store')}": p for p in (tmp_path / "store").glob("*/*")}
    assert s3.objects == {name: path.read_bytes() for name, path in files.items()}
    assert (sent.objects, sent.sent) == (len(files) - 1, len(files) - 1)


async def test_publishing_again_sends_nothing_but_what_is_missing(s3: S3, tmp_path: Path) -> None:
    built = build(tmp_path, DATA)
    first = publish_release(connect(STORE), built)
    before = dict(s3.objects)
    s3.asked.clear()

    assert publish_release(connect(STORE), built) == Sent(objects=first.objects)
    assert s3.count("PUT", "fleet/chunks/") == s3.count("PUT", "fleet/artifacts/") == 0
    lost = next(name for name in s3.objects if name.startswith("fleet/chunks/"))
    del s3.objects[lost]

    assert publish_release(connect(STORE), built).sent == 1
    assert s3.objects == before


async def test_next_release_sends_only_chunks_that_are_new(s3: S3, tmp_path: Path) -> None:
    publish_release(connect(STORE), build(tmp_path, DATA))

    sent = publish_release(connect(STORE), build(tmp_path, DATA + b"more", "1.1.0"))

    assert sent.sent < sent.objects / 2


@pytest.mark.parametrize("after", [0, 5, 10_000])
async def test_release_whose_publishing_broke_off_is_not_visible_and_is_gone_on_with(
    after: int, s3: S3, tmp_path: Path
) -> None:
    built = build(tmp_path, DATA)

    def disturb(exchange: Exchange) -> bool:
        if exchange.method == "PUT" and (s3.count("PUT", "") >= after or exchange.key == INDEX):
            exchange.refuse(403, "AccessDenied")
            return True
        return False

    s3.disturb = disturb
    with pytest.raises(ObjectStoreError, match="it refuses us"):
        publish_release(connect(STORE), built)
    there = set(s3.objects)
    assert INDEX not in there
    s3.disturb = lambda _: False
    s3.asked.clear()

    publish_release(connect(STORE), built)

    assert INDEX in s3.objects
    assert not there & {key for method, key, _ in s3.asked if method == "PUT"}, "what was there is not sent again"


async def test_index_is_written_after_everything_that_it_names(s3: S3, tmp_path: Path) -> None:
    publish_release(connect(STORE), build(tmp_path, DATA))

    put = [key.split("/")[1] for method, key, _ in s3.asked if method == "PUT"]
    assert put[-3:] == ["artifacts", "manifests", "releases"]
    assert set(put[:-3]) == {"chunks"}


async def test_name_that_is_taken_by_other_bytes_is_refused_before_anything_is_sent(s3: S3, tmp_path: Path) -> None:
    publish_release(connect(STORE), build(tmp_path, DATA))
    before = dict(s3.objects)

    with pytest.raises(ReleaseError, match=f"{STORE}/releases/app-1.0.0.json: .* give this one a new name"):
        publish_release(connect(STORE), build(tmp_path, b"other"))

    assert s3.objects == before


async def test_two_who_publish_architectures_at_once_lose_none(s3: S3, tmp_path: Path) -> None:
    archs = ("aarch64", "x86_64", "armv7l")
    built = [build(tmp_path, b"model", arch=arch) for arch in archs]

    await asyncio.gather(*(asyncio.to_thread(publish_release, connect(STORE), each) for each in built))

    index = s3.objects[INDEX].decode()
    assert all(f'"{arch}"' in index for arch in archs)


async def test_archive_of_many_parts_arrives_whole(s3: S3, tmp_path: Path) -> None:
    built = build(tmp_path, random.Random(8).randbytes(5_500_000), chunked=False)

    publish_release(connect(STORE), built)

    assert s3.count("POST", "fleet/artifacts/") == 2
    assert s3.objects[f"fleet/artifacts/{built.manifest.artifact.sha256}"] == built.artifact


async def test_chunk_list_about_other_files_is_not_published(s3: S3, tmp_path: Path) -> None:
    built, other = build(tmp_path, DATA), build(tmp_path, DATA[:-1] + b"!", "1.0.0")

    with pytest.raises(ReleaseError, match="build the release again"):
        publish_release(connect(STORE), replace(built, chunk_list=other.chunk_list))

    assert INDEX not in s3.objects


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, r"it refuses us \(403 SignatureDoesNotMatch\); check who the environment"),
        ({"AWS_ACCESS_KEY_ID": "stranger"}, r"it refuses us \(403 InvalidAccessKeyId\)"),
        ({"AWS_ALLOW_HTTP": ""}, "it speaks plain HTTP; set AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "it cannot be reached, or is silent; check AWS_ENDPOINT_URL"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "the environment does not say who we are; set AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": None}, "the environment does not say who we are; set AWS_ACCESS_KEY_ID"),
    ],
)
async def test_what_is_wrong_with_an_object_store_is_said_with_place_and_remedy_and_no_secret(
    variables: dict[str, str | None], said: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)

    with pytest.raises(ObjectStoreError, match=said) as failure:
        open_objects(STORE, "--store").check()

    assert str(failure.value).startswith(f"{STORE}")
    assert not SECRETS.search(str(failure.value))


async def test_bucket_that_is_not_there_and_a_store_that_is_busy_are_told_apart(s3: S3) -> None:
    with pytest.raises(ObjectStoreError, match=r"there is no such bucket or container \(404 NoSuchBucket\); make it"):
        connect("s3://nobodys-bucket/x").check()
    s3.disturb = refusing(503, "SlowDown")
    with pytest.raises(ObjectStoreError, match=r"it answers 503 SlowDown; try again"):
        connect(STORE).check()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("releases", "is no object store's address; write s3://bucket/prefix"),
        ("ftp://host/x", "is no object store's address"),
        ("s3://", "is no object store's address"),
        ("memory:///", "is no object store's address"),
        ("file:///", "is no object store's address"),
        ("s3://key:secret@bucket/x", "holds more than a place; credentials and options come from the environment"),
        ("az://container/x?sig=secret", "holds more than a place"),
        ("s3://[", "is no address"),
        ("file:///no/such/folder", "there is no such folder; make it"),
    ],
)
def test_address_that_is_none_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ObjectStoreError, match=said) as failure:
        open_objects(url, "--store")
    assert "secret" not in str(failure.value)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.adapters.objects", None)

    with pytest.raises(ObjectStoreError, match=r"--to needs obstore; pip install 'tidegate\[orchestrator,objects\]'"):
        open_objects(STORE, "--to")


async def test_registry_leads_to_an_address_that_is_good_for_one_thing_and_a_while(s3: S3, tmp_path: Path) -> None:
    built = build(tmp_path, DATA)
    publish_release(connect(STORE), built)
    names = [f"/manifests/{sha256(built.envelope)}", f"/artifacts/{built.manifest.artifact.sha256}", a_chunk(s3)]
    async with serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=60) as (url, leads_to):
        answers = [await ask(url, name) for name in names]

    assert leads_to == s3.url
    for name, answer in zip(names, answers, strict=True):
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (307, b"", "no-store")
        signed = answer.headers["location"]
        assert (await ask(s3.url, signed.removeprefix(s3.url))).body == s3.objects[f"fleet{name}"]
        assert (await ask(s3.url, signed.replace(name, "/releases/app-1.0.0.json").removeprefix(s3.url))).status == 403
        assert (await ask(s3.url, signed.removeprefix(s3.url), "PUT")).status == 403
        s3.ahead_seconds = 61
        assert (await ask(s3.url, signed.removeprefix(s3.url))).status == 403
        s3.ahead_seconds = 0


async def test_registry_knows_what_is_not_there_and_gives_nothing_else(s3: S3, tmp_path: Path) -> None:
    publish_release(connect(STORE), build(tmp_path, DATA))
    async with serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=60) as (url, _):
        for path in (f"/chunks/{'0' * 64}", "/releases/app-1.0.0.json", "/chunks/..", "/"):
            assert (await ask(url, path)).status == 404
        assert (await ask(url, "/healthz")).body == b"ok"
        head = await ask(url, a_chunk(s3), "HEAD")
        assert (head.status, head.headers["content-length"]) == (200, str(len(s3.objects[f"fleet{a_chunk(s3)}"])))
        s3.asked.clear()
        for _ in range(3):
            assert (await ask(url, a_chunk(s3))).status == 307
    assert s3.asked == [], "what was there once is not looked for again"


async def test_what_many_ask_for_at_once_is_looked_for_once_and_too_much_is_refused() -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    class Slow(Objects):
        def size_of(self, name: str) -> int:
            asked.append(name)
            may_answer.wait(20)
            return 7

    registry = ObjectRegistry(Slow("s3://slow", MemoryStore()), 60)
    items = [Item(CHUNKS, f"{number:064x}") for number in range(201)]
    looking = [asyncio.create_task(registry._size_of(item)) for item in items[:200] for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ObjectStoreError, match="s3://slow: it is slow, and too much is looked for at once"):
        await registry._size_of(items[200])
    may_answer.set()

    assert await asyncio.gather(*looking) == [7] * 600
    assert len(asked) == 200
    assert await registry._size_of(items[0]) == 7
    assert len(asked) == 200
    registry.close()


async def test_store_that_is_away_is_answered_503_and_its_signatures_are_in_no_log(
    s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    publish_release(connect(STORE), build(tmp_path, DATA))
    async with serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=60) as (url, _):
        assert (await ask(url, a_chunk(s3))).status == 307
        s3.disturb = refusing(403, "SignatureDoesNotMatch")
        answer = await ask(url, f"/chunks/{'1' * 64}")

    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert f"{STORE}/chunks/111" in caplog.text
    assert not SECRETS.search(caplog.text + answer.body.decode())


@pytest.mark.parametrize("kind", ["s3", "file", "memory"])
async def test_registry_that_passes_on_gives_whole_things_and_ranges(kind: str, s3: S3, tmp_path: Path) -> None:
    built = build(tmp_path, DATA)
    objects = {
        "s3": lambda: connect(STORE),
        "file": lambda: connect(f"file://{tmp_path}/objects", make=True),
        "memory": lambda: Objects("memory", MemoryStore()),
    }[kind]()
    publish_release(objects, built)
    assert publish_release(objects, built).sent == 0
    publish_release(objects, build(tmp_path, b"another", arch="aarch64"))
    name, size = f"/artifacts/{built.manifest.artifact.sha256}", len(built.artifact)
    async with serve_objects(objects, "127.0.0.1", 0, url_seconds=None) as (url, leads_to):
        assert leads_to is None
        assert (await ask(url, name)).body == built.artifact
        part = await ask(url, name, Range="bytes=1000-")
        assert (part.status, part.body) == (206, built.artifact[1000:])
        assert part.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
        assert (await ask(url, name, Range=f"bytes={size}-")).status == 416


async def test_thing_that_is_cut_off_in_the_store_breaks_off_and_is_no_shorter_thing(
    s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_release(connect(STORE), build(tmp_path, DATA))
    async with serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=None) as (url, _):
        assert (await ask(url, a_chunk(s3))).is_whole
        s3.objects[f"fleet{a_chunk(s3)}"] = s3.objects[f"fleet{a_chunk(s3)}"][:-10]

        assert not (await ask(url, a_chunk(s3))).is_whole
    assert "10 bytes are missing at its end; publish it again" in caplog.text


async def test_cache_of_a_site_follows_to_the_object_store_also_when_an_address_has_run_out(
    s3: S3, tmp_path: Path
) -> None:
    built = build(tmp_path, DATA)
    publish_release(connect(STORE), built)
    refused: list[str] = []

    def disturb(exchange: Exchange) -> bool:
        if exchange.is_presigned and not refused:
            refused.append(exchange.key)
            exchange.refuse(403, "AccessDenied", "Request has expired")
            return True
        return False

    s3.disturb = disturb
    names = [f"/chunks/{place.chunk.sha256}" for place in read_chunk_list(built.chunk_list, len(DATA) + 8)]
    async with (
        serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=60) as (url, _),
        site(tmp_path / "cache", url) as cache,
    ):
        for name in names:
            got = await cache.get(name)
            assert got.body == s3.objects[f"fleet{name}"]
    assert len(refused) == 1


async def test_client_of_a_cache_keeps_its_connection_to_who_redirects(s3: S3) -> None:
    def disturb(exchange: Exchange) -> bool:
        if exchange.path == "/there":
            exchange.say(200, b"it")
        else:
            exchange.say(307, b"", ("Location", "/there"))
        return True

    s3.disturb = disturb
    client = HttpClient(USUAL_PATIENCE)
    for _ in range(3):
        async with client.get(f"{s3.url}/here", {}) as answer:
            assert b"".join([block async for block in answer.blocks(100)]) == b"it"
    client.close()

    assert s3.connections == 1


def a_chunk(s3: S3) -> str:
    return min(name for name in s3.objects if f"/{CHUNKS}/" in name).removeprefix("fleet")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_test_server_takes_the_signature_that_amazon_gives_as_its_example() -> None:
    """See "Authenticating Requests: Using Query Parameters", whose keys and signature these are."""
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
        "X-Amz-Date": "20130524T000000Z",
        "X-Amz-Expires": "86400",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    }
    asked = Exchange("GET", "/test.txt", query, {"host": "examplebucket.s3.amazonaws.com"}, b"", None)  # type: ignore[arg-type] # nothing is answered
    secret, began_at = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", 1369353600

    assert check_signature(asked, secret, began_at) is None
    assert check_signature(asked, secret, began_at + 86_401) == ("AccessDenied", "Request has expired")
    assert check_signature(replace(asked, path="/text.txt"), secret, began_at) is not None
    assert check_signature(replace(asked, query={**query, "X-Amz-Expires": "99999"}), secret, began_at) is not None
