"""Packets to bytes."""

from typing import Final, assert_never

from embedded_broker.packets import (
    NO_PROPERTIES,
    Acknowledgement,
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
    Unsuback,
    Unsubscribe,
    Version,
)
from embedded_broker.properties import encode_properties
from embedded_broker.reasons import CONNECT_RETURN_CODES, Reason
from embedded_broker.wire import binary, text, u16, varint

_ACKNOWLEDGEMENT_HEADS: Final[dict[type[Acknowledgement], int]] = {
    Puback: 0x40,
    Pubrec: 0x50,
    Pubrel: 0x62,
    Pubcomp: 0x70,
}
_ERRORS_FROM: Final = 0x80


def encode(packet: Packet, version: Version) -> bytes:
    """Encode a packet for a peer of that version; total over every well-formed packet value.

    Properties and reasons that 3.1.1 does not know are left out. The caller keeps strings and binary data
    within 65535 bytes: what was decoded is.
    """
    match packet:
        case Publish():
            return _publish(packet, version)
        case Puback(reason=0, properties=properties) if properties is NO_PROPERTIES:
            return b"\x40\x02" + packet.packet_id.to_bytes(2, "big")
        case Puback() | Pubrec() | Pubrel() | Pubcomp():
            return _acknowledgement(packet, version)
        case Connect():
            return _connect(packet)
        case Connack():
            return _connack(packet, version)
        case Subscribe() | Unsubscribe():
            return _request(packet, version)
        case Suback():
            reasons = packet.reasons
            if version is Version.V311:
                reasons = tuple(min(reason, _ERRORS_FROM) for reason in reasons)
            return _framed(0x90, u16(packet.packet_id), _properties(packet.properties, version), bytes(reasons))
        case Unsuback():
            reasons = packet.reasons if version is Version.V5 else ()
            return _framed(0xB0, u16(packet.packet_id), _properties(packet.properties, version), bytes(reasons))
        case Pingreq():
            return b"\xc0\x00"
        case Pingresp():
            return b"\xd0\x00"
        case Disconnect():
            return b"\xe0\x00" if version is Version.V311 else _reasoned(0xE0, packet.reason, packet.properties)
        case Auth():
            return _reasoned(0xF0, packet.reason, packet.properties)
        case _:
            assert_never(packet)


def _framed(head: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((head,)) + varint(len(body)) + body


def _properties(properties: Properties, version: Version) -> bytes:
    return encode_properties(properties) if version is Version.V5 else b""


def _publish(packet: Publish, version: Version) -> bytes:
    """Encode by far the most frequent packet, without a detour."""
    topic, payload = packet.topic.encode(), packet.payload
    properties = encode_properties(packet.properties) if version is Version.V5 else b""
    qos = packet.qos
    number = packet.packet_id.to_bytes(2, "big") if qos else b""
    length = varint(2 + len(topic) + len(number) + len(properties) + len(payload))
    head = 0x30 | packet.dup << 3 | qos << 1 | packet.retain
    return b"".join((bytes((head,)), length, len(topic).to_bytes(2, "big"), topic, number, properties, payload))


def _acknowledgement(packet: Acknowledgement, version: Version) -> bytes:
    head = _ACKNOWLEDGEMENT_HEADS[type(packet)]
    packet_id = packet.packet_id.to_bytes(2, "big")
    if version is Version.V311 or (not packet.reason and packet.properties is NO_PROPERTIES):
        return bytes((head, 2)) + packet_id
    return _framed(head, packet_id, bytes((packet.reason,)), encode_properties(packet.properties))


def _reasoned(head: int, reason: int, properties: Properties) -> bytes:
    if not reason and properties is NO_PROPERTIES:
        return bytes((head, 0))
    return _framed(head, bytes((reason,)), encode_properties(properties))


def _connect(packet: Connect) -> bytes:
    will = packet.will
    flags = packet.clean_start << 1 | (packet.user is not None) << 7 | (packet.password is not None) << 6
    parts = [text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += [_properties(will.properties, packet.version), text(will.topic), binary(will.payload)]
    if packet.user is not None:
        parts.append(text(packet.user))
    if packet.password is not None:
        parts.append(binary(packet.password))
    head = text("MQTT") + bytes((packet.version, flags)) + u16(packet.keep_alive_seconds)
    return _framed(0x10, head, _properties(packet.properties, packet.version), *parts)


def _connack(packet: Connack, version: Version) -> bytes:
    if version is Version.V311:
        code = CONNECT_RETURN_CODES.get(packet.reason, CONNECT_RETURN_CODES[Reason.SERVER_UNAVAILABLE])
        return _framed(0x20, bytes((packet.session_present, code)))
    return _framed(0x20, bytes((packet.session_present, packet.reason)), encode_properties(packet.properties))


def _request(packet: Subscribe | Unsubscribe, version: Version) -> bytes:
    parts = [u16(packet.packet_id), _properties(packet.properties, version)]
    if isinstance(packet, Unsubscribe):
        return _framed(0xA2, *parts, *map(text, packet.filters))
    for one in packet.subscriptions:
        options = one.qos
        if version is Version.V5:
            options |= one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
        parts += [text(one.filter), bytes((options,))]
    return _framed(0x82, *parts)
