"""A release in pieces: only what is new is fetched, from whoever has it, and nothing but the release comes out."""

import errno
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from device_client.adapters.chunk_content import Content
from device_client.adapters.chunk_http import HttpChunks, chunk_bases
from device_client.adapters.chunk_slots import CHUNK_LIST, FILES, SlotChunks
from device_client.adapters.chunk_sources import ChunkAbsentError, ChunkFailedError, GoOn, Sources, Tolerance
from device_client.adapters.failure import CancelledError, StepError
from schemas.chunks import Chunk, from_stored, name_chunk, to_stored, write_chunk_list
from schemas.codec import encode
from schemas.dsse import MANIFEST_TYPE, seal
from schemas.manifest import ChunkList
from tests.device.chunk_world import HURRIED, Exchange, World, list_of, made_world, make_built, places_of, source_of
from tests.device.device_world import CHECK, RELEASE_KEY, sha256


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def is_chunk(exchange: Exchange, world: World) -> bool:
    """Say whether it is about a chunk, and not about a list of them."""
    lists = {sha256(built.chunk_list) for built in world.built.values()}
    return exchange.path.startswith("/chunks/") and exchange.path.rpartition("/")[2] not in lists


def test_only_what_the_old_version_does_not_have_is_fetched(world: World) -> None:
    world.with_old_version()

    receipt = world.install()

    new = world.new_chunks()
    assert set(world.registry.chunks_asked()) == {*new, sha256(world.built["1.1.0"].chunk_list)}
    assert set(world.registry.asked.values()) == {1}
    assert world.registry.archives_asked() == 0
    assert receipt is not None
    sizes = {each.chunk.sha256: each.chunk.size_bytes for each in places_of(world.built["1.1.0"])}
    assert receipt.content_bytes == {
        "blue": sum(sizes.values()) - sum(sizes[each] for each in new),
        world.registry.url: sum(sizes[each] for each in new),
    }
    assert 0 < receipt.carried_bytes[world.registry.url] < receipt.content_bytes[world.registry.url]
    assert world.holds("green", "1.1.0")
    assert world.holds("blue", "1.0.0")


def test_both_slots_are_looked_at(world: World) -> None:
    world.with_old_version().install()
    world.registry.asked.clear()

    receipt = world.install("1.0.0", "green")

    assert world.registry.chunks_asked().keys() <= {sha256(world.built["1.0.0"].chunk_list)}
    assert receipt is not None
    assert world.holds("green", "1.0.0")


def test_connections_are_kept_and_few(world: World) -> None:
    world.install()

    assert sum(world.registry.chunks_asked().values()) > 15
    assert world.registry.connections <= 2 + 4, "one for the manifest, one for the list, four for chunks"


def test_progress_is_the_share_of_what_no_slot_has(world: World) -> None:
    world.with_old_version()
    world.percentages.clear()
    world.fetch()

    new = {place.chunk: place.stored_bytes for place in places_of(world.built["1.1.0"])}
    stored = [count for chunk, count in new.items() if chunk.sha256 in world.new_chunks()]
    steps = [after - before for before, after in pairwise([0.0, *world.percentages])]
    assert sorted(steps) == pytest.approx(sorted(100 * count / sum(stored) for count in stored))
    assert world.percentages[-1] == 100


@pytest.mark.parametrize("spoil", ["changed", "shorter", "gone", "link", "fifo"])
def test_what_a_slot_does_not_have_any_more_is_fetched(world: World, spoil: str) -> None:
    world.with_old_version()
    model = world.slots.folder("blue") / "models" / "m.bin"
    match spoil:
        case "changed":
            model.write_bytes(model.read_bytes()[:-200_000] + bytes(200_000))
        case "shorter":
            os.truncate(model, 10)
        case "gone":
            model.unlink()
        case "link":
            shutil.move(model, world.folder / "elsewhere")
            model.symlink_to(world.folder / "elsewhere")
        case "fifo":
            model.unlink()
            os.mkfifo(model)

    world.install()

    assert world.holds("green", "1.1.0")
    assert len(world.registry.chunks_asked()) > len(world.new_chunks()) + 1
    assert set(world.registry.asked.values()) == {1}


@pytest.mark.parametrize("name", [CHUNK_LIST, FILES])
@pytest.mark.parametrize(
    "text", [None, b"", b"\xff\xff", b"7 ../../etc/passwd\n", b"-1 app/x\n", b"9" * 99 + b" app/x\n"]
)
def test_slot_whose_lists_are_damaged_has_nothing(world: World, name: str, text: bytes | None) -> None:
    world.with_old_version()
    path = world.slots.folder("blue") / name
    path.unlink() if text is None else path.write_bytes(text)

    assert not any(each.chunk in SlotChunks(world.slots.folder("blue")) for each in places_of(world.built["1.0.0"]))
    world.install()
    assert world.holds("green", "1.1.0")


def test_slot_gives_every_chunk_that_its_list_names(world: World) -> None:
    world.with_old_version()
    slot = SlotChunks(world.slots.folder("blue"))

    for place in places_of(world.built["1.0.0"]):
        data = slot.get(place.chunk)
        assert data is not None
        assert name_chunk(data) == place.chunk


def sign_deflated_to(world: World, stored_bytes: int) -> None:
    """Let the list say, of each chunk, that its stored form has so many bytes."""
    places = places_of(world.built["1.1.0"])
    sign_with(world, write_chunk_list((each.chunk, min(stored_bytes, each.chunk.size_bytes)) for each in places))


def test_archive_is_taken_where_it_is_smaller_than_what_is_missing(world: World) -> None:
    built = world.built["1.1.0"]
    bytes_min = sum({each.chunk: each.stored_bytes for each in places_of(built)}.values())
    artifact = built.manifest.artifact.model_copy(update={"size_bytes": bytes_min * 9 // 10 - 2})
    manifest = built.manifest.model_copy(update={"artifact": artifact})
    receipts = [
        world.artifacts._chunked.fetch(built.manifest, world.source(), lambda: False, lambda _: None, artifact_bytes)
        for artifact_bytes in (manifest.artifact.size_bytes, None)
    ]

    assert receipts[0] is None
    assert receipts[1] is not None, "where there is no room for it, chunks are fetched whatever they take"


def test_archive_is_not_taken_where_the_old_version_has_most(world: World) -> None:
    world.with_old_version()
    new = world.new_chunks()
    needed_bytes = sum(
        {e.chunk: e.stored_bytes for e in places_of(world.built["1.1.0"]) if e.chunk.sha256 in new}.values()
    )
    world.fetch()  # for the manifest
    world.artifacts._chunked.give_up(world.built["1.1.0"].manifest)

    def fetch(archive_bytes: int) -> object:
        manifest = world.built["1.1.0"].manifest
        return world.artifacts._chunked.fetch(manifest, world.source(), lambda: False, lambda _: None, archive_bytes)

    assert fetch(needed_bytes * 9 // 10 - 2) is None
    assert fetch(needed_bytes) is not None


def test_list_that_lies_about_stored_sizes_costs_the_chunks_and_nothing_else(world: World) -> None:
    sign_deflated_to(world, 7)

    assert world.install() is None, "what comes is not what the list says, so the archive is taken"
    assert world.holds("green", "1.1.0")
    assert max(world.registry.chunks_asked().values()) <= 3, "no chunk is asked for again and again"


def test_list_that_says_that_all_is_stored_as_it_is_makes_the_archive_cheaper(world: World) -> None:
    sign_deflated_to(world, 2**20)
    manifest = world.built["1.1.0"].manifest
    assert manifest.artifact.size_bytes * 10 // 9 < manifest.unpacked_bytes

    assert world.install() is None
    assert sum(world.registry.chunks_asked().values()) == 1
    assert world.holds("green", "1.1.0")


def test_chunk_that_a_source_gives_as_it_is_fits_every_list(world: World) -> None:
    contents = {e.chunk.sha256: e.chunk for e in places_of(world.built["1.1.0"])}

    def disturb(exchange: Exchange) -> bool:
        chunk = contents.get(exchange.path.rpartition("/")[2])
        if chunk is not None and exchange.body is not None:
            exchange.say(200, from_stored(exchange.body, chunk))
        return chunk is not None

    world.registry.disturb = disturb

    assert world.install() is not None
    assert world.holds("green", "1.1.0")


def test_release_with_a_list_that_nobody_has_is_fetched_as_an_archive(world: World) -> None:
    (world.store / "chunks" / sha256(world.built["1.1.0"].chunk_list)).unlink()

    assert world.install() is None
    assert world.registry.archives_asked() == 1
    assert world.holds("green", "1.1.0")


def test_release_with_a_chunk_that_nobody_has_is_fetched_as_an_archive(world: World) -> None:
    world.chunk_path(world.built["1.1.0"], 5).unlink()

    assert world.install() is None
    assert world.registry.archives_asked() == 1
    assert world.holds("green", "1.1.0")


def test_list_is_kept_with_the_slot_also_when_an_archive_was_fetched(world: World) -> None:
    missing = world.chunk_path(world.built["1.0.0"], 5)
    data = missing.read_bytes()
    missing.unlink()
    assert world.install("1.0.0", "blue") is None
    missing.write_bytes(data)
    world.registry.asked.clear()

    receipt = world.install()

    assert receipt is not None
    assert receipt.content_bytes["blue"] > 500_000


def test_release_without_chunks_is_fetched_as_an_archive(world: World) -> None:
    world.built["1.1.0"] = make_built(world.folder, "1.1.0", chunked=False, release="app-plain")
    for folder, data in (("manifests", world.built["1.1.0"].envelope), ("artifacts", world.built["1.1.0"].artifact)):
        (world.store / folder / sha256(data)).write_bytes(data)

    assert world.install() is None
    assert world.holds("green", "1.1.0")
    assert not world.registry.chunks_asked()


def test_source_that_has_no_folder_of_chunks_is_asked_for_the_archive_alone() -> None:
    digest = "0" * 64

    assert chunk_bases((f"http://a/x/artifacts/{digest}?token=1", f"http://b/{digest}", "http://["), digest) == (
        "http://a/x/chunks/{}?token=1",
    )


BOMB = zlib.compress(bytes(9_000_000))[:9_000]
LIES = {
    "other_bytes": lambda exchange: exchange.say(200, b"!" * len(exchange.body or b"")),
    "another_chunk": lambda exchange: exchange.say(200, (exchange.body or b"")[::-1]),
    "too_short": lambda exchange: exchange.say(200, (exchange.body or b"")[:-1]),
    "too_long": lambda exchange: exchange.say(200, bytes(300_000)),
    "nothing": lambda exchange: exchange.say(200),
    "bomb": lambda exchange: exchange.say(200, BOMB),
    "error_page": lambda exchange: exchange.say(200, b"<html>Please log in</html>"),
}


@pytest.mark.parametrize("lie", LIES)
def test_source_that_lies_is_given_up_and_costs_nothing_else(world: World, lie: str) -> None:
    def disturb(exchange: Exchange) -> bool:
        if is_chunk(exchange, world):
            LIES[lie](exchange)
            return True
        return False

    world.registry.disturb = disturb

    assert world.install() is None, "the archive is taken"
    assert world.holds("green", "1.1.0")
    assert sum(world.registry.chunks_asked().values()) <= 1 + 3 + 4, "the list, three lies, and what was on its way"


def test_endless_chunk_is_cut_at_its_size(world: World) -> None:
    def disturb(exchange: Exchange) -> bool:
        if is_chunk(exchange, world):
            exchange.handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                exchange.handler.wfile.write(bytes(65536))
        return False

    world.registry.disturb = disturb

    assert world.install() is None
    assert world.holds("green", "1.1.0")


def test_source_that_lies_now_and_then_is_asked_again(world: World) -> None:
    victim = places_of(world.built["1.1.0"])[3].chunk.sha256

    def disturb(exchange: Exchange) -> bool:
        is_first = exchange.path.endswith(victim) and world.registry.asked[exchange.path] == 1
        if is_first:
            exchange.say(200, b"!" * 99)
        return is_first

    world.registry.disturb = disturb

    assert world.install() is not None
    assert world.holds("green", "1.1.0")
    assert world.registry.archives_asked() == 0


def test_connection_that_is_cut_costs_what_was_on_its_way(world: World) -> None:
    cut: set[str] = set()

    def disturb(exchange: Exchange) -> bool:
        if not is_chunk(exchange, world) or exchange.path in cut:
            return False
        cut.add(exchange.path)
        exchange.say(200, (exchange.body or b"")[:100], length=len(exchange.body or b""))
        exchange.cut()
        return True

    world.registry.disturb = disturb

    assert world.install() is not None
    assert world.holds("green", "1.1.0")
    assert {world.registry.asked[path] for path in cut} == {2}


def test_source_that_is_gone_after_it_has_given_chunks_is_waited_for(world: World) -> None:
    def disturb(exchange: Exchange) -> bool:
        is_down = is_chunk(exchange, world) and sum(world.registry.chunks_asked().values()) > 10
        if is_down:
            exchange.say(503)
        return is_down

    world.registry.disturb = disturb
    with pytest.raises(StepError) as failure:
        world.fetch()
    assert (failure.value.code, failure.value.retryable) == ("download_failed", True)
    there = world.staged_chunks()
    assert there

    world.registry.disturb = lambda _: False
    world.registry.asked.clear()
    receipt = world.install()

    assert receipt is not None
    assert receipt.content_bytes["staging"] > 0
    assert not there & set(world.registry.chunks_asked())
    assert world.registry.archives_asked() == 0
    assert world.holds("green", "1.1.0")


def test_slow_source_is_not_waited_for(world: World) -> None:
    place = places_of(world.built["1.1.0"])[0]

    def drip(exchange: Exchange) -> bool:
        exchange.handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % place.chunk.size_bytes)
        for _ in range(10_000):
            exchange.handler.wfile.write(b"x")
            exchange.handler.wfile.flush()
            time.sleep(0.01)
        return True

    world.registry.disturb = drip
    source = HttpChunks(f"{world.registry.url}/chunks/{{}}", silence_seconds=5, seconds=-30)
    before = time.monotonic()
    with pytest.raises(ChunkFailedError, match="too slow"):
        source.get(place.chunk, lambda: None)
    assert time.monotonic() - before < 5


def test_silent_source_is_not_waited_for(world: World) -> None:
    def stall(exchange: Exchange) -> bool:
        exchange.handler.rfile.read(1)
        return True

    world.registry.disturb = stall
    source = HttpChunks(f"{world.registry.url}/chunks/{{}}", silence_seconds=0.2)
    with pytest.raises(ChunkFailedError):
        source.get(Chunk("0" * 64, 10), lambda: None)


def test_source_that_takes_its_time_with_everything_is_given_up(world: World) -> None:
    sources = Sources([HttpChunks(f"{world.registry.url}/chunks/{{}}")], 0, Tolerance(seconds=-1, pause_seconds=0))

    with pytest.raises(Exception, match="too slow"):
        sources.bring(places_of(world.built["1.1.0"])[0].chunk, lambda: None)


def test_redirect_is_followed_as_in_every_download(world: World) -> None:
    def disturb(exchange: Exchange) -> bool:
        if exchange.path.startswith("/chunks/"):
            exchange.handler.send_response(302)
            exchange.handler.send_header("Location", exchange.path.replace("/chunks/", "/moved/"))
            exchange.handler.send_header("Content-Length", "0")
            exchange.handler.end_headers()
            return True
        return False

    shutil.copytree(world.store / "chunks", world.store / "moved")
    world.registry.disturb = disturb

    assert world.install() is not None
    assert world.holds("green", "1.1.0")


def test_cancelled_fetch_ends_and_keeps_what_is_there(world: World) -> None:
    with pytest.raises(CancelledError):
        world.fetch(is_cancelled=lambda: len(world.percentages) >= 5)
    there = world.staged_chunks()
    assert len(there) >= 5
    world.registry.asked.clear()

    assert world.install() is not None
    assert not there & set(world.registry.chunks_asked())


def test_full_disk_while_chunks_are_written_ends_cleanly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Content.write

    def write(content: Content, chunk: Chunk, data: bytes) -> None:
        real(content, chunk, data)
        if len(world.percentages) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Content, "write", write)
    with pytest.raises(StepError) as failure:
        world.fetch()

    assert failure.value.code == "no_space"
    assert not any(".content" in path.name for path in world.slots.staging.iterdir())


def test_archive_is_fetched_where_there_is_no_room_for_the_files_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = world.built["1.1.0"].manifest
    free = 2 * manifest.unpacked_bytes - 1
    usage = shutil.disk_usage(world.folder)._replace(free=free)
    monkeypatch.setattr("device_client.adapters.artifact.shutil.disk_usage", lambda _: usage)
    assert 2 * manifest.artifact.size_bytes + manifest.unpacked_bytes > free

    with pytest.raises(StepError, match="are free"):
        world.fetch()
    assert not world.registry.chunks_asked()


def test_content_that_changes_on_disk_after_the_fetch_is_refused(world: World) -> None:
    world.fetch()
    content = next(path for path in world.slots.staging.iterdir() if path.suffix == ".content")
    content.write_bytes(content.read_bytes()[:-1] + b"!")

    with pytest.raises(StepError) as failure:
        world.artifacts.install(world.source(), "green", CHECK)

    assert (failure.value.code, failure.value.retryable) == ("checksum_mismatch", True)
    assert list(world.slots.folder("green").iterdir()) == [], "nothing has reached the slot"
    world.registry.asked.clear()
    assert world.install() is not None
    assert sum(world.registry.chunks_asked().values()) == 1, "what of it was right is not fetched again"
    assert world.holds("green", "1.1.0")


def test_content_that_a_power_cut_has_damaged_is_mended(world: World) -> None:
    world.fetch()
    content = next(path for path in world.slots.staging.iterdir() if path.suffix == ".content")
    content.write_bytes(content.read_bytes()[:-50_000] + bytes(50_000))
    world.registry.asked.clear()

    assert world.install() is not None
    assert 1 <= sum(world.registry.chunks_asked().values()) <= 3
    assert world.holds("green", "1.1.0")


def test_release_of_empty_files_is_fetched_as_an_archive(world: World) -> None:
    files = {"app/main.py": b"", "models/m.bin": b"", "config/a.json": b""}
    world.built["1.1.0"] = make_built(world.folder, "1.1.0", files)
    (world.store / "artifacts" / world.built["1.1.0"].manifest.artifact.sha256).write_bytes(
        world.built["1.1.0"].artifact
    )
    sign_with(world, list_of())

    assert world.install() is None


def test_content_that_is_complete_is_not_fetched_again(world: World) -> None:
    world.fetch()
    world.registry.asked.clear()

    world.fetch()

    assert not world.registry.asked


def sign_with(world: World, chunk_list: bytes, *chunks: bytes) -> None:
    """Let somebody who holds the key sign a chunk list of his own."""
    built = world.built["1.1.0"]
    said = ChunkList(sha256=sha256(chunk_list), size_bytes=max(1, len(chunk_list)))
    manifest = built.manifest.model_copy(update={"chunks": said})
    envelope = seal(MANIFEST_TYPE, encode(manifest), RELEASE_KEY)
    for data in (chunk_list, *chunks):
        (world.store / "chunks" / sha256(data)).write_bytes(to_stored(data))
    (world.store / "manifests" / sha256(envelope)).write_bytes(envelope)
    world.built["1.1.0"] = type(built)(manifest, envelope, built.artifact, chunk_list)


def test_signed_list_of_other_content_is_of_no_use(world: World) -> None:
    size = world.built["1.1.0"].manifest.unpacked_bytes
    pieces = [bytes([number]) * min(200_000, size - start) for number, start in enumerate(range(0, size, 200_000))]
    sign_with(world, list_of(*pieces), *pieces)

    assert world.install() is None, "the archive is taken"
    assert world.holds("green", "1.1.0")


@pytest.mark.parametrize("chunk_list", [b"", b"junk", list_of(b"x")])
def test_signed_list_that_is_none_is_of_no_use(world: World, chunk_list: bytes) -> None:
    sign_with(world, chunk_list)

    assert world.install() is None
    assert world.holds("green", "1.1.0")


class Stick:
    """A source that is no server, and has only a part."""

    name = "stick"

    def __init__(self, folder: Path, digests: set[str]) -> None:
        self.folder, self.digests = folder, digests

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        go_on()
        if chunk.sha256 not in self.digests:
            raise ChunkAbsentError
        return (self.folder / chunk.sha256).read_bytes()

    def close(self) -> None:
        pass


def test_what_one_source_does_not_have_comes_from_the_next(world: World) -> None:
    places = places_of(world.built["1.1.0"])
    held = {each.chunk.sha256 for each in places[:8]}
    world.find_sources = lambda source: [
        Stick(world.store / "chunks", held),
        *[HttpChunks(base) for base in chunk_bases(source.artifact.sources, source.artifact.sha256)],
    ]

    receipt = world.install()

    assert receipt is not None
    assert receipt.content_bytes["stick"] == sum({each.chunk: each.chunk.size_bytes for each in places[:8]}.values())
    assert not held & set(world.registry.chunks_asked())
    assert world.holds("green", "1.1.0")


def test_second_server_is_asked_when_the_first_is_gone(world: World) -> None:
    built = world.built["1.1.0"]
    source = source_of(built, "http://127.0.0.1:1", world.registry.url)

    receipt = world.artifacts.fetch(source, lambda: False, lambda _: None)

    assert receipt is not None
    assert set(receipt.content_bytes) == {world.registry.url}


def test_secrets_in_an_address_are_not_told(world: World) -> None:
    source = HttpChunks("http://user:word@127.0.0.1:1/x/chunks/{}?token=secret")

    assert source.name == "http://127.0.0.1:1/x"
    with pytest.raises(ChunkFailedError) as failure:
        source.get(Chunk("0" * 64, 1), lambda: None)
    assert "secret" not in str(failure.value)
    assert "word" not in str(failure.value)
    assert HURRIED.failures_max == 3
