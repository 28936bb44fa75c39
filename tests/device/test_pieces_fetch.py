"""Fetching over the bus: from an honest server, from every kind of liar, and on from where it was interrupted."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from device_client.adapters.failure import CancelledError, StepError
from schemas.messages import PIECE_BYTES_MAX, PieceRequest
from schemas.pieces import Piece, write_piece
from tests.device.chunk_world import places_of, serving, source_of
from tests.device.piece_world import Answer, Device, at_first, honest, refusal


def test_a_device_without_http_installs_a_release_and_asks_for_each_piece_once(tmp_path: Path) -> None:
    device = Device(tmp_path, again_seconds=60.0)

    receipt = device.install(device.source())

    built = device.built["1.0.0"]
    assert device.holds(built)
    assert receipt is not None
    assert receipt.content_bytes == {"mqtt:": built.manifest.unpacked_bytes}
    assert set(device.asked.values()) == {1}
    assert {asked.folder for asked in device.asked} == {"manifests", "chunks"}
    assert device.artifacts.fetched is not None
    assert device.artifacts.fetched.sources == (receipt.carried_bytes["mqtt:"],)


def test_it_asks_for_nothing_that_a_slot_has(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install(device.source("1.0.0"))
    device.asked.clear()

    receipt = device.install(device.source("1.1.0"))

    old, new = ({each.chunk.sha256 for each in places_of(device.built[v])} for v in ("1.0.0", "1.1.0"))
    assert receipt is not None
    assert receipt.content_bytes["green"] > receipt.content_bytes["mqtt:"]
    assert not {asked.sha256 for asked in device.asked} & old
    assert {asked.sha256 for asked in device.asked} >= new - old


def test_a_release_without_chunks_comes_as_its_archive_and_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    device = Device(tmp_path)
    well = honest(device.store)

    def without_chunks(asked: PieceRequest) -> Iterable[bytes]:
        return [refusal(asked, "not_found")] if asked.folder == "chunks" else well(asked)

    device.answer = without_chunks

    with pytest.raises(CancelledError):
        device.fetch(device.source(), lambda: len(device.asked) > 25)
    (part,) = device.slots.staging.glob("*.part")
    there_bytes = part.stat().st_size
    assert there_bytes > 0
    device.asked.clear()

    assert device.install(device.source()) is None
    assert device.holds(device.built["1.0.0"])
    assert min(asked.offset_bytes for asked in device.asked if asked.folder == "artifacts") == there_bytes


def test_what_is_proven_is_not_asked_for_again_after_an_interruption(tmp_path: Path) -> None:
    device = Device(tmp_path)

    with pytest.raises(CancelledError):
        device.fetch(device.source(), lambda: len(device.asked) > 25)
    before = Counter(asked.sha256 for asked in device.asked if asked.folder == "chunks")
    device.asked.clear()
    receipt = device.fetch(device.source())

    assert receipt is not None
    assert receipt.content_bytes["staging"] > 500_000
    again = {asked.sha256 for asked in device.asked if asked.folder == "chunks"}
    assert len(again & set(before)) <= 4, "only what was on its way"


# ---- Whoever answers may be anybody ----------------------------------------------------------------------------------


def other_bytes(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece(asked.sha256, asked.offset_bytes, asked.offset_bytes + 100, b"!" * 100))]


def too_long_a_whole(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece(asked.sha256, asked.offset_bytes, 2**60, bytes(asked.length_bytes)))]


def too_large_a_piece(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece(asked.sha256, asked.offset_bytes, 2**20, bytes(PIECE_BYTES_MAX))) + bytes(30_000)]


def shorter_than_asked(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece(asked.sha256, asked.offset_bytes, asked.offset_bytes + asked.length_bytes, b"!"))]


def not_asked_for(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece(asked.sha256, asked.offset_bytes + 1, 2**40, b"!")) for _ in range(200)]


def of_something_else(asked: PieceRequest) -> Iterable[bytes]:
    return [write_piece(Piece("00" * 32, asked.offset_bytes, 2**40, b"!"))]


def rubbish(asked: PieceRequest) -> Iterable[bytes]:
    return [b"", b"{", b"tgpiece1", b"\xff" * 70_000, b'{"code": "busy"}']


def silence(asked: PieceRequest) -> Iterable[bytes]:
    return []


def broken_down(asked: PieceRequest) -> Iterable[bytes]:
    return [refusal(asked, "internal")]


def busy(asked: PieceRequest) -> Iterable[bytes]:
    return [refusal(asked, "busy", retry_after_seconds=0.01)]


BADLY: list[Answer] = [
    other_bytes, too_long_a_whole, too_large_a_piece, shorter_than_asked, not_asked_for, of_something_else, rubbish,
    silence, broken_down, busy,
]  # fmt: skip


@pytest.mark.parametrize("badly", BADLY, ids=lambda answer: answer.__name__)
def test_a_server_that_does_wrong_costs_retries_and_nothing_else(tmp_path: Path, badly: Answer) -> None:
    device = Device(tmp_path)
    well = honest(device.store)
    misbehaves = at_first(2, badly, well)
    device.answer = lambda asked: (misbehaves if asked.folder == "chunks" else well)(asked)

    device.install(device.source())

    assert device.holds(device.built["1.0.0"])
    assert sum(device.asked.values()) < 2 * len(device.asked)


@pytest.mark.parametrize("badly", [other_bytes, not_asked_for, silence], ids=lambda answer: answer.__name__)
def test_a_server_that_always_does_wrong_is_given_up_for_the_next_source(tmp_path: Path, badly: Answer) -> None:
    with serving(Device(tmp_path).store) as registry:
        device = Device(tmp_path, badly, has_http=True)
        receipt = device.install(device.source("1.0.0", registry.url))

    assert device.holds(device.built["1.0.0"])
    assert receipt is not None
    assert set(receipt.content_bytes) == {registry.url}


@pytest.mark.parametrize(
    ("badly", "said"),
    [
        (other_bytes, "mqtt:"),
        (too_long_a_whole, f"mqtt: has {2**60} bytes, not "),
        (shorter_than_asked, "mqtt: gives 1 bytes where others were asked for"),
        (broken_down, "mqtt: answers internal"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_with_nobody_else_to_ask_a_liar_leaves_nothing_behind_and_is_named(
    tmp_path: Path, badly: Answer, said: str
) -> None:
    device = Device(tmp_path)
    well = honest(device.store)
    device.answer = lambda asked: (well if asked.folder == "manifests" else badly)(asked)

    with pytest.raises(StepError, match=said):
        device.install(device.source())

    assert not any(device.slots.folder("green").iterdir())
    assert sum(device.asked.values()) < 40


def test_an_address_that_the_device_does_not_reach_is_passed_over(tmp_path: Path) -> None:
    device = Device(tmp_path)

    device.install(device.source("1.0.0", "http://127.0.0.1:1"))

    assert device.holds(device.built["1.0.0"])
    with pytest.raises(StepError, match="no source that this device reaches"):
        device.fetch(source_of(device.built["1.1.0"], "http://127.0.0.1:1"))
