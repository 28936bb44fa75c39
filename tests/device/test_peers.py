"""Devices that fetch from each other: what they ask for, what they believe, and what they give."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from device_client.adapters.chunk_fetch import CONNECTIONS_MAX
from device_client.adapters.chunk_sources import ChunkAbsentError
from device_client.adapters.failure import CancelledError
from device_client.adapters.layout import MARKER
from device_client.adapters.peer_server import Pace, PeerLimits, PeerServer
from device_client.adapters.peers import ORIGIN, Neighbours
from device_client.core.device import advance
from device_client.core.effects import EventKind, PublishEvent
from device_client.core.events import PeerDistrusted
from schemas.chunks import from_stored, name_chunk
from tests.device.chunk_world import Exchange, World, made_world, places_of, serving
from tests.device.device_bench import Bench
from tests.device.device_world import sha256
from tests.device.peer_world import KEY, Device, devices, lie, told, until, with_peers


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path / "world") as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path, world: World) -> Iterator[list[Device]]:
    """Two devices, of which the first has the release."""
    with devices(tmp_path, 2) as made:
        made[0].install(world.source())
        world.registry.asked.clear()
        yield made


def artifact_of(world: World) -> str:
    return world.built["1.1.0"].manifest.artifact.sha256


def ask(url: str, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_release_comes_from_a_neighbour_and_only_the_manifest_from_the_registry(
    world: World, pair: list[Device]
) -> None:
    giver, taker = pair
    taker.hear(told(artifact_of(world), str(giver.url)))

    receipt = taker.install(with_peers(world.source()))

    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}
    assert [path.split("/")[1] for path in world.registry.asked] == ["manifests"]
    assert taker.slots.check("green").tree_digest == giver.slots.check("green").tree_digest


def test_who_is_told_later_is_waited_for(world: World, pair: list[Device]) -> None:
    giver, taker = pair
    listened: list[str | None] = []
    taker.neighbours.listen_with(lambda: listened.append(taker.neighbours.key))
    late = threading.Timer(0.3, lambda: taker.neighbours.learn(KEY, told(artifact_of(world), str(giver.url))))
    late.start()

    receipt = taker.install(with_peers(world.source(), wait_seconds=30))

    assert listened == [KEY]
    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}
    assert not world.registry.chunks_asked()


def test_nobody_is_waited_for_longer_than_the_order_says(world: World, pair: list[Device]) -> None:
    before = time.monotonic()
    receipt = pair[1].install(with_peers(world.source(), wait_seconds=0.4))

    assert 0.4 <= time.monotonic() - before < 15
    assert receipt is not None
    assert set(receipt.content_bytes) == {world.registry.url}


def test_second_attempt_does_not_begin_to_wait_again(world: World, pair: list[Device]) -> None:
    source = with_peers(world.source(), wait_seconds=0.3)
    (first,) = pair[1].neighbours.sources(source)
    with pytest.raises(ChunkAbsentError):
        first.get(name_chunk(b"x"), lambda: None)
    (second,) = pair[1].neighbours.sources(source)

    before = time.monotonic()
    with pytest.raises(ChunkAbsentError):
        second.get(name_chunk(b"x"), lambda: None)
    assert time.monotonic() - before < 0.25


def test_who_waits_can_be_cancelled(world: World, pair: list[Device]) -> None:
    began = time.monotonic()
    with pytest.raises(CancelledError):
        pair[1].artifacts.fetch(
            with_peers(world.source(), wait_seconds=60), lambda: time.monotonic() - began > 0.3, lambda _: None
        )
    assert time.monotonic() - began < 15


def test_neighbour_that_lies_is_not_asked_again_and_is_reported(
    world: World, pair: list[Device], tmp_path: Path
) -> None:
    giver, taker = pair

    def lie_and_be_no_longer_alone(exchange: Exchange) -> bool:  # of two, chance may never ask the liar
        taker.hear(told(artifact_of(world), liar.url, str(giver.url)))
        return lie(exchange)

    with serving(tmp_path / "nothing") as liar:
        liar.disturb = lie_and_be_no_longer_alone
        taker.hear(told(artifact_of(world), liar.url))
        receipt = taker.install(with_peers(world.source(), wait_seconds=30))
        asked = sum(liar.asked.values())
        taker.slots.discard("green")
        taker.install(with_peers(world.source(), wait_seconds=30))

    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}
    assert 1 <= asked <= 4
    assert sum(liar.asked.values()) == asked, "nor with the next order"
    assert [url for url, _ in taker.distrusted] == [liar.url]
    assert not world.registry.chunks_asked()


def test_neighbour_that_leads_elsewhere_is_not_followed(world: World, pair: list[Device], tmp_path: Path) -> None:
    def lead(exchange: Exchange) -> bool:
        exchange.handler.send_response(302)
        exchange.handler.send_header("Location", f"{world.registry.url}/led{exchange.path}")
        exchange.handler.send_header("Content-Length", "0")
        exchange.handler.end_headers()
        return True

    with serving(tmp_path / "nothing") as leader:
        leader.disturb = lead
        pair[1].hear(told(artifact_of(world), leader.url))
        pair[1].install(with_peers(world.source()))

    assert leader.asked
    assert not any("led" in path for path in world.registry.asked)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://user@127.0.0.1:80", "file:///etc/passwd", "junk"])
def test_neighbours_that_are_gone_or_none_at_all_cost_nothing_but_themselves(
    world: World, pair: list[Device], url: str
) -> None:
    pair[1].hear(told(artifact_of(world), url))

    receipt = pair[1].install(with_peers(world.source(), wait_seconds=0.5))

    assert receipt is not None
    assert set(receipt.content_bytes) == {world.registry.url}
    assert pair[1].distrusted == []


def test_registry_is_asked_first_where_the_order_says_so(world: World, pair: list[Device]) -> None:
    giver, taker = pair
    taker.hear(told(artifact_of(world), str(giver.url)))

    receipt = taker.install(with_peers(world.source(), rank=1))

    assert receipt is not None
    assert set(receipt.content_bytes) == {world.registry.url}


def test_device_does_not_ask_itself_nor_for_another_artifact() -> None:
    neighbours = Neighbours("http://a:1", lambda *_: None)
    neighbours.key = KEY
    neighbours.learn(KEY, told("0" * 64, "http://a:1", "http://b:1", "http://b:1"))
    neighbours.learn("another", None)

    assert neighbours.urls("0" * 64) == ["http://b:1"]
    assert neighbours.urls("1" * 64) == []


def test_what_is_told_of_a_liar_is_an_event_of_the_device() -> None:
    bench = Bench()
    _, effects = advance(bench.device, PeerDistrusted("http://10.0.0.9:8081", "chunk 12 is other bytes"), 0.0)

    (told_of,) = [each for each in effects if isinstance(each, PublishEvent)]
    assert told_of.kind is EventKind.PEER_DISTRUSTED
    assert told_of.event.message == "http://10.0.0.9:8081: chunk 12 is other bytes"


def test_every_chunk_and_the_list_are_given_and_nothing_else(world: World, pair: list[Device]) -> None:
    giver = pair[0]
    built = world.built["1.1.0"]
    for chunk in {each.chunk for each in places_of(built)}:
        status, data = ask(str(giver.url), f"/chunks/{chunk.sha256}")
        assert (status, name_chunk(data)) == (200, chunk)
    assert ask(str(giver.url), f"/chunks/{sha256(built.chunk_list)}") == (200, built.chunk_list)
    known = places_of(built)[0].chunk.sha256
    for path in [
        "/", "/chunks/", f"/chunks/{'0' * 64}", f"/chunks/{known.upper()}", f"/chunks/{known}/", f"/chunks/{known}?x",
        "/chunks/../../etc/passwd", "/green/app/main.py", f"/artifacts/{artifact_of(world)}",
        f"/chunks/%2e%2e/{known}",
    ]:  # fmt: skip
        assert ask(str(giver.url), path) == (404, b""), path
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert ask(str(giver.url), f"/chunks/{known}", method)[0] == 501
    assert ask(str(giver.url), f"/chunks/{known}", "GET", **{"Content-Length": "0"})[0] == 400


def test_chunk_that_changed_on_disk_is_not_given(world: World, pair: list[Device]) -> None:
    giver = pair[0]
    model = giver.slots.folder("green") / "models" / "m.bin"
    model.write_bytes(bytes(model.stat().st_size))

    answers = {ask(str(giver.url), f"/chunks/{each.chunk.sha256}")[0] for each in places_of(world.built["1.1.0"])[5:15]}
    assert answers == {404}


def test_slot_that_is_not_verified_gives_nothing_and_one_that_is_sealed_anew_gives_what_it_has(
    world: World, pair: list[Device]
) -> None:
    giver = pair[0]
    (giver.slots.folder("green") / MARKER).unlink()
    wanted = f"/chunks/{places_of(world.built['1.1.0'])[0].chunk.sha256}"
    assert ask(str(giver.url), wanted)[0] == 404

    giver.install(world.source("1.0.0"))
    old = places_of(world.built["1.0.0"])[-1].chunk
    assert ask(str(giver.url), f"/chunks/{old.sha256}")[0] == 200


def test_link_or_fifo_in_a_slot_gives_nothing(world: World, pair: list[Device]) -> None:
    giver = pair[0]
    model = giver.slots.folder("green") / "models" / "m.bin"
    model.unlink()
    os.mkfifo(model)

    assert ask(str(giver.url), f"/chunks/{places_of(world.built['1.1.0'])[10].chunk.sha256}")[0] == 404


def test_busy_neighbour_says_so_and_is_asked_again(tmp_path: Path, world: World) -> None:
    with ExitStack() as stack:
        (giver,) = stack.enter_context(devices(tmp_path / "giver", 1, limits=PeerLimits(connections_max=2)))
        (taker,) = stack.enter_context(devices(tmp_path / "taker", 1))
        giver.install(world.source())
        world.registry.asked.clear()
        assert giver.server.port is not None
        held = [socket.create_connection(("127.0.0.1", giver.server.port)) for _ in range(2)]
        known = f"/chunks/{places_of(world.built['1.1.0'])[0].chunk.sha256}"
        until(lambda: ask(str(giver.url), known) == (503, b""))
        taker.hear(told(artifact_of(world), str(giver.url)))

        def let_go() -> None:
            for each in held:
                each.close()

        threading.Timer(0.5, let_go).start()

        receipt = taker.install(with_peers(world.source(), wait_seconds=30))

    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}


def test_who_goes_first_waits_for_a_neighbour_that_is_busy(tmp_path: Path, world: World) -> None:
    with ExitStack() as stack:
        (giver,) = stack.enter_context(devices(tmp_path / "giver", 1, limits=PeerLimits(connections_max=1)))
        (taker,) = stack.enter_context(devices(tmp_path / "taker", 1))
        giver.install(world.source())
        world.registry.asked.clear()
        assert giver.server.port is not None
        held = socket.create_connection(("127.0.0.1", giver.server.port))
        known = f"/chunks/{places_of(world.built['1.1.0'])[0].chunk.sha256}"
        until(lambda: ask(str(giver.url), known) == (503, b""))
        taker.hear(told(artifact_of(world), str(giver.url)))
        threading.Timer(0.3, held.close).start()

        receipt = taker.install(with_peers(world.source(), wait_seconds=0))

    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}
    assert not world.registry.chunks_asked()


def refuse(exchange: Exchange) -> bool:
    """Say that it is busy, whatever is asked for."""
    exchange.say(503)
    return True


def think(_: Exchange) -> bool:
    """Let everybody wait for the answer."""
    time.sleep(1.0)
    return False


def test_neighbour_that_stays_busy_is_waited_for_a_minute_in_all(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.adapters.peers.BUSY_WAIT_SECONDS", 0.5)
    with serving(tmp_path / "nothing") as busy, devices(tmp_path, 1) as (taker,):
        busy.disturb = refuse
        taker.hear(told(artifact_of(world), busy.url))
        before = time.monotonic()
        receipt = taker.install(with_peers(world.source(), wait_seconds=0))

    assert 0.5 <= time.monotonic() - before < 15
    assert receipt is not None
    assert set(receipt.content_bytes) == {world.registry.url}


def test_neighbour_that_was_gone_is_asked_again_when_it_is_told_of_anew(
    world: World, pair: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.adapters.peers.FAILED_SECONDS", 0.0)
    giver, taker = pair
    chunk = places_of(world.built["1.1.0"])[0].chunk
    (source,) = taker.neighbours.sources(with_peers(world.source()))
    giver.server.end()
    taker.hear(told(artifact_of(world), str(giver.url)))
    for _ in range(4):
        with pytest.raises(ChunkAbsentError):
            source.get(chunk, lambda: None)
    back = PeerServer(giver.slots, "127.0.0.1", int(str(giver.url).rpartition(":")[2]), PeerLimits())
    back.start()
    try:
        until(lambda: back.port is not None)
        with pytest.raises(ChunkAbsentError):
            source.get(chunk, lambda: None)
        taker.hear(None)
        with pytest.raises(ChunkAbsentError):
            source.get(chunk, lambda: None)
        taker.hear(told(artifact_of(world), str(giver.url)))
        assert name_chunk(from_stored(source.get(chunk, lambda: None), chunk)) == chunk
    finally:
        source.close()
        back.end()


def test_quick_neighbour_is_asked_more_than_a_slow_one(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.adapters.peers._CURIOUS_ONCE_IN", 1_000_000)
    with (
        serving(world.store) as quick,
        serving(world.store) as slow,
        devices(tmp_path, 1) as (taker,),
    ):
        slow.disturb = think
        taker.hear(told(artifact_of(world), slow.url, quick.url))
        receipt = taker.install(with_peers(world.source()))

    assert receipt is not None
    assert set(receipt.content_bytes) == {ORIGIN}
    assert sum(slow.asked.values()) <= CONNECTIONS_MAX  # each thread may find out once that it is slow
    assert sum(quick.asked.values()) > sum(slow.asked.values())


def test_connection_that_says_nothing_is_closed(world: World, pair: list[Device]) -> None:
    port = pair[0].server.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=15) as silent:
        assert silent.recv(1) == b""


def test_connection_that_drips_is_closed_when_it_is_old(
    world: World, pair: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.adapters.peer_server.CONNECTION_SECONDS_MAX", 1.0)
    port = pair[0].server.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as dripping:
        began = time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012 - it ends when it ends
            while time.monotonic() - began < 15:
                dripping.sendall(b"G")
                try:
                    if dripping.recv(1) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    pass
        assert time.monotonic() - began < 10


def test_more_connections_than_threads_are_closed_at_once(tmp_path: Path) -> None:
    with devices(tmp_path, 1, limits=PeerLimits(connections_max=1)) as (giver,), ExitStack() as stack:
        assert giver.server.port is not None
        before = threading.active_count()
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", giver.server.port)))
        until(lambda: threading.active_count() > before)
        assert threading.active_count() - before <= 1 + 32


def test_what_is_given_is_spread_over_time() -> None:
    pace = Pace(1_000_000)
    before = time.monotonic()
    for _ in range(4):
        pace.take(100_000)

    assert time.monotonic() - before >= 0.3


def test_address_that_is_taken_stops_nobody(tmp_path: Path, world: World) -> None:
    with devices(tmp_path, 1) as (other,):
        assert other.server.port is not None
        server = PeerServer(other.slots, "127.0.0.1", other.server.port, PeerLimits())
        server.start()
        time.sleep(0.1)
        assert server.port is None
        server.end()


def test_list_from_a_neighbour_is_proven_like_a_chunk(world: World, pair: list[Device], tmp_path: Path) -> None:
    def give_other(exchange: Exchange) -> bool:
        exchange.say(200, world.built["1.0.0"].chunk_list)
        return True

    with serving(tmp_path / "nothing") as liar:
        liar.disturb = give_other
        pair[1].hear(told(artifact_of(world), liar.url))
        assert pair[1].install(with_peers(world.source())) is not None

    assert [url for url, _ in pair[1].distrusted] == [liar.url]
    assert pair[1].slots.check("green").tree_digest == pair[0].slots.check("green").tree_digest
