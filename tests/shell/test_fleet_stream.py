"""The reader of everybody's health: against a broker that does as it is told, and against real ones."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import aiomqtt
import pytest

from embedded_broker.codec import encode
from embedded_broker.packets import Connack, Connect, Puback, Publish, Suback, Subscribe, Version
from orchestrator.adapters import fleet_stream
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker, open_broker
from orchestrator.adapters.fleet_stream import FleetStream
from orchestrator.adapters.framing import Framed
from orchestrator.core.leases import ALL_SHARDS
from schemas.topics import TopicTree
from tests.shell.scripted_broker import Peer, scripted

TREE = TopicTree()
PATIENCE_SECONDS = 20.0


class Taken:
    """What a stream has taken in."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.odd: list[tuple[str, bytes]] = []
        self.turns = 0
        self._changed = asyncio.Event()

    def __call__(self, framed: Framed) -> None:
        self.turns += 1
        self.messages += zip(framed.devices, framed.payloads, strict=True)
        self.odd += [(each.topic, each.payload) for each in framed.odd]
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        await self.wait_until(lambda: len(self.messages) >= count)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Reading:
    """A stream that reads while the block lasts."""

    def __init__(
        self, url: BrokerUrl, take: Callable[[Framed], None], *, qos: int = 0, shards: Collection[int] = ALL_SHARDS
    ) -> None:
        self._stream = FleetStream(url, TREE, take, qos=qos, shards=shards)

    async def __aenter__(self) -> FleetStream:
        self._task = asyncio.create_task(self._stream.run())
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()


@pytest.fixture(autouse=True)
def _no_patience_with_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_stream, "retry_seconds", lambda _attempt: 0.01)


def sample(number: int, packet_id: int = 0) -> Publish:
    return Publish(f"fleet/v1/health/07/d{number}", b"%d" % number, qos=bool(packet_id), packet_id=packet_id)


async def subscribed(peer: Peer, *filters: tuple[str, int]) -> None:
    await peer.welcome()
    packet = await peer.hear()
    assert isinstance(packet, Subscribe)
    assert [(each.filter, each.qos) for each in packet.subscriptions] == list(filters or [("fleet/v1/health/+/+", 0)])
    await peer.say(Suback(packet.packet_id, tuple(each.qos for each in packet.subscriptions)))


async def test_messages_come_out_in_their_order_however_the_bytes_are_cut() -> None:
    data = b"".join(encode(sample(number), Version.V5) for number in range(60))

    async def script(peer: Peer) -> None:
        await subscribed(peer)
        for at in range(0, len(data), 37):
            await peer.say(data[at : at + 37])
            await asyncio.sleep(0.002)

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken):
        await taken.wait_for(60)
    assert taken.messages == [(f"d{number}", b"%d" % number) for number in range(60)]
    assert taken.turns < 60


async def test_messages_that_come_together_are_taken_in_together() -> None:
    async def script(peer: Peer) -> None:
        await subscribed(peer)
        await peer.say(*(sample(number) for number in range(1000)))
        await asyncio.sleep(0.1)

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken):
        await taken.wait_for(1000)
    assert taken.turns < 20


async def test_a_message_is_acknowledged_after_it_was_taken_in_and_in_its_order() -> None:
    acknowledged: list[int] = []
    taken = Taken()

    async def script(peer: Peer) -> None:
        await subscribed(peer, ("fleet/v1/health/+/+", 1))
        await peer.say(*(sample(number, packet_id=900 - number) for number in range(100)))
        for number in range(100):
            answer = await peer.hear()
            assert isinstance(answer, Puback)
            acknowledged.append(answer.packet_id)
            assert len(taken.messages) > number

    async with scripted(script) as url, Reading(url, taken, qos=1):
        await taken.wait_for(100)
    assert acknowledged == [900 - number for number in range(100)]


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", encode(Connack(reason=0x84), Version.V5)])
async def test_a_broker_that_does_not_speak_mqtt_5_is_asked_for_3_1_1(refusal: bytes) -> None:
    versions: list[Version] = []

    async def script(peer: Peer) -> None:
        if not versions:
            hello = await peer.hear()
            assert isinstance(hello, Connect)
            versions.append(hello.version)
            await peer.say(refusal)
            return
        await subscribed(peer)
        versions.append(peer.version)
        await peer.say(sample(1), sample(2))
        await asyncio.sleep(0.05)

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken):
        await taken.wait_for(2)
    assert versions[:2] == [Version.V5, Version.V311]
    assert taken.messages[:2] == [("d1", b"1"), ("d2", b"2")]


@pytest.mark.parametrize("farewell", [b"", b"\xe0\x01\x8e", b"\xff\xff\xff\xff\xff\xff", b"\x30\x03\x00\x09a"])
async def test_a_lost_connection_is_made_again_and_nothing_half_read_is_kept(farewell: bytes) -> None:
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        count += 1
        await subscribed(peer)
        await peer.say(sample(count))
        await taken.wait_for(count)
        await peer.say(farewell or encode(sample(7), Version.V5)[:-1])

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken):
        await taken.wait_for(3)
    assert [device for device, _ in taken.messages[:3]] == ["d1", "d2", "d3"]


@pytest.mark.parametrize("answers", [[b"\x20\x01\x00"], [encode(Connack(), Version.V5), b"\x90\x00"]])
async def test_an_answer_that_cannot_be_read_is_a_lost_connection_and_not_the_end(answers: list[bytes]) -> None:
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        count += 1
        if count > 1:
            await subscribed(peer)
            await peer.say(sample(1))
            await asyncio.sleep(0.05)
            return
        for answer in answers:
            await peer.hear()
            await peer.say(answer)

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken):
        await taken.wait_for(1)


async def test_a_subscription_that_is_refused_is_tried_again_and_said(caplog: pytest.LogCaptureFixture) -> None:
    tried = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.hear()
        await peer.say(Suback(1, (0x87,)))
        if "refused a subscription" in caplog.text:
            tried.set()

    async with scripted(script) as url, Reading(url, Taken()):
        await asyncio.wait_for(tried.wait(), PATIENCE_SECONDS)
    assert "the broker refused a subscription to fleet/v1/health/+/+" in caplog.text


async def test_what_goes_wrong_with_a_message_is_not_taken_for_a_lost_connection() -> None:
    async def script(peer: Peer) -> None:
        await subscribed(peer)
        await peer.say(sample(1))
        await asyncio.sleep(0.05)

    def take(_framed: Framed) -> None:
        raise ZeroDivisionError

    async with scripted(script) as url:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(FleetStream(url, TREE, take).run(), PATIENCE_SECONDS)


async def test_only_the_shards_that_were_asked_for_are_read() -> None:
    async def script(peer: Peer) -> None:
        await subscribed(peer, ("fleet/v1/health/62/+", 0), ("fleet/v1/health/63/+", 0))
        await peer.say(sample(1))
        await asyncio.sleep(0.05)

    taken = Taken()
    async with scripted(script) as url, Reading(url, taken, shards=range(62, 64)):
        await taken.wait_for(1)


# Real brokers.


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    with open_broker(None, tmp_path, kind=request.param, devices=["pi-1"]) as started:
        yield started


@pytest.mark.parametrize("qos", [0, 1])
async def test_nothing_is_lost_or_out_of_order_while_the_reader_is_slow(broker: Broker, qos: int) -> None:
    taken = Taken()

    def take(framed: Framed) -> None:
        taken(framed)
        if taken.turns % 5 == 0:
            time.sleep(0.05)

    url, topic = broker.url_for("pi-1", is_device=True), "fleet/v1/health/07/pi-1"
    async with (
        Reading(broker.url, take, qos=qos),
        aiomqtt.Client(url.host, url.port, username=url.username, password=url.password, identifier="pi-1") as client,
    ):
        # The first that arrives shows that the subscription holds.
        while not taken.messages:
            await client.publish(topic, b"first", qos)
            await asyncio.sleep(0.05)
        for number in range(1500):
            await client.publish(topic, b"%d" % number, qos)
        await client.publish(topic, b"last", qos)
        await taken.wait_until(lambda: taken.messages[-1] == ("pi-1", b"last"))
    numbers = [int(payload) for _, payload in taken.messages if payload.isdigit()]
    assert numbers == list(range(1500))
