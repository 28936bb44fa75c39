"""Bytes of one packet to its value; everything MQTT forbids in a packet by itself is refused here.

What needs a session to judge (packet ids in use, topic aliases, order of packets) is the core's.
"""

from collections.abc import Callable
from typing import Final

from embedded_broker.errors import PacketError
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
    Subscription,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from embedded_broker.properties import Where, decode_properties
from embedded_broker.reasons import CONNECT_RETURN_CODES, Reason
from embedded_broker.wire import Reader, decode_text

_QOS_MAX: Final = 2
_RETAIN_HANDLING_MAX: Final = 2
_RETURN_CODES_OF_SUBACK: Final = frozenset({0, 1, 2, Reason.UNSPECIFIED_ERROR})
_REASONS_BY_RETURN_CODE: Final = {code: reason for reason, code in CONNECT_RETURN_CODES.items()}


def decode(head: int, body: bytes, version: Version) -> Packet:
    """Decode one packet.

    Args:
        head: Its first byte: type and flags.
        body: All after the remaining length.
        version: What the connection speaks; CONNECT brings its own.

    Raises:
        PacketError: MQTT does not allow these bytes.
    """
    kind = head >> 4
    if kind == _PUBLISH:
        return _publish(head & 0x0F, body, version)
    rule = _DECODERS.get(kind)
    if rule is None:
        raise PacketError(f"packet type {kind} does not exist")
    flags, decoder = rule
    if head & 0x0F != flags:
        raise PacketError(f"packet type {kind} has flags {head & 0x0F:#x}, must be {flags:#x}")
    reader = Reader(body)
    packet = decoder(reader, version)
    reader.end()
    return packet


def _properties(reader: Reader, version: Version, where: Where) -> Properties:
    return decode_properties(reader, where) if version is Version.V5 else NO_PROPERTIES


def _check_qos(qos: int) -> int:
    if qos > _QOS_MAX:
        raise PacketError("QoS 3 does not exist")
    return qos


def _publish(flags: int, body: bytes, version: Version) -> Publish:
    qos = _check_qos(flags >> 1 & 3)
    dup = bool(flags & 8)
    if dup and not qos:
        raise PacketError("DUP is set on a message of QoS 0")
    topic_end = 2 + int.from_bytes(body[:2], "big")
    at = topic_end + 2 if qos else topic_end
    if at > len(body):
        raise PacketError("PUBLISH ends in the middle of a field")
    topic = decode_text(body[2:topic_end])
    packet_id = int.from_bytes(body[topic_end:at], "big") if qos else 0
    if qos and not packet_id:
        raise PacketError("a packet identifier is 0", Reason.PROTOCOL_ERROR)
    if version is Version.V311:
        return Publish(topic, body[at:], qos, bool(flags & 1), dup, packet_id)
    if at < len(body) and not body[at]:  # no properties: by far the most messages
        return Publish(topic, body[at + 1 :], qos, bool(flags & 1), dup, packet_id)
    reader = Reader(body[at:])
    properties = decode_properties(reader, Where.PUBLISH)
    return Publish(topic, reader.rest(), qos, bool(flags & 1), dup, packet_id, properties)


def _connect(reader: Reader, _version: Version) -> Connect:
    name, level = reader.binary(), reader.u8()
    if name != b"MQTT" or level not in tuple(Version):
        raise PacketError(
            f"protocol {name!r} level {level} is not spoken here; use MQTT 3.1.1 or 5",
            Reason.UNSUPPORTED_PROTOCOL_VERSION,
        )
    version = Version(level)
    flags = reader.u8()
    if flags & 0x01:
        raise PacketError("the reserved flag of CONNECT is set")
    if version is Version.V311 and flags & 0x40 and not flags & 0x80:
        raise PacketError("CONNECT has a password and no user name", Reason.PROTOCOL_ERROR)
    keep_alive_seconds = reader.u16()
    properties = _properties(reader, version, Where.CONNECT)
    return Connect(
        client_id=reader.text(),
        version=version,
        clean_start=bool(flags & 0x02),
        keep_alive_seconds=keep_alive_seconds,
        will=_will(reader, version, flags),
        user=reader.text() if flags & 0x80 else None,
        password=reader.binary() if flags & 0x40 else None,
        properties=properties,
    )


def _will(reader: Reader, version: Version, flags: int) -> Will | None:
    qos, retain = _check_qos(flags >> 3 & 3), bool(flags & 0x20)
    if not flags & 0x04:
        if qos or retain:
            raise PacketError("CONNECT has will flags and no will")
        return None
    properties = _properties(reader, version, Where.WILL)
    return Will(reader.text(), reader.binary(), qos, retain, properties)


def _connack(reader: Reader, version: Version) -> Connack:
    present, code = reader.u8(), reader.u8()
    if present > 1:
        raise PacketError("CONNACK has a reserved flag")
    if version is Version.V5:
        return Connack(bool(present), code, decode_properties(reader, Where.CONNACK))
    if code not in _REASONS_BY_RETURN_CODE:
        raise PacketError(f"CONNACK has return code {code}")
    return Connack(bool(present), _REASONS_BY_RETURN_CODE[code])


def _acknowledgement(make: type[Acknowledgement]) -> Callable[[Reader, Version], Acknowledgement]:
    def decoder(reader: Reader, version: Version) -> Acknowledgement:
        packet_id = reader.packet_id()
        if version is Version.V311 or not reader.left_bytes:
            return make(packet_id)
        reason = reader.u8()
        return make(packet_id, reason, _optional_properties(reader, Where.ACKNOWLEDGEMENT))

    return decoder


def _optional_properties(reader: Reader, where: Where) -> Properties:
    return decode_properties(reader, where) if reader.left_bytes else NO_PROPERTIES


def _subscribe(reader: Reader, version: Version) -> Subscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, version, Where.SUBSCRIBE)
    subscriptions: list[Subscription] = []
    while reader.left_bytes:
        subscriptions.append(_subscription(reader.text(), reader.u8(), version))
    if not subscriptions:
        raise PacketError("SUBSCRIBE holds no filter", Reason.PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _subscription(topic_filter: str, options: int, version: Version) -> Subscription:
    qos, retain_handling = _check_qos(options & 3), options >> 4 & 3
    if options & (0xC0 if version is Version.V5 else 0xFC):
        raise PacketError("SUBSCRIBE has a reserved option")
    if retain_handling > _RETAIN_HANDLING_MAX:
        raise PacketError("retain handling 3 does not exist", Reason.PROTOCOL_ERROR)
    return Subscription(topic_filter, qos, bool(options & 4), bool(options & 8), retain_handling)


def _suback(reader: Reader, version: Version) -> Suback:
    packet_id = reader.packet_id()
    properties = _properties(reader, version, Where.SUBACK)
    reasons = tuple(reader.rest())
    if version is Version.V311 and not _RETURN_CODES_OF_SUBACK.issuperset(reasons):
        raise PacketError("SUBACK has a return code that MQTT 3.1.1 does not know")
    return Suback(packet_id, reasons, properties)


def _unsubscribe(reader: Reader, version: Version) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, version, Where.UNSUBSCRIBE)
    filters: list[str] = []
    while reader.left_bytes:
        filters.append(reader.text())
    if not filters:
        raise PacketError("UNSUBSCRIBE holds no filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(reader: Reader, version: Version) -> Unsuback:
    packet_id = reader.packet_id()
    if version is Version.V311:
        return Unsuback(packet_id)
    properties = decode_properties(reader, Where.SUBACK)
    return Unsuback(packet_id, tuple(reader.rest()), properties)


def _disconnect(reader: Reader, version: Version) -> Disconnect:
    if version is Version.V311 or not reader.left_bytes:
        return Disconnect()
    return Disconnect(reader.u8(), _optional_properties(reader, Where.DISCONNECT))


def _auth(reader: Reader, version: Version) -> Auth:
    if version is Version.V311:
        raise PacketError("AUTH does not exist in MQTT 3.1.1")
    return Auth(reader.u8(), _optional_properties(reader, Where.AUTH)) if reader.left_bytes else Auth()


_PUBLISH: Final = 3
_DECODERS: Final[dict[int, tuple[int, Callable[[Reader, Version], Packet]]]] = {
    1: (0, _connect),
    2: (0, _connack),
    4: (0, _acknowledgement(Puback)),
    5: (0, _acknowledgement(Pubrec)),
    6: (2, _acknowledgement(Pubrel)),
    7: (0, _acknowledgement(Pubcomp)),
    8: (2, _subscribe),
    9: (0, _suback),
    10: (2, _unsubscribe),
    11: (0, _unsuback),
    12: (0, lambda _reader, _version: Pingreq()),
    13: (0, lambda _reader, _version: Pingresp()),
    14: (0, _disconnect),
    15: (0, _auth),
}
