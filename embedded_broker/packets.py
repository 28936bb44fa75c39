"""The fifteen MQTT packets as frozen values, the same for both versions.

What MQTT 3.1.1 cannot say (properties, most reasons) is simply not written to a 3.1.1 peer.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from embedded_broker.reasons import Reason


class Version(IntEnum):
    """The protocol levels this broker speaks."""

    V311 = 4
    V5 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """All properties of MQTT 5; ``None`` or empty means absent.

    Source:
        MQTT 5.0, section 2.2.2.2.
    """

    payload_format: int | None = None
    message_expiry_seconds: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_seconds: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_seconds: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_seconds: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    qos_maximum: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    packet_size_maximum_bytes: int | None = None
    wildcard_available: int | None = None
    identifiers_available: int | None = None
    shared_available: int | None = None


NO_PROPERTIES: Final = Properties()


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client whose connection is lost."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Connect:
    """A client asks for a session; ``clean_start`` is clean session in 3.1.1."""

    client_id: str
    version: Version = Version.V5
    clean_start: bool = True
    keep_alive_seconds: int = 0
    user: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer; ``reason`` is the MQTT 5 code in both versions."""

    session_present: bool = False
    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


class Publish(NamedTuple):
    """One message on its way; ``packet_id`` is 0 with QoS 0 and never otherwise."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Puback:
    """Answers a QoS 1 message."""

    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Pubrec:
    """Answers a QoS 2 message: it was received."""

    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Pubrel:
    """Releases a QoS 2 packet id: it will not be sent again."""

    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """Ends a QoS 2 exchange."""

    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter and its options; ``identifier`` comes from the SUBSCRIBE packet's properties."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client asks for messages."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Suback:
    """One granted QoS or error for each filter, in order."""

    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client wants no more messages of these filters."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Unsuback:
    """One reason for each filter, in order; empty in 3.1.1."""

    packet_id: int
    reasons: tuple[int, ...] = ()
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Pingreq:
    """A client shows that it is there."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The broker shows that it is there."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The last packet of a connection; only a client sends it in 3.1.1."""

    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Auth:
    """Enhanced authentication of MQTT 5, which this broker reads and refuses."""

    reason: int = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


Acknowledgement = Puback | Pubrec | Pubrel | Pubcomp
Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
