"""What the core answers: packets to send, connections to close, and changes to write down first."""

from dataclasses import dataclass
from typing import NamedTuple

from embedded_broker.packets import Packet, Subscription
from embedded_broker.state import Message, Outgoing, SavedSession, SessionKey, Stage


class Send(NamedTuple):
    """Send a packet on a connection."""

    connection: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection once everything for it is sent; the core has already forgotten it."""

    connection: int
    reason: int


@dataclass(frozen=True, slots=True)
class SessionSaved:
    """A session began, lost its connection or got it back; its subscriptions and messages are not in here."""

    session: SavedSession


@dataclass(frozen=True, slots=True)
class SessionRemoved:
    """A session ended, with all that belongs to it."""

    key: SessionKey


@dataclass(frozen=True, slots=True)
class SubscriptionSaved:
    """A session's subscription is new or replaced."""

    key: SessionKey
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionRemoved:
    """A session's subscription is gone."""

    key: SessionKey
    filter: str


@dataclass(frozen=True, slots=True)
class RetainedSaved:
    """A topic's retained message is new or replaced."""

    message: Message


@dataclass(frozen=True, slots=True)
class RetainedRemoved:
    """A topic has no retained message any more."""

    topic: str


@dataclass(frozen=True, slots=True)
class OutgoingSaved:
    """A session has one more message to deliver."""

    key: SessionKey
    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class OutgoingMoved:
    """A message to deliver has come further."""

    key: SessionKey
    order: int
    packet_id: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class OutgoingRemoved:
    """A message was delivered or has expired."""

    key: SessionKey
    order: int


@dataclass(frozen=True, slots=True)
class IncomingSaved:
    """A QoS 2 message of this packet id was taken from the session's client and is not released."""

    key: SessionKey
    packet_id: int


@dataclass(frozen=True, slots=True)
class IncomingRemoved:
    """A QoS 2 packet id was released by the session's client."""

    key: SessionKey
    packet_id: int


Change = (
    SessionSaved
    | SessionRemoved
    | SubscriptionSaved
    | SubscriptionRemoved
    | RetainedSaved
    | RetainedRemoved
    | OutgoingSaved
    | OutgoingMoved
    | OutgoingRemoved
    | IncomingSaved
    | IncomingRemoved
)
"""Written down, in order, before anything that was put out with it is sent. Only with ``is_durable``."""

Output = Send | Close | Change
