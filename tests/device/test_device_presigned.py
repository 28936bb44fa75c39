"""A device whose release lies in an object store: it is led there by addresses that are good for a minute."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_client.adapters.chunk_http import HttpChunks
from device_client.adapters.chunk_sources import ChunkFailedError
from device_client.adapters.failure import StepError
from device_client.core.redirects import NOWHERE_ELSE, Redirects, check_server
from tests.device.chunk_world import places_of
from tests.device.object_world import ObjectWorld, object_world
from tests.device.raw_http import serving
from tests.shell.s3_server import Exchange

SIGNED = re.compile("X-Amz-|Signature", re.IGNORECASE)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectWorld]:
    with object_world(tmp_path, monkeypatch) as made:
        yield made


def once(spoil: Callable[[Exchange], None]) -> Callable[[Exchange], bool]:
    """Spoil the first chunk that is fetched, and nothing else."""
    spoilt: list[str] = []

    def disturb(exchange: Exchange) -> bool:
        if not exchange.is_presigned or "/chunks/" not in exchange.path or spoilt:
            return False
        spoilt.append(exchange.path)
        spoil(exchange)
        return True

    return disturb


def test_device_installs_from_signed_addresses_and_the_registry_gave_it(world: ObjectWorld) -> None:
    receipt = world.install()

    assert receipt is not None
    assert set(receipt.carried_bytes) == {world.url}, "what came counts as the registry's"
    assert world.s3.count("GET", "fleet/artifacts/") == 0


def test_connections_to_registry_and_object_store_are_kept(world: ObjectWorld) -> None:
    world.fetch()

    fetched = world.s3.count("GET", "fleet/chunks/")
    assert fetched > 20
    assert world.s3.connections < fetched / 2


def test_archive_comes_the_same_way_where_there_are_no_chunks(world: ObjectWorld) -> None:
    for key in [key for key in world.s3.objects if "/chunks/" in key]:
        del world.s3.objects[key]

    assert world.fetch() is None
    assert world.s3.count("GET", "fleet/artifacts/") == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda exchange: exchange.refuse(403, "AccessDenied", "Request has expired"),
        lambda exchange: exchange.refuse(400, "ExpiredToken"),
        lambda exchange: exchange.refuse(503, "SlowDown"),
        lambda exchange: exchange.refuse(500, "InternalError"),
        lambda exchange: exchange.say(200, b"other bytes"),
        lambda exchange: exchange.cut(b"half of it"),
        lambda exchange: exchange.say(200, bytes(600_000)),
    ],
    ids=["expired", "expired token", "slow down", "broken", "tampered", "cut off", "more than it has"],
)
def test_answer_of_the_object_store_that_is_no_good_costs_one_more_question(
    spoil: Callable[[Exchange], None], world: ObjectWorld
) -> None:
    world.s3.disturb = once(spoil)

    assert world.fetch() is not None
    assert world.s3.count("GET", "fleet/artifacts/") == 0, "no archive is fetched for it"


def test_archive_whose_address_has_run_out_is_asked_for_anew(world: ObjectWorld) -> None:
    for key in [key for key in world.s3.objects if "/chunks/" in key]:
        del world.s3.objects[key]
    refused: list[str] = []

    def disturb(exchange: Exchange) -> bool:
        if "/artifacts/" in exchange.path and exchange.is_presigned and not refused:
            refused.append(exchange.path)
            exchange.refuse(403, "AccessDenied", "Request has expired")
            return True
        return False

    world.s3.disturb = disturb

    assert world.fetch() is None
    assert world.s3.count("GET", "fleet/artifacts/", 403) == 1
    assert world.s3.count("GET", "fleet/artifacts/") == 1


def test_object_store_that_refuses_for_good_fails_the_download_and_no_signature_is_told(
    world: ObjectWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.s3.ahead_seconds = 100_000  # every address has run out when it comes

    with pytest.raises(StepError) as failure:
        world.fetch()

    assert failure.value.code == "download_failed"
    assert failure.value.retryable
    assert world.slots.verified() == {}, "no slot was touched"
    assert not SIGNED.search(f"{failure.value} {caplog.text}")


def test_object_store_that_is_silent_is_not_waited_for_and_may_be_asked_again(world: ObjectWorld) -> None:
    chunk = places_of(world.built["1.1.0"])[0].chunk
    source = HttpChunks(f"{world.url}/chunks/{{}}", silence_seconds=0.3, redirects=world.redirects)
    world.s3.disturb = once(lambda exchange: exchange.stall())

    with pytest.raises(ChunkFailedError):
        source.get(chunk, lambda: None)

    assert source.get(chunk, lambda: None)
    source.close()


def test_device_does_not_follow_to_what_its_settings_do_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_world(tmp_path, monkeypatch, is_named=False) as world:
        with pytest.raises(StepError, match=f"redirects to {world.s3.url}, which 'redirects'") as failure:
            world.fetch()

        assert world.s3.count("GET", "fleet/") == 0
        assert not SIGNED.search(str(failure.value))


def test_object_store_cannot_lead_further(world: ObjectWorld) -> None:
    with serving() as inside:
        world.s3.disturb = once(lambda exchange: exchange.say(307, b"", ("Location", f"{inside.url}/reboot")))

        assert world.fetch() is not None
        assert inside.asked == []


def test_device_that_reaches_the_registry_only_gets_everything_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_world(tmp_path, monkeypatch, url_seconds=None, is_named=False) as world:
        assert world.fetch() is not None


HERE = "http://registry:8080/chunks/x"


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("", "http://registry:8080/moved"),
        ("", "https://registry/x"),
        ("https://s3.example", "https://s3.example/b/x?X-Amz-Signature=1"),
        ("https://s3.example", "https://S3.EXAMPLE:443/x"),
        ("https://*.s3.example", "https://bucket.s3.example/x"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/x"),
    ],
)
def test_redirect_is_allowed_to_the_same_server_and_to_what_is_named(named: str, there: str) -> None:
    assert redirects_to(named).allow(HERE, there)


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("", "http://registry/x"),
        ("", "http://192.168.1.1/reboot"),
        ("", "https://s3.example/x"),
        ("", "file:///etc/passwd"),
        ("https://s3.example", "http://s3.example/x"),
        ("https://s3.example", "https://s3.example:8443/x"),
        ("https://s3.example", "https://s3.example.evil.example/x"),
        ("https://s3.example", "https://s3.example@evil.example/x"),
        ("https://*.s3.example", "https://s3.example/x"),
        ("https://*.s3.example", "https://evils3.example/x"),
        ("http://127.0.0.1:9000", "https://127.0.0.1:9000/x"),
    ],
)
def test_redirect_is_refused_to_everything_else(named: str, there: str) -> None:
    assert not redirects_to(named).allow(HERE, there)


def redirects_to(named: str) -> Redirects:
    return Redirects((check_server(named),)) if named else NOWHERE_ELSE


@pytest.mark.parametrize(
    "text",
    ["s3.example", "ftp://x", "https://", "https://*", "https://*.example", "https://a*.b.example", "https://x/path",
     "https://x?y", "https://user@x", "https://[", "https://x:99999"],
)  # fmt: skip
def test_server_that_redirects_may_not_lead_to_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write https://host, https://\*\.domain\.example"):
        check_server(text)
