"""The properties of MQTT 5 as one table, and their encoding."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Final

from embedded_broker.errors import PacketError
from embedded_broker.packets import NO_PROPERTIES, Properties
from embedded_broker.reasons import Reason
from embedded_broker.wire import Reader, binary, text, u16, varint

PropertyValue = int | str | bytes | tuple[str, str]


class Where(Flag):
    """The packets a property may stand in; ``WILL`` is the will inside CONNECT."""

    CONNECT = auto()
    WILL = auto()
    CONNACK = auto()
    PUBLISH = auto()
    ACKNOWLEDGEMENT = auto()
    SUBSCRIBE = auto()
    SUBACK = auto()
    UNSUBSCRIBE = auto()
    DISCONNECT = auto()
    AUTH = auto()


class _Kind(Enum):
    """How a value is written: its reader and its writer."""

    FLAG = auto()  # one byte, 0 or 1
    U16 = auto()
    POSITIVE_U16 = auto()
    U32 = auto()
    POSITIVE_U32 = auto()
    IDENTIFIER = auto()  # a positive variable byte integer
    TEXT = auto()
    BINARY = auto()
    PAIR = auto()


@dataclass(frozen=True, slots=True)
class _Rule:
    field: str
    kind: _Kind
    where: Where


_ANSWERS: Final = Where.CONNACK | Where.ACKNOWLEDGEMENT | Where.SUBACK | Where.DISCONNECT | Where.AUTH
_MESSAGE: Final = Where.PUBLISH | Where.WILL
_RULES: Final[dict[int, _Rule]] = {
    0x01: _Rule("payload_format", _Kind.FLAG, _MESSAGE),
    0x02: _Rule("message_expiry_seconds", _Kind.U32, _MESSAGE),
    0x03: _Rule("content_type", _Kind.TEXT, _MESSAGE),
    0x08: _Rule("response_topic", _Kind.TEXT, _MESSAGE),
    0x09: _Rule("correlation_data", _Kind.BINARY, _MESSAGE),
    0x0B: _Rule("subscription_identifiers", _Kind.IDENTIFIER, Where.PUBLISH | Where.SUBSCRIBE),
    0x11: _Rule("session_expiry_seconds", _Kind.U32, Where.CONNECT | Where.CONNACK | Where.DISCONNECT),
    0x12: _Rule("assigned_client_id", _Kind.TEXT, Where.CONNACK),
    0x13: _Rule("server_keep_alive_seconds", _Kind.U16, Where.CONNACK),
    0x15: _Rule("authentication_method", _Kind.TEXT, Where.CONNECT | Where.CONNACK | Where.AUTH),
    0x16: _Rule("authentication_data", _Kind.BINARY, Where.CONNECT | Where.CONNACK | Where.AUTH),
    0x17: _Rule("request_problem_information", _Kind.FLAG, Where.CONNECT),
    0x18: _Rule("will_delay_seconds", _Kind.U32, Where.WILL),
    0x19: _Rule("request_response_information", _Kind.FLAG, Where.CONNECT),
    0x1A: _Rule("response_information", _Kind.TEXT, Where.CONNACK),
    0x1C: _Rule("server_reference", _Kind.TEXT, Where.CONNACK | Where.DISCONNECT),
    0x1F: _Rule("reason_string", _Kind.TEXT, _ANSWERS),
    0x21: _Rule("receive_maximum", _Kind.POSITIVE_U16, Where.CONNECT | Where.CONNACK),
    0x22: _Rule("topic_alias_maximum", _Kind.U16, Where.CONNECT | Where.CONNACK),
    0x23: _Rule("topic_alias", _Kind.U16, Where.PUBLISH),
    0x24: _Rule("qos_maximum", _Kind.FLAG, Where.CONNACK),
    0x25: _Rule("retain_available", _Kind.FLAG, Where.CONNACK),
    0x26: _Rule(
        "user_properties", _Kind.PAIR, _ANSWERS | _MESSAGE | Where.CONNECT | Where.SUBSCRIBE | Where.UNSUBSCRIBE
    ),
    0x27: _Rule("packet_size_maximum_bytes", _Kind.POSITIVE_U32, Where.CONNECT | Where.CONNACK),
    0x28: _Rule("wildcard_available", _Kind.FLAG, Where.CONNACK),
    0x29: _Rule("identifiers_available", _Kind.FLAG, Where.CONNACK),
    0x2A: _Rule("shared_available", _Kind.FLAG, Where.CONNACK),
}
_REPEATABLE: Final = frozenset({_Kind.PAIR, _Kind.IDENTIFIER})
_POSITIVE: Final = frozenset({_Kind.POSITIVE_U16, _Kind.POSITIVE_U32, _Kind.IDENTIFIER})


def _read_pair(reader: Reader) -> tuple[str, str]:
    return reader.text(), reader.text()


_READERS: Final[dict[_Kind, Callable[[Reader], PropertyValue]]] = {
    _Kind.FLAG: Reader.u8,
    _Kind.U16: Reader.u16,
    _Kind.POSITIVE_U16: Reader.u16,
    _Kind.U32: Reader.u32,
    _Kind.POSITIVE_U32: Reader.u32,
    _Kind.IDENTIFIER: Reader.varint,
    _Kind.TEXT: Reader.text,
    _Kind.BINARY: Reader.binary,
    _Kind.PAIR: _read_pair,
}


def _write(kind: _Kind, value: PropertyValue) -> bytes:
    match value:
        case str():
            return text(value)
        case bytes():
            return binary(value)
        case tuple():
            return text(value[0]) + text(value[1])
    match kind:
        case _Kind.U16 | _Kind.POSITIVE_U16:
            return u16(value)
        case _Kind.U32 | _Kind.POSITIVE_U32:
            return value.to_bytes(4, "big")
        case _Kind.IDENTIFIER:
            return varint(value)
        case _:
            return bytes((value,))


def encode_properties(properties: Properties) -> bytes:
    """Encode properties with their length in front."""
    if properties is NO_PROPERTIES:
        return b"\x00"
    parts: list[bytes] = []
    for identifier, rule in _RULES.items():
        value = getattr(properties, rule.field)
        if value is None:
            continue
        prefix = bytes((identifier,))
        values = value if rule.kind in _REPEATABLE else (value,)
        parts.extend(prefix + _write(rule.kind, one) for one in values)
    body = b"".join(parts)
    return varint(len(body)) + body


def decode_properties(reader: Reader, where: Where) -> Properties:
    """Read properties with their length in front.

    Raises:
        PacketError: An unknown, repeated or misplaced property, or a value its rule does not allow.
    """
    length = reader.varint()
    if not length:
        return NO_PROPERTIES
    inner = Reader(reader.take(length))
    found: dict[str, PropertyValue] = {}
    repeated: dict[str, list[PropertyValue]] = {}
    while inner.left_bytes:
        identifier = inner.varint()
        rule = _RULES.get(identifier)
        if rule is None or where not in rule.where:
            raise PacketError(f"property 0x{identifier:02x} is not allowed here")
        value = _READERS[rule.kind](inner)
        _check(rule, value)
        if rule.kind in _REPEATABLE:
            repeated.setdefault(rule.field, []).append(value)
        elif rule.field in found:
            raise PacketError(f"property {rule.field} is there twice", Reason.PROTOCOL_ERROR)
        else:
            found[rule.field] = value
    if where is Where.SUBSCRIBE and len(repeated.get("subscription_identifiers", ())) > 1:
        raise PacketError("SUBSCRIBE holds more than one subscription identifier", Reason.PROTOCOL_ERROR)
    every = found | {field: tuple(values) for field, values in repeated.items()}
    return Properties(**every)  # type: ignore[arg-type] # the table ties each field to its type


def _check(rule: _Rule, value: PropertyValue) -> None:
    if rule.kind is _Kind.FLAG and value not in (0, 1):
        raise PacketError(f"property {rule.field} is neither 0 nor 1", Reason.PROTOCOL_ERROR)
    if rule.kind in _POSITIVE and value == 0:
        raise PacketError(f"property {rule.field} is 0", Reason.PROTOCOL_ERROR)
