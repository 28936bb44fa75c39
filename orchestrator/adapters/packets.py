"""MQTT as far as the orchestrator's connections need it: packets to bytes, bytes to packets, nothing kept.

All of it is version 5; what a reader of samples needs is 3.1.1 as well, where messages carry no properties.

Source:
    MQTT 5.0 and MQTT 3.1.1, chapters 2 and 3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from schemas.errors import FleetError

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
SUBACK: Final = 9
UNSUBACK: Final = 11
DISCONNECT: Final = 14
PINGREQ: Final = b"\xc0\x00"
FAREWELL: Final = b"\xe0\x00"
"""DISCONNECT without a reason: the broker sends no will."""
FAILURES_FROM: Final = 0x80
"""Reason codes from here on say that something was refused."""
RECEIVE_MAXIMUM: Final = 0x21
EXPIRY: Final = 0x02
RESPONSE_TOPIC: Final = 0x08
CORRELATION: Final = 0x09
SERVER_KEEP_ALIVE: Final = 0x13
MAXIMUM_PACKET_SIZE: Final = 0x27
PACKET_BYTES_MAX: Final = 256 * 1024
"""Larger ones are not sent to us; no message of the contract comes near it."""

_INTEGER_BYTES: Final = {
    0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4,
    0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_TEXTS: Final = frozenset({0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F})
_BINARIES: Final = frozenset({0x09, 0x16})
_SUBSCRIPTION_IDENTIFIER, _USER_PROPERTY = 0x0B, 0x26
CONTINUES: Final = 0x80
_VARINT_BYTES_MAX: Final = 4


class ProtocolError(FleetError):
    """The broker's fault: bytes that MQTT 5 does not allow."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that the broker delivers; ``packet_id`` is 0 where no answer is wanted."""

    topic: str
    payload: bytes
    retain: bool
    packet_id: int
    response_topic: str | None = None
    correlation: bytes | None = None


def split(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each packet that is complete: its first byte, its body, and how many bytes are used up with it.

    Raises:
        ProtocolError: No packet can begin like this.
    """
    at, end = 0, len(data)
    while at + 1 < end:
        length, body = data[at + 1], at + 2
        if length >= CONTINUES:
            try:
                length, body = read_varint(data, at + 1)
            except IndexError:
                return
        if length > PACKET_BYTES_MAX:
            raise ProtocolError(f"a packet of {length} bytes, which we did not allow")
        if body + length > end:
            return
        yield data[at], data[body : body + length], body + length
        at = body + length


def connect(
    client_id: str,
    *,
    keep_alive_seconds: int,
    receive_maximum: int,
    will: tuple[str, bytes] | None,
    user: str | None,
    password: str | None,
    has_properties: bool = True,
) -> bytes:
    """Return CONNECT for a session that ends with its connection.

    Args:
        client_id: How the broker tells the user's connections apart.
        keep_alive_seconds: The broker ends a connection that says nothing for one and a half times as long.
        receive_maximum: How many messages may be unacknowledged towards us.
        will: Topic and payload that the broker publishes, retained, when the connection is lost; None for nothing.
        user: The broker's user; None for nobody.
        password: Of the user.
        has_properties: Speak MQTT 5; else 3.1.1, which knows nothing of the maximum.
    """
    flags = 0x02 | (user is not None) << 7 | (password is not None) << 6 | (0x2C if will is not None else 0)
    properties = b"".join((
        bytes((RECEIVE_MAXIMUM,)), receive_maximum.to_bytes(2, "big"),
        bytes((MAXIMUM_PACKET_SIZE,)), PACKET_BYTES_MAX.to_bytes(4, "big"),
    ))  # fmt: skip
    level, none = (5, b"\0") if has_properties else (4, b"")
    parts = [_text("MQTT"), bytes((level, flags)), keep_alive_seconds.to_bytes(2, "big")]
    parts += [_binary_varint(properties) if has_properties else b"", _text(client_id)]
    if will is not None:
        topic, payload = will
        parts += [none, _text(topic), len(payload).to_bytes(2, "big") + payload]
    parts += [_text(each) for each in (user, password) if each is not None]
    return _framed(0x10, b"".join(parts))


def subscribe(packet_id: int, filters: Iterable[tuple[str, int]], *, has_properties: bool = True) -> bytes:
    """Return SUBSCRIBE for filters with their QoS; in MQTT 5 what is retained is marked so whenever it comes."""
    retain_as_published, none = (0x08, b"\0") if has_properties else (0, b"")
    wanted = b"".join(_text(each) + bytes((qos | retain_as_published,)) for each, qos in filters)
    return _framed(0x82, packet_id.to_bytes(2, "big") + none + wanted)


def unsubscribe(packet_id: int, filters: Iterable[str], *, has_properties: bool = True) -> bytes:
    """Return UNSUBSCRIBE."""
    return _framed(
        0xA2, packet_id.to_bytes(2, "big") + (b"\0" if has_properties else b"") + b"".join(map(_text, filters))
    )


def publish(
    topic: str,
    payload: bytes,
    packet_id: int,
    *,
    retain: bool,
    correlation: bytes | None = None,
    expiry_seconds: int | None = None,
    has_properties: bool = True,
) -> bytes:
    """Return PUBLISH, with QoS 1 if there is a packet id and QoS 0 if that is 0; in 3.1.1 it has no properties."""
    name = topic.encode()
    said = b""
    if correlation is not None:
        said += bytes((CORRELATION,)) + len(correlation).to_bytes(2, "big") + correlation
    if expiry_seconds is not None:
        said += bytes((EXPIRY,)) + expiry_seconds.to_bytes(4, "big")
    properties = _binary_varint(said) if has_properties else b""
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    head = 0x30 | bool(packet_id) << 1 | retain
    return _framed(head, b"".join((len(name).to_bytes(2, "big"), name, number, properties, payload)))


def puback(packet_id: int) -> bytes:
    """Return PUBACK: the message was taken."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def read_publish(head: int, body: bytes, *, has_properties: bool = True) -> Incoming:
    """Read a PUBLISH; in 3.1.1 it has no properties.

    Raises:
        ProtocolError: It is none.
    """
    try:
        at = 2 + int.from_bytes(body[:2], "big")
        topic = body[2:at].decode()
        packet_id = 0
        if head & 0x06:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        if not has_properties:
            return Incoming(topic, body[at:], bool(head & 1), packet_id)
        if not body[at]:  # no properties: by far the most
            return Incoming(topic, body[at + 1 :], bool(head & 1), packet_id)
        properties, at = read_properties(body, at)
        response, correlation = properties.get(RESPONSE_TOPIC), properties.get(CORRELATION)
        return Incoming(topic, body[at:], bool(head & 1), packet_id, response, correlation)
    except (IndexError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a message that cannot be read: {error}") from error


def read_answer(body: bytes) -> tuple[int, int]:
    """Read a PUBACK: packet id and reason code."""
    return int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0  # noqa: PLR2004 - a left-out reason is 0


def read_suback(body: bytes, *, has_properties: bool = True) -> bytes:
    """Read a SUBACK: a reason code for each filter.

    Raises:
        ProtocolError: It is none.
    """
    try:
        return body[read_properties(body, 2)[1] if has_properties else 2 :]
    except (IndexError, UnicodeDecodeError) as error:
        raise ProtocolError("an answer to SUBSCRIBE that cannot be read") from error


def read_connack(body: bytes) -> tuple[int, dict[int, Any]]:
    """Read a CONNACK: reason code and properties.

    Raises:
        ProtocolError: It is none.
    """
    try:
        # A broker that does not speak MQTT 5 answers in the format of 3.1.1, which has no properties.
        return body[1], read_properties(body, 2)[0] if len(body) > 2 else {}  # noqa: PLR2004
    except (IndexError, UnicodeDecodeError) as error:
        raise ProtocolError("an answer to CONNECT that cannot be read") from error


def read_properties(body: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Return the properties that begin at ``at`` by their numbers, and where they end."""
    size, at = read_varint(body, at)
    end = at + size
    found: dict[int, Any] = {}
    while at < end:
        kind, at = body[at], at + 1
        if kind in _INTEGER_BYTES:
            width = _INTEGER_BYTES[kind]
            found[kind], at = int.from_bytes(body[at : at + width], "big"), at + width
        elif kind in _TEXTS or kind in _BINARIES:
            value, at = _sized(body, at)
            found[kind] = value.decode() if kind in _TEXTS else value
        elif kind == _SUBSCRIPTION_IDENTIFIER:
            _, at = read_varint(body, at)
        elif kind == _USER_PROPERTY:
            _, at = _sized(body, at)
            _, at = _sized(body, at)
        else:
            raise ProtocolError(f"property {kind:#x} does not exist")
    return found, end


def _sized(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    return body[at + 2 : end], end


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable byte integer that begins at ``at``, and where it ends.

    Raises:
        IndexError: It ends behind the data.
        ProtocolError: It is longer than it may be.
    """
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        byte = data[at + index]
        value |= (byte & ~CONTINUES) << (7 * index)
        if byte < CONTINUES:
            return value, at + index + 1
    raise ProtocolError("a length of more than four bytes")


def _framed(head: int, body: bytes) -> bytes:
    return bytes((head,)) + _binary_varint(body)


def _binary_varint(data: bytes) -> bytes:
    """Return data with its length in front, as a variable byte integer."""
    size = len(data)
    length = bytearray()
    while size >= CONTINUES:
        length.append(size & ~CONTINUES & 0xFF | CONTINUES)
        size >>= 7
    length.append(size)
    return bytes(length) + data


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
