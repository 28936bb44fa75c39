"""What a device may send of its health that is not so: floods, what is no sample, old news, somebody else's name.

Whatever is sent here is no evidence, and the witness is told so.
"""

import random
from functools import partial
from math import nan
from typing import TYPE_CHECKING, Final

import msgpack

from schemas.ids import SHARD_COUNT, shard_of
from schemas.topics import Kind, TopicTree
from simulator.application import Counters, health_sample
from simulator.client import Client, Login
from simulator.device import SimulatedDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.world import World

_BURST_COUNT: Final = 70
"""Samples at once: more than a device may send after it was quiet."""
_LONG_BURSTS: Final = 14
"""Enough for longer than the minute after which a device is kept out."""
_BURST_SECONDS: Final = 5.0
_STRANGER_SECONDS: Final = 60.0


class Liar:
    """Sends from devices of a world what is no evidence.

    Attributes:
        told: What was sent so far, by kind; each of them happens in some seed.
    """

    def __init__(self, world: "World", rng: random.Random) -> None:
        self.told: set[str] = set()
        self._world = world
        self._rng = rng
        self._tree = TopicTree()
        self._strangers = 0

    def flood(self) -> None:
        """Let some device send far more than it may, once or for longer than a minute."""
        device = self._anybody()
        bursts = self._rng.choice((1, _LONG_BURSTS))
        self._note("flood" if bursts == 1 else "long_flood", device)
        payload = self._sample(device)
        for number in range(bursts):
            self._world.clock.after(number * _BURST_SECONDS, partial(self._burst, device, payload))

    def lie(self) -> None:
        """Let some device send something that is not so."""
        lies: tuple[Callable[[SimulatedDevice], None], ...] = (
            self._send_no_sample, self._send_no_numbers, self._send_old_news, self._use_another_name,
            self._use_another_shard, self._count_anew, self._be_a_stranger,
        )  # fmt: skip
        device = self._anybody()
        chosen = self._rng.choice(lies)
        self._note(chosen.__name__.lstrip("_"), device)
        chosen(device)

    def _send_no_sample(self, device: SimulatedDevice) -> None:
        self._send(device, self._rng.randbytes(self._rng.randint(1, 200)))

    def _send_no_numbers(self, device: SimulatedDevice) -> None:
        sample = msgpack.unpackb(self._sample(device))
        self._send(device, msgpack.packb({name: nan if type(it) is float else it for name, it in sample.items()}))

    def _send_old_news(self, device: SimulatedDevice) -> None:
        self._send(device, self._sample(device))

    def _use_another_name(self, device: SimulatedDevice) -> None:
        self._publish(device, self._tree.build(Kind.HEALTH, device=self._anybody().spec.id), self._sample(device))

    def _use_another_shard(self, device: SimulatedDevice) -> None:
        ours = shard_of(device.spec.id)
        other = f"{(int(ours) + 1) % SHARD_COUNT:02d}"
        topic = self._tree.build(Kind.HEALTH, device=device.spec.id).replace(f"/{ours}/", f"/{other}/")
        self._publish(device, topic, self._sample(device))

    def _count_anew(self, device: SimulatedDevice) -> None:
        device.plant.counters = Counters(since=self._world.clock.now)

    def _be_a_stranger(self, device: SimulatedDevice) -> None:
        """Connect under a name that nobody knows, and send samples."""
        self._strangers += 1
        name = f"x-{self._strangers:04d}"
        stranger = _Stranger(self._world, name, self._tree.build(Kind.HEALTH, device=name), self._sample(device))
        stranger.client.start()
        self._world.clock.after(_STRANGER_SECONDS, stranger.client.stop)

    def _burst(self, device: SimulatedDevice, payload: bytes) -> None:
        for _ in range(_BURST_COUNT):
            self._send(device, payload)

    def _sample(self, device: SimulatedDevice) -> bytes:
        """Return a sample that the device has sent before, or would have."""
        payload = health_sample(
            device.plant.application,
            Counters(),
            seq=1,
            boot_id=device.boot_id,
            version=device.plant.version_of(device.disk.active),
            now=self._world.clock.now,
            rng=self._rng,
        )
        self._world.witness.lies.add(payload)
        return payload

    def _send(self, device: SimulatedDevice, payload: bytes) -> None:
        self._world.witness.lies.add(payload)
        self._publish(device, self._tree.build(Kind.HEALTH, device=device.spec.id), payload)

    def _publish(self, device: SimulatedDevice, topic: str, payload: bytes) -> None:
        if device.client.is_connected and not device.is_asleep:
            device.client.publish(topic, payload, qos=0, retain=False)

    def _anybody(self) -> SimulatedDevice:
        return self._world.devices[self._rng.choice(sorted(self._world.devices))]

    def _note(self, what: str, device: SimulatedDevice) -> None:
        self.told.add(what)
        self._world.trace.add(device.spec.id, f"lies: {what}")


class _Stranger:
    """A program with a name that the broker lets in and no fleet knows."""

    def __init__(self, world: "World", name: str, topic: str, payload: bytes) -> None:
        self._topic, self._payload = topic, payload
        self.client = Client(world.clock, world.network, Login(name, ()), self, world.stream(name))

    def on_connected(self) -> None:
        """Send."""
        for _ in range(3):
            self.client.publish(self._topic, self._payload, qos=0, retain=False)

    def on_disconnected(self) -> None:
        """Come back."""

    def on_message(self, packet: object) -> None:
        """Hear nothing."""
