"""A broker that has turned hostile: it knows everything that was ever said through it, and has no key.

It sits where the simulated broker hands packets to its clients. What it does, it does until ``stop``.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from embedded_broker.packets import Packet, Publish
from schemas.codec import decode, encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.messages import Desired, Grant, Ready
from schemas.topics import Kind, TopicTree
from simulator import World
from simulator.client import Client
from simulator.network import Connection, Network

Trick = Callable[["HostileBroker", str, Publish], Sequence[Publish]]
TREE = TopicTree()
ORDERS = (Kind.DESIRED, Kind.GRANT)
HELD_SECONDS = 60.0
"""So long the last ones wait at most for others to be shuffled with."""


class HostileBroker:
    """Hands on what ``trick`` makes of each message to a client; one that arrives twice has no packet id."""

    def __init__(self, world: World, trick: Trick, *, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.history: dict[tuple[str, Kind], list[Publish]] = defaultdict(list)
        self.questions: dict[str, Ready] = {}
        self.tampered = 0
        self.held: dict[str, list[Publish]] = defaultdict(list)
        self._trick = trick
        self._is_active = True
        self._network = world.network
        self._clock = world.clock
        self._connections: dict[str, Connection] = {}
        world.network._deliver = self._deliver  # type: ignore[method-assign]

    def stop(self) -> None:
        self._is_active = False

    def _deliver(self, connection: Connection, packet: Packet) -> None:
        if not self._is_active or not isinstance(packet, Publish):
            Network._deliver(self._network, connection, packet)
            return
        self._remember(packet)
        user = user_of(connection)
        self._connections[user] = connection
        out = self._trick(self, user, packet)
        self.tampered += list(out) != [packet]
        for each in out:
            Network._deliver(self._network, connection, each)

    def hold(self, user: str, packet: Publish) -> None:
        """Keep a message back, for ``HELD_SECONDS`` at most."""
        if not self.held[user]:
            self._clock.after(HELD_SECONDS, lambda: self._hand_over(user))
        self.held[user].append(packet)

    def take_held(self, user: str) -> list[Publish]:
        """Return what was kept back, shuffled."""
        out = self.held.pop(user, [])
        self.rng.shuffle(out)
        return out

    def _hand_over(self, user: str) -> None:
        for each in self.take_held(user):
            Network._deliver(self._network, self._connections[user], each)

    def _remember(self, packet: Publish) -> None:
        address = TREE.parse(packet.topic)
        if address is None or not packet.payload:
            return
        if address.kind in ORDERS:
            self.history[address.ids["device"], address.kind].append(packet)
        if address.kind is Kind.READY:
            self.questions[address.ids["device"]] = decode(Ready, packet.payload)

    def old(self, kind: Kind, device: str) -> list[Publish]:
        """Return something it has seen for a device, if it has."""
        seen = self.history.get((device, kind))
        return [again(self.rng.choice(seen))] if seen else []


def user_of(connection: Connection) -> str:
    client = getattr(connection.take, "__self__", None)
    assert isinstance(client, Client)
    return client._login.user


def again(packet: Publish) -> Publish:
    return packet._replace(qos=0, packet_id=0)


def replays(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """Old orders and old grants, with each message."""
    return [*broker.old(Kind.DESIRED, user), packet, *broker.old(Kind.GRANT, user)]


def misdelivers(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """What is meant for others, under the device's own topic."""
    devices = {device for device, _ in broker.history}
    others = sorted(devices - {user})
    if user not in devices or not others:
        return [packet]
    other = broker.rng.choice(others)
    found = [*broker.old(Kind.DESIRED, other), *broker.old(Kind.GRANT, other)]
    return [packet, *(each._replace(topic=each.topic.replace(other, user)) for each in found)]


def forges(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """Orders for what nobody signed, and grants for them under a key of its own."""
    address = TREE.parse(packet.topic)
    if address is None or address.kind not in ORDERS or not packet.payload:
        return [packet]
    seen = broker.history[user, Kind.DESIRED]
    if not seen:
        return [packet]
    real = decode(Desired, seen[-1].payload)
    assert real.manifest is not None or real.action != "install"
    manifest = None if real.manifest is None else real.manifest.model_copy(update={"sha256": "f" * 64})
    order = encode(real.model_copy(update={"manifest": manifest, "wave": "forged"}))
    forged = [again(seen[-1]._replace(payload=order))]
    question = broker.questions.get(user)
    if question is not None:
        grant = Grant(
            device=user, generation=question.generation, step=question.step, epoch=1_000_000, seq=1_000_000,
            nonce=question.nonce, decision="go", desired_sha256="f" * 64, ttl_seconds=60.0,
            server_time="2026-11-23T10:00:00Z",
        )  # fmt: skip
        sealed = seal(GRANT_TYPE, encode(grant), Ed25519PrivateKey.from_private_bytes(b"h" * 32))
        forged.append(Publish(TREE.build(Kind.GRANT, device=user), sealed))
    return [*forged, packet]


def withholds(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """Half of all grants and reports."""
    address = TREE.parse(packet.topic)
    is_one = address is not None and address.kind in {Kind.GRANT, Kind.REPORTED}
    return [] if is_one and broker.rng.random() < 0.5 else [packet]


def rewinds(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """The first order it has seen instead of the last."""
    address = TREE.parse(packet.topic)
    if address is None or address.kind is not Kind.DESIRED:
        return [packet]
    return [packet._replace(payload=broker.history[user, Kind.DESIRED][0].payload)] if packet.payload else [packet]


def repeats(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """Everything ten times."""
    return [packet, *(again(packet) for _ in range(9))]


def reorders(broker: HostileBroker, user: str, packet: Publish) -> Sequence[Publish]:
    """Hands out three at a time, shuffled, or what there is after a minute."""
    broker.hold(user, packet)
    return broker.take_held(user) if len(broker.held[user]) == 3 else []
