"""The piece server on real brokers, asked by devices that are honest, greedy, broken or hostile."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.brokers import Broker, start_embedded, start_mosquitto
from orchestrator.adapters.piece_server import PieceServer, PieceStoreError
from schemas.codec import encode
from schemas.messages import PIECE_BYTES_MAX, PieceFolder, PieceRefusal, PieceRequest
from schemas.pieces import Piece, read_piece
from schemas.topics import TOPIC_ROOT, TopicTree
from tests.device.device_world import sha256
from tests.shell.pieces_world import giving
from tests.shell.waiting_client import NOT_AUTHORIZED, WAIT_SECONDS, Client, connected

START: dict[str, Callable[..., Any]] = {"embedded": start_embedded, "mosquitto": start_mosquitto}
DATA = os.urandom(5 * PIECE_BYTES_MAX + 7)
NAME = sha256(DATA)


@pytest.fixture(scope="module", params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with START[request.param](tmp_path_factory.mktemp("broker"), operators=["alice"], devices=["pi-1", "pi-2"]) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store" / "chunks").mkdir(parents=True)
    (tmp_path / "store" / "chunks" / NAME).write_bytes(DATA)
    (tmp_path / "store" / "secret").write_text("secret")
    return tmp_path / "store"


class Device(Client):
    """A device at its broker that says what it likes."""

    def __init__(self, broker: Broker, name: str) -> None:
        super().__init__(broker.url_for(name, is_device=True))
        self.name = name
        self.subscribe([f"{TOPIC_ROOT}/device/{name}/piece"])

    def say(self, payload: bytes) -> None:
        self.publish(f"{TOPIC_ROOT}/device/{self.name}/fetch", payload)

    def ask(self, offset_bytes: int = 0, folder: PieceFolder = "chunks", name: str = NAME) -> None:
        self.say(encode(PieceRequest(folder=folder, sha256=name, offset_bytes=offset_bytes)))

    def answer(self) -> Piece | PieceRefusal:
        return read_piece(self.received.get(timeout=WAIT_SECONDS)[1])


def test_what_is_asked_for_comes_piece_by_piece_and_its_end_is_told(broker: Broker, store: Path) -> None:
    with giving(store, broker.url_for("pieces")) as server, Device(broker, "pi-1") as device:
        together = b""
        while len(together) < len(DATA):
            device.ask(len(together))
            piece = device.answer()
            assert isinstance(piece, Piece)
            assert (piece.sha256, piece.offset_bytes, piece.total_bytes) == (NAME, len(together), len(DATA))
            together += piece.data

        assert together == DATA
        assert (server.counts.pieces, server.counts.piece_bytes) == (6, len(DATA))


def test_whatever_it_is_told_it_answers_with_a_code_and_goes_on(broker: Broker, store: Path) -> None:
    (store / "chunks" / ("aa" * 32)).symlink_to(store / "secret")
    (store / "chunks" / ("bb" * 32)).mkdir()
    os.mkfifo(store / "chunks" / ("cc" * 32))
    with giving(store, broker.url_for("pieces")) as server, Device(broker, "pi-1") as device:
        for payload in (
            b"", b"{", b"\xff" * 60_000, b'{"folder":"../keys"}', b"[" * 4000, b"\x81" * 4000,
            json.dumps({"folder": "chunks", "sha256": NAME, "length_bytes": 2**40}).encode(),
        ):  # fmt: skip
            device.say(payload)
            refused = device.answer()
            assert isinstance(refused, PieceRefusal)
            assert refused.code == "invalid_payload"
        for name, code in (("dd" * 32, "not_found"), ("aa" * 32, "internal"), ("bb" * 32, "not_found"),
                           ("cc" * 32, "not_found")):  # fmt: skip
            device.ask(name=name)
            assert device.answer() == PieceRefusal(code=code, sha256=name, offset_bytes=0, message=server_text(code))
        device.ask(len(DATA))
        refused = device.answer()
        assert (getattr(refused, "code", ""), getattr(refused, "offset_bytes", 0)) == ("out_of_range", len(DATA))
        device.ask()
        assert isinstance(device.answer(), Piece)

        assert (server.counts.invalid, server.counts.absent, server.counts.failed) == (8, 3, 1)


def server_text(code: str) -> str:
    return {"not_found": "the store does not have it", "internal": "the store cannot be read"}[code]


def test_a_device_that_asks_for_everything_at_once_does_not_keep_another_from_its_turn(
    broker: Broker, store: Path
) -> None:
    with (
        giving(store, broker.url_for("pieces"), bytes_per_second=5 * PIECE_BYTES_MAX) as server,
        Device(broker, "pi-1") as greedy,
        Device(broker, "pi-2") as modest,
    ):
        for number in range(40):
            greedy.ask(number)
        before = server.counts.pieces
        modest.ask()
        modest.answer()

        assert server.counts.pieces - before < 10, "sixteen of the other's are waiting"


def test_a_full_queue_sends_devices_away_and_says_when_to_come_again(broker: Broker, store: Path) -> None:
    slow = PIECE_BYTES_MAX // 10  # one place, and a piece in ten seconds
    with (
        giving(store, broker.url_for("pieces"), bytes_per_second=slow) as server,
        Device(broker, "pi-1") as first,
        Device(broker, "pi-2") as second,
    ):
        for number in range(5):
            first.ask(number)
        second.ask()
        refused = second.answer()

        assert isinstance(refused, PieceRefusal)
        assert (refused.code, refused.sha256, refused.offset_bytes) == ("busy", NAME, 0)
        assert refused.retry_after_seconds is not None
        assert refused.retry_after_seconds >= 10
        assert server.status()["busy"] == 1


def test_a_device_asks_and_hears_for_itself_alone(broker: Broker, store: Path) -> None:
    with giving(store, broker.url_for("pieces")), Device(broker, "pi-1") as device, Device(broker, "pi-2") as other:
        assert device.publish(f"{TOPIC_ROOT}/device/pi-2/fetch") == NOT_AUTHORIZED
        assert device.publish(f"{TOPIC_ROOT}/device/pi-2/piece") == NOT_AUTHORIZED
        device.subscribe([f"{TOPIC_ROOT}/device/+/piece", f"{TOPIC_ROOT}/device/pi-2/piece"])
        other.ask()
        assert isinstance(other.answer(), Piece)
        device.ask(name="00" * 32)

        assert isinstance(device.answer(), PieceRefusal), "what the other was given came before, and not here"


def test_it_says_that_it_is_there_and_that_it_has_left(broker: Broker, store: Path) -> None:
    topic = f"{TOPIC_ROOT}/pieces/availability"
    with connected(broker, "alice") as alice:
        alice.subscribe([topic])
        with giving(store, broker.url_for("pieces")):
            while alice.received.get(timeout=WAIT_SECONDS) != (topic, b"online"):
                pass
        assert alice.received.get(timeout=WAIT_SECONDS) == (topic, b"offline")


def test_a_folder_that_is_no_store_is_refused_with_what_to_name(tmp_path: Path, broker: Broker) -> None:
    with pytest.raises(PieceStoreError, match="name releases/ of an orchestrator"):
        PieceServer(tmp_path, broker.url, TopicTree(), bytes_per_second=1)
