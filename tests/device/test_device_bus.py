"""What the device makes of messages, and when it connects again; without a broker."""

import hashlib
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.mqtt import RECONNECT_SECONDS, RECONNECT_SECONDS_MAX, Broker, Bus
from device_client.adapters.peers import Neighbours
from device_client.adapters.pieces import Pieces
from device_client.adapters.trust import PinnedKeys
from device_client.core.events import DesiredReceived, Event, GrantReceived, HoldCleared, HoldReceived
from schemas.codec import encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.messages import Ready
from schemas.topics import Kind, TopicTree
from tests.device.device_bench import Bench, make_desired
from tests.device.peer_world import KEY as KEY_OF_SITE
from tests.device.peer_world import told

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TOPICS = TopicTree()
GRANT = Bench().ready().make_grant(Ready(generation=1, step="activate", nonce="a" * 32), desired_sha256="0" * 64)
ENVELOPE = seal(GRANT_TYPE, encode(GRANT), KEY)
DESIRED = encode(make_desired(7))
ATTEMPTS = 12


class Hearing(Bus):
    """A bus without a broker: messages are handed to it, and it sleeps without waiting."""

    def __init__(self, neighbours: Neighbours | None = None, pieces: Pieces | None = None) -> None:
        self.heard: list[Event] = []
        self.pauses: list[float] = []
        trust = PinnedKeys((), (KEY.public_key().public_bytes_raw(),))
        broker = Broker("127.0.0.1", 1, None, None)
        super().__init__(
            broker,
            TOPICS,
            "pi-1",
            trust=trust,
            clock=lambda: 0.0,
            post=self.heard.append,
            neighbours=neighbours,
            pieces=pieces,
        )

    def hear(self, kind: Kind, payload: bytes, *, retained: bool = False, device: str = "pi-1") -> list[Event]:
        self.heard.clear()
        ids = {} if kind is Kind.HOLD else {"device": device}
        message = SimpleNamespace(topic=TOPICS.build(kind, **ids), payload=payload, retain=retained)
        self._on_message(self._client, None, message)
        return list(self.heard)


@pytest.fixture
def bus() -> Iterator[Hearing]:
    made = Hearing()
    yield made
    made.end()


def test_grant_is_heard_only_as_it_is_given_and_never_from_the_brokers_store(bus: Hearing) -> None:
    assert bus.hear(Kind.GRANT, ENVELOPE) == [GrantReceived(GRANT)]
    assert bus.hear(Kind.GRANT, ENVELOPE, retained=True) == []


@pytest.mark.parametrize("payload", [b'{"reason": "fire"}', b"stop!", b"\xff", b"{", b"[]"])
def test_whatever_stands_where_the_brake_is_is_a_brake(bus: Hearing, payload: bytes) -> None:
    assert bus.hear(Kind.HOLD, payload, retained=True) == [HoldReceived()]


def test_brake_is_lifted_by_taking_it_away(bus: Hearing) -> None:
    assert bus.hear(Kind.HOLD, b"") == [HoldCleared()]


def test_order_that_vanished_from_the_broker_orders_nothing(bus: Hearing) -> None:
    order = DesiredReceived(make_desired(7), hashlib.sha256(DESIRED).hexdigest())

    assert bus.hear(Kind.DESIRED, DESIRED, retained=True) == [order]
    assert bus.hear(Kind.DESIRED, b"", retained=True) == []


@pytest.mark.parametrize(("kind", "payload"), [(Kind.GRANT, ENVELOPE), (Kind.DESIRED, DESIRED)])
def test_what_is_said_to_another_device_is_not_heard(bus: Hearing, kind: Kind, payload: bytes) -> None:
    assert bus.hear(kind, payload, device="pi-2") == []


def test_what_is_told_of_neighbours_is_taken_under_the_key_that_an_order_named_and_nothing_else() -> None:
    neighbours = Neighbours(None, lambda *_: None)
    neighbours.key = KEY_OF_SITE
    bus = Hearing(neighbours)
    good = encode(told("0" * 64, "http://10.0.0.1:80"))

    def hear(key: str, payload: bytes) -> list[str]:
        topic = TOPICS.build(Kind.PEERS, key=key)
        bus._on_message(bus._client, None, SimpleNamespace(topic=topic, payload=payload, retain=True))
        assert bus.heard == []
        return neighbours.urls("0" * 64)

    assert hear("f" * 16, good) == []
    assert hear(KEY_OF_SITE, good) == ["http://10.0.0.1:80"]
    assert hear(KEY_OF_SITE, b'{"site": 7}') == ["http://10.0.0.1:80"]
    assert hear(KEY_OF_SITE, b"") == []
    bus.end()


def test_neighbours_are_listened_for_again_with_every_connect_and_nobody_waits_for_that() -> None:
    neighbours = Neighbours(None, lambda *_: None)
    bus = Hearing(neighbours)
    asked: list[object] = []

    def subscribe(filters: object, *_: object) -> tuple[int, int]:
        asked.append(filters)
        return 0, len(asked)

    client = SimpleNamespace(subscribe=subscribe, is_connected=lambda: True, disconnect=lambda: None)
    bus._client = cast("Any", client)
    neighbours.key = KEY_OF_SITE
    bus._on_connect(bus._client, None, None, SimpleNamespace(is_failure=False), None)  # type: ignore[arg-type]  # all that it looks at

    assert asked[1] == TOPICS.build(Kind.PEERS, key=KEY_OF_SITE)
    bus._on_subscribe(bus._client, None, 2, [], None)
    assert bus.heard == [], "that was the answer about neighbours"


def test_what_is_retained_is_asked_for_again_in_turn_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Hearing()
    asked: list[list[str]] = []

    def subscribe(filters: list[tuple[str, int]]) -> tuple[int, int]:
        asked.append([topic for topic, _ in filters])
        return 0, len(asked)

    sent = SimpleNamespace(subscribe=subscribe, is_connected=lambda: True, publish=lambda *_, **__: None)
    sent.disconnect = lambda: None
    bus._client = cast("Any", sent)
    bus._on_connect(bus._client, None, None, SimpleNamespace(is_failure=False), None)  # type: ignore[arg-type]  # all that it looks at
    for minute in range(120):
        monkeypatch.setattr(bus, "_clock", lambda minute=minute: minute * 60.0)
        bus.publish(Kind.HEALTH, b"{}")

    connect, *again = asked
    assert len(connect) == 6
    assert {len(each) for each in again} == {1}
    assert {topic for each in again for topic in each} == {
        TOPICS.build(Kind.DESIRED, device="pi-1"), TOPICS.build(Kind.AVAILABILITY, device="pi-1"),
        TOPICS.build(Kind.HOLD), TOPICS.build(Kind.TRUST),
    }  # fmt: skip
    bus._on_subscribe(bus._client, None, 2, [], None)
    assert bus.heard == [], "only the first answer means that it is connected"


def test_pauses_between_attempts_to_connect_grow_and_are_not_those_of_other_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = [pauses_of(Hearing(), monkeypatch) for _ in range(2)]

    most = [min(RECONNECT_SECONDS * 2**number, RECONNECT_SECONDS_MAX) for number in range(ATTEMPTS)]
    assert all(full / 2 <= pause <= full for device in pauses for pause, full in zip(device, most, strict=True))
    assert not set(pauses[0]) & set(pauses[1])


def pauses_of(bus: Hearing, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let a device try to reach a broker that is not there, and return how long it would have slept each time."""
    found: list[float] = []

    def refuse(*_arguments: object) -> None:
        raise ConnectionRefusedError

    def sleep(seconds: float) -> bool:
        found.append(seconds)
        if len(found) == ATTEMPTS:
            bus._ended.set()
        return bus._ended.is_set()

    monkeypatch.setattr(bus._client, "connect", refuse)
    monkeypatch.setattr(bus._ended, "wait", sleep)
    bus._run()
    return found


def test_pieces_are_subscribed_to_and_heard_by_a_device_that_takes_them_and_by_no_other() -> None:
    pieces = Pieces(random.Random(1))
    for bus, topics in ((Hearing(), 6), (Hearing(pieces=pieces), 7)):
        asked: list[list[tuple[str, int]]] = []

        def subscribe(filters: list[tuple[str, int]], *_: object, asked: list[Any] = asked) -> tuple[int, int]:
            asked.append(filters)
            return 0, len(asked)

        bus._client = cast(
            "Any", SimpleNamespace(subscribe=subscribe, is_connected=lambda: False, disconnect=lambda: 0)
        )
        bus._on_connect(bus._client, None, None, SimpleNamespace(is_failure=False), None)  # type: ignore[arg-type]  # all that it looks at
        assert [len(filters) for filters in asked] == [topics]
        assert ((TOPICS.build(Kind.PIECE, device="pi-1"), 0) in asked[0]) == (topics == 7)
        for payload in (b"rubbish", b'{"code": "busy"}', b"tgpiece1"):
            assert bus.hear(Kind.PIECE, payload) == []
        bus.end()
    assert pieces.unwanted == 1, "one could be read, and nobody had asked"
