"""The codec: what it writes it reads, and no bytes make it fail in any way but its own."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded_broker.codec import Parser, decode, encode
from embedded_broker.errors import PacketError
from embedded_broker.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from embedded_broker.reasons import Reason

BOTH_VERSIONS: list[Packet] = [
    Connack(session_present=True),
    Connack(reason=Reason.NOT_AUTHORIZED),
    Publish("a/b", b"payload"),
    Publish("ä/😀", b"", qos=2, retain=True, dup=True, packet_id=65535),
    Publish("a", b"x" * 20_000, qos=1, packet_id=1),
    Puback(1),
    Pubrec(2),
    Pubrel(3),
    Pubcomp(4),
    Subscribe(5, (Subscription("a/#", 2), Subscription("+", 0))),
    Suback(5, (2, 0x80)),
    Unsubscribe(6, ("a/#", "+")),
    Unsuback(6),
    Pingreq(),
    Pingresp(),
    Disconnect(),
]
ONLY_5: list[Packet] = [
    Connect(
        "id",
        Version.V5,
        clean_start=False,
        keep_alive_seconds=60,
        user="user",
        password=b"\x00secret",
        will=Will("w", b"gone", 1, retain=True, properties=Properties(will_delay_seconds=5, content_type="t")),
        properties=Properties(session_expiry_seconds=2**32 - 1, receive_maximum=1, user_properties=(("k", "v"),)),
    ),
    Connack(properties=Properties(assigned_client_id="auto-1", shared_available=0, packet_size_maximum_bytes=9)),
    Publish(
        "a",
        b"x",
        properties=Properties(
            payload_format=1,
            message_expiry_seconds=0,
            response_topic="r",
            correlation_data=b"\xff",
            subscription_identifiers=(1, 300, 268_435_455),
            user_properties=(("k", "1"), ("k", "2")),
            topic_alias=7,
        ),
    ),
    Puback(1, Reason.NOT_AUTHORIZED, Properties(reason_string="no")),
    Pubrel(1, Reason.PACKET_IDENTIFIER_NOT_FOUND),
    Subscribe(1, (Subscription("a", 1, no_local=True, retain_as_published=True, retain_handling=2),)),
    Unsuback(1, (0, 0x11)),
    Disconnect(Reason.SESSION_TAKEN_OVER, Properties(reason_string="other")),
    Auth(0x18, Properties(authentication_method="m", authentication_data=b"d")),
]
ONLY_311: list[Packet] = [
    Connect("id", Version.V311, user="u", password=b"p", will=Will("w", b"gone", 2)),
    Connect("", Version.V311),
]


@pytest.mark.parametrize(
    ("packet", "version"),
    [(one, version) for one in BOTH_VERSIONS for version in Version]
    + [(one, Version.V5) for one in ONLY_5]
    + [(one, Version.V311) for one in ONLY_311],
)
def test_packet_is_the_same_after_a_round_trip_in_any_pieces(packet: Packet, version: Version) -> None:
    data = encode(packet, version)
    assert list(Parser(version).feed(data)) == [packet]
    parser = Parser(version)
    assert [one for index in range(len(data)) for one in parser.feed(data[index : index + 1])] == [packet]


def test_parser_takes_the_version_from_connect() -> None:
    parser = Parser()
    stream = encode(Connect("a", Version.V311), Version.V311) + encode(Publish("t", b"x"), Version.V311)
    assert list(parser.feed(stream)) == [Connect("a", Version.V311), Publish("t", b"x")]


def test_good_packets_come_before_the_error_of_a_bad_one() -> None:
    packets = Parser().feed(encode(Pingreq(), Version.V5) + b"\x00\x00")
    assert next(packets) == Pingreq()
    with pytest.raises(PacketError, match="packet type 0"):
        next(packets)


def test_packet_is_refused_by_its_length_before_its_body_arrives() -> None:
    with pytest.raises(PacketError, match="larger than the 100 allowed") as caught:
        list(Parser(size_max_bytes=100).feed(b"\x30\xff\xff\x03"))
    assert caught.value.reason == Reason.PACKET_TOO_LARGE


def test_packet_of_exactly_the_allowed_size_is_taken() -> None:
    data = encode(Publish("t", b"x" * 90), Version.V311)
    assert list(Parser(Version.V311, size_max_bytes=len(data)).feed(data))
    with pytest.raises(PacketError):
        list(Parser(Version.V311, size_max_bytes=len(data) - 1).feed(data))


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("36 05 0001 61 0001", "QoS 3"),
        ("38 03 0001 61", "DUP"),
        ("32 05 0001 61 0000", "identifier is 0"),
        ("30 03 0005 61", "in the middle"),
        ("30 04 0001 00 00", "control character"),
        ("30 05 0002 c328 00", "not UTF-8"),
        ("30 05 0001 61 02 01", "in the middle"),
        ("30 06 0001 61 02 0102", "neither 0 nor 1"),
        ("30 08 0001 61 04 01000100", "twice"),
        ("30 06 0001 61 02 1300", "not allowed here"),
        ("30 06 0001 61 02 0b00", "is 0"),
        ("80 06 0001 00 0001 61", "flags"),
        ("82 03 0001 00", "no filter"),
        ("82 07 0001 00 0001 61 03", "QoS 3"),
        ("82 07 0001 00 0001 61 c0", "reserved option"),
        ("82 07 0001 00 0001 61 30", "retain handling 3"),
        ("c0 01 00", "goes on"),
        ("30 ff ff ff ff 01", "longer than four"),
        ("10 0d 0004 4d515454 05 01 0000 00 0000", "reserved flag"),
        ("10 0d 0004 4d515454 05 08 0000 00 0000", "will flags"),
        ("10 0c 0004 4d515454 03 02 0000 0000", "not spoken"),
        ("10 0c 0004 4d515454 04 42 0000 0000", "no user name"),
    ],
)
def test_malformed_packet_is_refused_and_says_why(data: str, place: str) -> None:
    with pytest.raises(PacketError, match=place):
        list(Parser().feed(bytes.fromhex(data)))


@pytest.mark.parametrize("data", ["90 03 0001 7f", "b0 03 0001 00", "f0 00", "20 02 0009"])
def test_packet_that_only_mqtt_5_knows_is_refused_on_an_old_connection(data: str) -> None:
    with pytest.raises(PacketError):
        list(Parser(Version.V311).feed(bytes.fromhex(data)))


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=200), st.sampled_from(Version))
def test_arbitrary_bytes_raise_nothing_but_the_codecs_error(data: bytes, version: Version) -> None:
    with suppress(PacketError):
        list(Parser(version, size_max_bytes=1000).feed(data))


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 255), st.binary(max_size=60), st.sampled_from(Version))
def test_arbitrary_body_is_refused_or_survives_a_round_trip(head: int, body: bytes, version: Version) -> None:
    try:
        packet = decode(head, body, version)
    except PacketError:
        return
    spoken = packet.version if isinstance(packet, Connect) else version
    assert list(Parser(spoken).feed(encode(packet, spoken))) == [packet]


@settings(deadline=None, max_examples=400)
@given(st.data(), st.sampled_from([*ONLY_5, *BOTH_VERSIONS]))
def test_damaged_packet_raises_nothing_but_the_codecs_error(data: st.DataObject, packet: Packet) -> None:
    encoded = bytearray(encode(packet, Version.V5))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    with suppress(PacketError):
        list(Parser().feed(bytes(encoded)))
