"""The orchestrator's connection: against the embedded broker's codec byte by byte, and against the broker itself."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded_broker.codec import Parser, encode
from embedded_broker.packets import (
    Connack,
    Connect,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Version,
)
from orchestrator.adapters import packets
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker, open_broker
from orchestrator.adapters.connection import Connection, DisconnectedError
from orchestrator.adapters.packets import Incoming, ProtocolError
from orchestrator.outgoing import Outgoing
from tests.shell.scripted_broker import Peer, scripted

WILL = ("orchestrator/availability", b"offline")
NAMES = st.text(st.sampled_from("abz019_-/é€"), max_size=40)
PACKET_IDS = st.integers(1, 0xFFFF)


def parsed(data: bytes) -> list[Packet]:
    return list(Parser(Version.V5).feed(data))


# The bytes, against another codec.


@given(NAMES, st.binary(max_size=300), st.integers(0, 0xFFFF), st.booleans(), st.none() | st.binary(max_size=20))
def test_what_we_publish_is_read_by_another_codec(
    topic: str,
    payload: bytes,
    packet_id: int,
    retain: bool,  # noqa: FBT001 - drawn
    correlation: bytes | None,
) -> None:
    data = packets.publish(f"t/{topic}", payload, packet_id, retain=retain, correlation=correlation)

    (read,) = parsed(data)

    assert isinstance(read, Publish)
    assert (read.topic, read.payload, read.retain) == (f"t/{topic}", payload, retain)
    assert (read.packet_id, read.qos) == (packet_id, int(packet_id > 0))
    assert read.properties.correlation_data == correlation


@given(
    st.lists(
        st.builds(
            Publish,
            topic=st.sampled_from(["a", "a/b", "ä/€"]),
            payload=st.binary(max_size=300),
            qos=st.sampled_from([0, 1]),
            retain=st.booleans(),
            packet_id=PACKET_IDS,
            properties=st.builds(
                Properties,
                response_topic=st.none() | st.just("r"),
                correlation_data=st.none() | st.binary(max_size=9),
                content_type=st.none() | st.just("text"),
                message_expiry_seconds=st.none() | st.integers(0, 99),
                user_properties=st.just(()) | st.just((("a", "b"),)),
            ),
        ),
        max_size=8,
    ),
    st.integers(1, 50),
)
def test_what_another_codec_writes_is_read_however_it_is_cut(sent: list[Publish], size: int) -> None:
    sent = [each if each.qos else Publish(each.topic, each.payload, retain=each.retain) for each in sent]
    data = b"".join(encode(each, Version.V5) for each in sent)
    read: list[Incoming] = []
    rest = b""
    for at in range(0, len(data), size):
        rest += data[at : at + size]
        used = 0
        for head, body, end in packets.split(rest):
            read.append(packets.read_publish(head, body))
            used = end
        rest = rest[used:]

    assert rest == b""
    assert read == [
        Incoming(each.topic, each.payload, each.retain, each.packet_id if each.qos else 0,
                 each.properties.response_topic, each.properties.correlation_data)
        for each in sent
    ]  # fmt: skip


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_a_protocol_error(data: bytes) -> None:
    for read in (packets.read_connack, packets.read_suback):
        try:
            read(data)
        except ProtocolError:
            continue
    try:
        for head, body, _ in packets.split(data):
            packets.read_publish(head, body)
    except ProtocolError:
        pass


def test_connect_says_who_we_are_what_we_take_and_what_to_say_when_we_are_lost() -> None:
    data = packets.connect("me", keep_alive_seconds=60, receive_maximum=99, will=WILL, user="u", password="p")

    (read,) = parsed(data)

    assert isinstance(read, Connect)
    assert (read.client_id, read.clean_start, read.keep_alive_seconds) == ("me", True, 60)
    assert (read.user, read.password) == ("u", b"p")
    assert read.will is not None
    assert (read.will.topic, read.will.payload, read.will.qos, read.will.retain) == (*WILL, 1, True)
    assert read.properties == Properties(receive_maximum=99, packet_size_maximum_bytes=packets.PACKET_BYTES_MAX)


def test_subscribe_and_puback_are_read_by_another_codec() -> None:
    (subscribe, puback) = parsed(packets.subscribe(7, [("a/+", 1), ("b", 0)]) + packets.puback(9))

    assert subscribe == Subscribe(
        7, (Subscription("a/+", 1, retain_as_published=True), Subscription("b", 0, retain_as_published=True))
    )
    assert puback == Puback(9)


def test_a_packet_larger_than_we_allow_ends_the_connection_before_it_is_kept() -> None:
    with pytest.raises(ProtocolError, match="which we did not allow"):
        list(packets.split(b"\x30\xff\xff\xff\x7f"))


# A scripted broker.


async def open_to(url: BrokerUrl, refused: list[tuple[str, int]] | None = None) -> Connection:
    noted = [] if refused is None else refused
    return await Connection.open(
        url, "me", WILL, note_refused=lambda topic, reason: noted.append((topic, reason)), on_idle=lambda: None
    )


def orders(count: int) -> list[Outgoing]:
    return [Outgoing(f"t/{number}", b"x") for number in range(count)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (encode(Connack(reason=0x86), Version.V5), "user or password is wrong"),
        (encode(Connack(reason=0x9B), Version.V5), "reason 0x9b"),
        (b"\x20\x02\x00\x01", "reason 0x1|does not speak MQTT 5"),
        (b"\x20\x05\x00\x00\x02\x7f\x00", "no MQTT 5 broker: property 0x7f does not exist"),
        (b"\x20\x01\x00", "no MQTT 5 broker"),
        (b"\xff\xff\xff\xff\xff\xff", "a length of more than four bytes"),
        (b"", "the broker closed the connection"),
    ],
)
async def test_a_broker_that_does_not_welcome_us_is_named_with_its_reason(answer: bytes, says: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(answer)

    async with scripted(script) as url:
        with pytest.raises(DisconnectedError, match=says):
            await open_to(url)


async def test_nobody_at_the_port_is_an_error_that_says_so() -> None:
    async with scripted(lambda _peer: asyncio.sleep(0)) as url:
        pass
    with pytest.raises(DisconnectedError, match="Connect call failed"):
        await open_to(url)


async def test_no_more_is_in_flight_than_the_broker_takes() -> None:
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.welcome(Properties(receive_maximum=3))
        open_ids: list[int] = []
        for _ in range(20):
            packet = await peer.hear()
            assert isinstance(packet, Publish)
            open_ids.append(packet.packet_id)
            most = max(most, len(open_ids))
            if len(open_ids) == 3:
                await peer.say(*(Puback(packet_id) for packet_id in open_ids))
                open_ids.clear()

    async with scripted(script) as url:
        connection = await open_to(url)
        connection.send(orders(20))
        with pytest.raises(DisconnectedError):
            await connection.read(1)

    assert most == 3
    assert [each.topic for each in connection.unacknowledged()] == ["t/18", "t/19"]


async def test_what_was_not_acknowledged_stays_ours_in_its_order() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(5):
            packet = await peer.hear()
            assert isinstance(packet, Publish)
            if packet.topic in {"t/0", "t/2"}:
                await peer.say(Puback(packet.packet_id))

    async with scripted(script) as url:
        connection = await open_to(url)
        connection.send(orders(5))
        with pytest.raises(DisconnectedError, match="closed the connection"):
            await connection.read(1)

    assert [each.topic for each in connection.unacknowledged()] == ["t/1", "t/3", "t/4"]


async def test_a_message_that_the_broker_refuses_is_noted_and_not_sent_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        packet = await peer.hear()
        assert isinstance(packet, Publish)
        await peer.say(Puback(packet.packet_id, reason=0x87))

    refused: list[tuple[str, int]] = []
    async with scripted(script) as url:
        connection = await open_to(url, refused)
        connection.send(orders(1))
        with pytest.raises(DisconnectedError):
            await connection.read(1)

    assert refused == [("t/0", 0x87)]
    assert connection.unacknowledged() == []


async def test_a_refused_subscription_names_the_topic() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        packet = await peer.hear()
        assert isinstance(packet, Subscribe)
        await peer.say(Suback(packet.packet_id, (1, 0x87)))
        await peer.hear()

    async with scripted(script) as url:
        connection = await open_to(url)
        with pytest.raises(DisconnectedError, match="refused a subscription to b/secret"):
            await connection.subscribe([("a", 1), ("b/secret", 1)])
        connection.abort()


async def test_a_message_is_acknowledged_when_it_was_taken_and_not_before() -> None:
    heard: list[Packet] = []
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(Publish("a", b"1", qos=1, packet_id=5), Publish("b", b"2"), Publish("c", b"3", 1, packet_id=6))
        heard.append(await peer.hear())
        assert read.is_set(), "it was acknowledged before it was taken"
        heard.append(await peer.hear())

    async with scripted(script) as url:
        connection = await open_to(url)
        messages: list[Incoming] = []
        while len(messages) < 3:
            messages += await connection.read(2)
        read.set()
        connection.take(messages)
        with pytest.raises(DisconnectedError):
            await connection.read(1)

    assert [each.topic for each in messages] == ["a", "b", "c"]
    assert heard == [Puback(5), Puback(6)]


async def test_what_is_put_back_is_read_next_in_its_order() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(*(Publish(name, b"") for name in "abcd"))

    async with scripted(script) as url:
        connection = await open_to(url)
        messages: list[Incoming] = []
        while len(messages) < 4:
            messages += await connection.read(4)
        connection.put_back(messages[1:])
        again = [*await connection.read(2), *await connection.read(2)]

    assert [each.topic for each in again] == ["b", "c", "d"]


async def test_leaving_says_a_last_word_and_sends_no_will() -> None:
    heard: list[Packet] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        heard.append(await peer.hear())
        first = heard[0]
        assert isinstance(first, Publish)
        await peer.say(Puback(first.packet_id))
        heard.append(await peer.hear())

    async with scripted(script) as url:
        connection = await open_to(url)
        await connection.leave(Outgoing("bye", b"offline", retain=True))

    assert isinstance(heard[0], Publish)
    assert (heard[0].topic, heard[0].retain) == ("bye", True)
    assert type(heard[1]).__name__ == "Disconnect"


async def test_leaving_does_not_count_what_it_drops_as_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(Properties(receive_maximum=1))
        for _ in range(2):
            packet = await peer.hear()
            assert isinstance(packet, Publish)
            await peer.say(Puback(packet.packet_id))

    idle = 0

    def note_idle() -> None:
        nonlocal idle
        idle += 1

    async with scripted(script) as url:
        connection = await Connection.open(url, "me", WILL, note_refused=lambda *_: None, on_idle=note_idle)
        before = idle
        connection.send(orders(5))
        await connection.leave(Outgoing("bye", b"offline", retain=True))

    assert idle == before


@pytest.mark.parametrize("count", [0, 2, 3])
async def test_what_was_sent_counts_as_arrived_once_the_broker_has_acknowledged_all_of_it(count: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        packets_heard = [await peer.hear() for _ in range(3)]
        await peer.say(*(Puback(each.packet_id) for each in packets_heard[:count] if isinstance(each, Publish)))

    idle: list[int] = []
    async with scripted(script) as url:
        connection = await Connection.open(
            url, "me", WILL, note_refused=lambda *_: None, on_idle=lambda: idle.append(1)
        )
        idle.clear()
        connection.send(orders(3))
        with pytest.raises(DisconnectedError):
            await connection.read(1)

    assert bool(idle) is (count == 3)


# The embedded broker itself.


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with open_broker(None, tmp_path_factory.mktemp("broker"), operators=("alice",)) as found:
        yield found


async def test_thousands_of_messages_come_through_a_broker_in_order(broker: Broker) -> None:
    count = 5000
    listener = await open_to(broker.url)
    await listener.subscribe([("fleet/v1/rollout/+/event/#", 1)])
    sender = await Connection.open(broker.url, "other", WILL, note_refused=lambda *_: None, on_idle=lambda: None)
    topics = [f"fleet/v1/rollout/r-{number}/event/started" for number in range(count)]
    sender.send(Outgoing(topic, b"{}") for topic in topics)

    heard: list[str] = []
    async with asyncio.timeout(60):
        while len(heard) < count:
            messages = await listener.read(100)
            listener.take(messages)
            heard += [each.topic for each in messages]

    assert heard == topics
    await sender.leave(Outgoing(WILL[0], b"offline"))
    await listener.leave(Outgoing(WILL[0], b"offline"))
