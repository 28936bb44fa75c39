"""Taking many messages apart at once gives what taking them apart one by one gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters import packets
from orchestrator.adapters.framing import frame
from orchestrator.adapters.packets import Incoming, ProtocolError

PREFIX = b"fleet/v1/health/"
_TOPICS = st.one_of(
    st.sampled_from([
        "fleet/v1/health/07/pi-1", "fleet/v1/health/63/x", "fleet/v1/health/64/x", "fleet/v1/health/7/x",
        "fleet/v1/health/07/", "fleet/v1/health/07x", "fleet/v1/health/0a/pi", "fleet/v2/health/07/pi-1", "a", "",
        "fleet/v1/health/07/ümlaut", "fleet/v1/health/:0/pi", "fleet/v1/health/12/" + "n" * 200,
    ]),
    st.text(max_size=40),
)  # fmt: skip
_PAYLOADS = st.one_of(st.binary(max_size=40), st.just(b"x" * 150), st.just(b"y" * 20_000))


@st.composite
def _messages(draw: st.DrawFn, *, has_properties: bool) -> bytes:
    topic = draw(_TOPICS).encode()
    qos, retain = draw(st.sampled_from([0, 1])), draw(st.booleans())
    properties = b""
    if has_properties:
        correlation = draw(st.none() | st.binary(max_size=200))
        properties = b"\0"
        if correlation is not None:
            size = 3 + len(correlation)
            length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
            properties = length + b"\x09" + len(correlation).to_bytes(2, "big") + correlation
    number = draw(st.integers(1, 0xFFFF)).to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + number + properties + draw(_PAYLOADS)
    return packets._framed(0x30 | qos << 1 | retain, body)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[bytes, bool]:
    has_properties = draw(st.booleans())
    other = st.sampled_from([b"\xd0\x00", b"\x90\x03\x00\x01\x00", b"\xe0\x01\x8e"])
    parts = draw(st.lists(st.one_of(_messages(has_properties=has_properties), other), max_size=12))
    data = b"".join(parts)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data, has_properties


def _is_plain(message: Incoming) -> bool:
    levels = message.topic.split("/")
    return (
        message.topic.startswith(PREFIX.decode())
        and len(levels) >= 5
        and levels[3] in {f"{shard:02d}" for shard in range(64)}
        and "/".join(levels[4:]) != ""
        and message.payload != b""
        and not message.retain
        and message.correlation is None
    )


@settings(max_examples=400)
@given(_streams())
def test_a_stretch_of_bytes_is_read_as_packet_by_packet(stream: tuple[bytes, bool]) -> None:
    data, has_properties = stream
    found = frame(data, PREFIX, has_properties=has_properties)
    messages, others, used = [], [], 0
    for head, body, end in packets.split(data):
        used = end
        if head >> 4 == packets.PUBLISH:
            messages.append(packets.read_publish(head, body, has_properties=has_properties))
        else:
            others.append((head, body))
    plain = [each for each in messages if _is_plain(each)]
    assert found.used == used
    assert found.others == others
    assert found.odd == [each for each in messages if not _is_plain(each)]
    assert found.payloads == [each.payload for each in plain]
    assert [each.encode("latin-1").decode() for each in found.devices] == [
        each.topic.split("/", 4)[4] for each in plain
    ]
    assert [f"{shard:02d}" for shard in found.shards.tolist()] == [each.topic.split("/")[3] for each in plain]
    assert found.answers == b"".join(packets.puback(each.packet_id) for each in messages if each.packet_id)


@settings(max_examples=400)
@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_packets_are_refused_or_wait_for_more(data: bytes, has_properties: bool) -> None:  # noqa: FBT001 - drawn
    try:
        found = frame(data, PREFIX, has_properties=has_properties)
    except ProtocolError:
        return
    assert 0 <= found.used <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\xff\xff\x7f",  # of two megabytes
        b"\x30\x00",  # no topic
        b"\x30\x03\x00\x09a",  # a topic that is longer than its message
        b"\x32\x04\x00\x01ab",  # no room for the packet id
    ],
)
def test_a_message_that_cannot_be_is_the_brokers_fault(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        frame(data, PREFIX, has_properties=True)
