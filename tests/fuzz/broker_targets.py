"""Readers of MQTT: those of our own connections, and the embedded broker from the parser to what it does."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, Final

from embedded_broker.codec import Parser, encode
from embedded_broker.core import Broker
from embedded_broker.errors import PacketError, StoreError
from embedded_broker.hub import Hub, HubLimits, Peer
from embedded_broker.packets import Connect, Packet, Properties, Publish, Subscribe, Subscription, Version, Will
from embedded_broker.state import BrokerConfig
from orchestrator.adapters import packets as mqtt
from orchestrator.adapters.framing import frame
from orchestrator.adapters.packets import ProtocolError
from tests.broker.test_broker_codec import BOTH_VERSIONS, ONLY_5, ONLY_311
from tests.fuzz.mutator import Mutator, Shape, packet, packets
from tests.fuzz.target import Target

PREFIX: Final = b"fleet/v1/health/"
_READERS: Final[dict[int, Callable[..., object]]] = {
    mqtt.CONNACK: lambda body, **_: mqtt.read_connack(body),
    mqtt.SUBACK: mqtt.read_suback,
    mqtt.PUBACK: lambda body, **_: mqtt.read_answer(body),
}


def _read_stream(payload: bytes) -> None:
    """Both versions, and every packet by whatever reads it."""
    for has_properties in (False, True):
        for head, body, _ in mqtt.split(payload):
            if head >> 4 == mqtt.PUBLISH:
                mqtt.read_publish(head, body, has_properties=has_properties)
            elif head >> 4 in _READERS:
                _READERS[head >> 4](body, has_properties=has_properties)


def _frame(payload: bytes) -> None:
    """Taking a stretch apart at once finds as many packets as taking it apart one by one."""
    for has_properties in (False, True):
        found = frame(payload, PREFIX, has_properties=has_properties)
        whole = list(mqtt.split(payload))
        assert found.used == (whole[-1][2] if whole else 0)
        assert len(found.payloads) + len(found.odd) + len(found.others) == len(whole)


@cache
def _packets() -> tuple[bytes, ...]:
    known = [(each, version) for each in BOTH_VERSIONS for version in Version]
    known += [(each, Version.V5) for each in ONLY_5] + [(each, Version.V311) for each in ONLY_311]
    small = dict.fromkeys(data for each, version in known if len(data := encode(each, version)) < 1000)
    samples = [
        mqtt.publish(f"fleet/v1/health/{shard:02d}/pi-1", b"\x81\xa3seq\x01", number, retain=False)
        for shard in (0, 7, 63, 64)
        for number in (0, 5)
    ]
    return (*small, *samples)


def _packet_seeds() -> list[bytes]:
    each = list(_packets())
    return [
        *each,
        b"".join(each),
        b"".join(each[-4:] * 20),
        b"\x30\xff\xff\xff\xff",
        b"\x30\xff\xff\xff\x7f",
        b"\x30\x80\x80\x80\x00",
    ]


def _streams(_seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    return (packets(_packets()),)


def _parse(payload: bytes) -> None:
    """What is read can be written and is read the same; and it is the same in any pieces."""
    for version in Version:
        parser = Parser(version)
        for each in parser.feed(payload):
            again = encode(each, parser.version)
            assert list(Parser(parser.version).feed(again)) == [each], each


class _Loop:
    """Takes the event loop's place: what is due in this turn is done when it is told to, and nothing is late."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self.due.append((callback, arguments))

    def call_later(self, _seconds: float, _callback: Callable[..., object], *_arguments: object) -> "_Loop":
        return self

    def cancel(self) -> None:
        """No timer ever fires."""

    def turn(self) -> None:
        due, self.due = self.due, []
        for callback, arguments in due:
            callback(*arguments)


class _Wire:
    """A connection that forgets what is written."""

    def __init__(self) -> None:
        self.is_open = True
        self.held_bytes = 0

    def write(self, data: bytes) -> None:
        self.held_bytes += len(data)

    def unsent_bytes(self) -> int:
        return self.held_bytes

    def close(self) -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False

    def hold(self, *, is_held: bool) -> None:
        """Nobody reads on."""


class _House:
    """A hub with three connections; an operation is a byte that says what, two with a length, and data."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = _Loop()
        config = BrokerConfig(is_durable=True, sessions_max=4, subscriptions_max=8, retained_max=8, queued_max=20)
        asyncio._set_running_loop(self.loop)  # type: ignore[arg-type]  # so much of one as the hub uses
        try:
            self.hub = Hub(
                Broker(config), store=None, passwords=None, packet_size_max_bytes=4096,
                limits=HubLimits(unsent_soft_bytes=16_384, unsent_hard_bytes=65_536), clock=lambda: self.now,
                on_failure=self._fail,
            )  # fmt: skip
        finally:
            asyncio._set_running_loop(None)
        self.peers: dict[int, tuple[Peer, _Wire]] = {}

    def _fail(self, error: StoreError) -> None:
        raise error

    def play(self, payload: bytes) -> None:
        at = 0
        while at < len(payload):
            what, size = payload[at], int.from_bytes(payload[at + 1 : at + 3], "big")
            self._do(what, payload[at + 3 : at + 3 + size])
            self.loop.turn()
            at += 3 + size
        self._check()

    def _do(self, what: int, data: bytes) -> None:
        number = what & 3
        match what >> 4:
            case 0xF:
                self.now += what & 0xF or 4000
                self.hub._on_tick()
            case 0xE:
                if number in self.peers:
                    self.hub.lost(self.peers.pop(number)[0])
            case _:
                peer, wire = self.peers.get(number) or self._open(number)
                if wire.is_open:
                    self.hub.received(peer, data)
                else:
                    self.hub.lost(self.peers.pop(number)[0])

    def _open(self, number: int) -> tuple[Peer, _Wire]:
        wire = _Wire()
        peer = self.hub.opened(wire)
        assert peer is not None, "there is room for four"
        self.peers[number] = peer, wire
        return peer, wire

    def _check(self) -> None:
        """No limit was passed, and what a restart finds is what the one after it finds."""
        state = self.hub._broker.snapshot()
        assert len(state.sessions) <= 4
        assert len(state.retained) <= 8
        again = Broker.restore(BrokerConfig(), state, self.now).snapshot()
        assert Broker.restore(BrokerConfig(), again, self.now).snapshot() == again


def _play(payload: bytes) -> None:
    _House().play(payload)


def operation(what: int, data: bytes = b"") -> bytes:
    """Return one operation of a house, with as much of ``data`` as its length can say."""
    data = data[:0xFFFF]
    return bytes((what,)) + len(data).to_bytes(2, "big") + data


def _script(*each: tuple[int, Packet], version: Version = Version.V5) -> bytes:
    return b"".join(operation(what, encode(packet, version)) for what, packet in each)


def _play_seeds() -> list[bytes]:
    stay = Properties(session_expiry_seconds=100, receive_maximum=2)
    will = Will("w/1", b"gone", 1, retain=True, properties=Properties(will_delay_seconds=5))
    scripts = [
        _script((0, Connect("a", Version.V5, properties=stay, will=will)), (1, Connect("b", Version.V5)),
                (0, Subscribe(1, (Subscription("w/#", 2), Subscription("+/x", 1)))), (1, Publish("w/x", b"1", 2,
                packet_id=3)),
                (1, Publish("w/x", b"2", 1, retain=True, packet_id=4))),
        _script((0, Connect("a", Version.V311)), (0, Subscribe(1, (Subscription("#", 1),))), (0, Publish("t", b"1",
        1, packet_id=2)),
                (0, Publish("t", b"", 0, retain=True)), version=Version.V311),
        operation(0xE0) + operation(0xF1) + operation(0xF0),
    ]  # fmt: skip
    return [*scripts, b"".join(scripts), *(operation(0, each) for each in _packets())]


def _plays(_seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    """Make scripts of whole packets: clients that connect, do much, vanish and come back while time passes."""
    known, mutator = _packets(), Mutator([each[1:] for each in _packets()])
    opening = [each for each in known if each[0] == 0x10]

    def shape(rng: Random) -> bytes:
        out = [operation(number, rng.choice(opening)) for number in range(rng.choice((1, 2, 3)))]
        for _ in range(rng.randrange(1, 16)):
            what = rng.choice((0, 0, 0, 1, 1, 2, 0xE0, 0xE1, 0xF1, 0xF0))
            if what >= 0xE0:
                out.append(operation(what))
            else:
                one = rng.choice(opening) if rng.random() < 0.15 else rng.choice(known)
                out.append(operation(what, packet(rng, one, mutator) if rng.random() < 0.4 else one))
        return b"".join(out)

    return (shape,)


BROKER: Final[dict[str, Target]] = {
    "mqtt-stream": Target(_read_stream, (ProtocolError,), _packet_seeds, _streams),
    "mqtt-frames": Target(_frame, (ProtocolError,), _packet_seeds, _streams),
    "broker-parser": Target(_parse, (PacketError,), _packet_seeds, _streams),
    "broker-hub": Target(_play, (), _play_seeds, _plays, cost=4),
}
