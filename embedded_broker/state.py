"""What a broker remembers, as frozen values: the parts of a snapshot and of the database."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from embedded_broker.codec import PACKET_SIZE_MAX_BYTES
from embedded_broker.packets import Publish, Subscription
from embedded_broker.topics import LEVELS_MAX


class Access(StrEnum):
    """What a client wants to do with a topic."""

    READ = "read"
    WRITE = "write"


Authorizer = Callable[[str | None, str, Access, str], bool]
"""May this user (``None`` is anonymous) with this client id do this with this topic? Pure, and called per message."""


def allow_all(_user: str | None, _client_id: str, _access: Access, _topic: str) -> bool:
    """Allow everything to everybody: the broker without an ACL."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The limits of a broker, and whether it reports changes.

    Attributes:
        is_durable: Report every change of what must survive a restart among the outputs.
        packet_size_max_bytes: Larger packets are refused; announced to MQTT 5 clients.
        inflight_max: QoS 1 and 2 messages on the way to a client that announces no receive maximum.
        queued_max: Messages that wait for one session beyond those in flight; the newest is dropped.
        receive_max: QoS 2 messages a client may have open; announced to MQTT 5 clients, for which it counts QoS 1 too.
        topic_alias_max: Topic aliases a client may use; announced to MQTT 5 clients.
        sessions_max: Sessions, with or without a connection.
        sessions_per_user_max: How many of them one user may have; ``None`` where names prove nothing.
        subscriptions_max: Subscriptions of one session.
        retained_max: Retained messages.
        levels_max: Levels of a topic or filter.
    """

    is_durable: bool = False
    packet_size_max_bytes: int = PACKET_SIZE_MAX_BYTES
    inflight_max: int = 20
    queued_max: int = 1000
    receive_max: int = 10_000
    topic_alias_max: int = 100
    sessions_max: int = 100_000
    sessions_per_user_max: int | None = 100
    subscriptions_max: int = 1000
    retained_max: int = 1_000_000
    levels_max: int = LEVELS_MAX


class SessionKey(NamedTuple):
    """Whose session it is, and which of theirs: no client id reaches what another user has.

    Attributes:
        user: ``None`` is whoever gave no name: all of them are the same one.
    """

    user: str | None
    client_id: str


class Message(NamedTuple):
    """An accepted message.

    Attributes:
        packet: As published, without topic alias; its DUP and packet id mean nothing any more.
        expires_at: When it is too old to be delivered; ``None`` is never.
    """

    packet: Publish
    expires_at: float | None

    def is_expired(self, now: float) -> bool:
        """Tell whether it is too old to be delivered."""
        return self.expires_at is not None and now >= self.expires_at


class Stage(IntEnum):
    """How far a QoS 1 or 2 message has come on its way to one client."""

    QUEUED = 0
    SENT = 1
    RELEASED = 2


class Outgoing(NamedTuple):
    """A QoS 1 or 2 message on its way to one session.

    Attributes:
        order: Grows within the session; the order of delivery.
        packet_id: 0 until it was sent; the same in every redelivery.
    """

    order: int
    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...] = ()
    packet_id: int = 0
    stage: Stage = Stage.QUEUED


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session that outlives its connection.

    Attributes:
        expiry_seconds: How long it lives without a connection; ``None`` is for ever.
        expires_at: Set while it has no connection and will expire.
    """

    key: SessionKey
    expiry_seconds: int | None
    expires_at: float | None
    subscriptions: tuple[Subscription, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    incoming: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerState:
    """Everything that survives a restart.

    A fault is a ``dataclasses.replace``: ``sessions=()`` loses the sessions, ``retained`` of an older state rewinds
    the retained messages.
    """

    sessions: tuple[SavedSession, ...] = ()
    retained: tuple[Message, ...] = ()


EMPTY_STATE: Final = BrokerState()
