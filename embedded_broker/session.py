"""One client's session and the connection it may have: its queue, its window, its packet ids.

A QoS 1 or 2 message waits in ``waiting``, is in flight from the moment it is sent until its exchange ends, and goes
back to the front of ``waiting`` when the client returns without having answered. So order holds over reconnects, and
a message keeps its packet id.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace

from embedded_broker.codec import encode
from embedded_broker.outputs import (
    IncomingRemoved,
    IncomingSaved,
    OutgoingMoved,
    OutgoingRemoved,
    OutgoingSaved,
    Output,
    Send,
    SessionSaved,
)
from embedded_broker.packets import Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, Subscription, Version, Will
from embedded_broker.reasons import Reason
from embedded_broker.state import Message, Outgoing, SavedSession, SessionKey, Stage

_PACKET_ID_MAX = 65_535
_FAILURES_FROM = 0x80
_QOS_2 = 2
_PURGE_INTERVAL_SECONDS = 1.0  # a full queue is searched for expired messages this often, not per message


@dataclass(slots=True)
class Link:
    """A live connection.

    Attributes:
        window: QoS 1 and 2 messages the client takes at once.
        packet_size_max_bytes: The largest packet the client takes; ``None`` is any.
    """

    connection: int
    version: Version
    keep_alive_seconds: int
    heard_at: float
    window: int
    packet_size_max_bytes: int | None
    will: Will | None
    aliases: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """What is remembered of one client id of one user.

    Attributes:
        expiry_seconds: How long it lives without a connection: 0 ends with it, ``None`` is for ever.
        is_recorded: Its changes are put out.
        delayed_will: Published at its deadline or when the session ends, unless the client comes back before.
        dropped_count: Messages lost to a full queue or too large for the client.
    """

    key: SessionKey
    expiry_seconds: int | None
    is_recorded: bool
    link: Link | None = None
    expires_at: float | None = None
    delayed_will: Will | None = None
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    waiting: deque[Outgoing] = field(default_factory=deque)
    inflight: dict[int, Outgoing] = field(default_factory=dict)
    incoming: dict[int, None] = field(default_factory=dict)
    dropped_count: int = 0
    purged_at: float = -math.inf
    last_order: int = 0
    last_packet_id: int = 0

    @classmethod
    def from_saved(cls, saved: SavedSession, *, is_recorded: bool) -> "Session":
        """Bring a session back as it was, without a connection."""
        session = cls(saved.key, saved.expiry_seconds, is_recorded, expires_at=saved.expires_at)
        session.subscriptions = {one.filter: one for one in saved.subscriptions}
        session.incoming = dict.fromkeys(saved.incoming)
        for outgoing in saved.outgoing:
            if outgoing.stage is Stage.QUEUED:
                session.waiting.append(outgoing)
            else:
                session.inflight[outgoing.packet_id] = outgoing
            session.last_order = max(session.last_order, outgoing.order)
        return session

    def saved(self) -> SavedSession:
        """The whole session as a value, its messages in the order of delivery."""
        outgoing = sorted((*self.inflight.values(), *self.waiting), key=lambda one: one.order)
        return SavedSession(
            self.key,
            self.expiry_seconds,
            self.expires_at,
            tuple(self.subscriptions.values()),
            tuple(outgoing),
            tuple(self.incoming),
        )

    def record(self, out: list[Output]) -> None:
        """Put out the session's own fields, without what belongs to it."""
        if self.is_recorded:
            head = SavedSession(self.key, self.expiry_seconds, self.expires_at)
            out.append(SessionSaved(head))

    def deliver(
        self,
        message: Message,
        qos: int,
        *,
        retain: bool,
        identifiers: tuple[int, ...],
        now: float,
        queued_max: int,
        out: list[Output],
    ) -> None:
        """Send a message or queue it; QoS 0 without a connection and what finds the queue full is dropped."""
        link = self.link
        if qos == 0:
            if link is not None:
                packet = message.packet
                properties = _properties_for(message, identifiers, now)
                self._send(link, Publish(packet.topic, packet.payload, 0, retain, properties=properties), out)
            return
        if len(self.waiting) >= queued_max and now >= self.purged_at + _PURGE_INTERVAL_SECONDS:
            self._drop_expired(now, out)
        is_waiting = link is None or bool(self.waiting) or len(self.inflight) >= link.window
        if is_waiting and len(self.waiting) >= queued_max:
            self.dropped_count += 1
            return
        self.last_order += 1
        packet_id, stage = (0, Stage.QUEUED) if is_waiting else (self._free_packet_id(), Stage.SENT)
        outgoing = Outgoing(self.last_order, message, qos, retain, identifiers, packet_id, stage)
        if self.is_recorded:
            out.append(OutgoingSaved(self.key, outgoing))
        if link is None or is_waiting:
            self.waiting.append(outgoing)
        else:
            self._transmit(link, outgoing, is_repeated=False, now=now, out=out)

    def resume(self, now: float, out: list[Output]) -> None:
        """Repeat, in order, all that the client has not answered, then go on with what waits."""
        assert self.link is not None, self.key
        unanswered = [one for one in self.inflight.values() if one.stage is Stage.SENT]
        self.inflight = {id_: one for id_, one in self.inflight.items() if one.stage is Stage.RELEASED}
        self.waiting.extendleft(reversed(unanswered))
        out.extend(Send(self.link.connection, Pubrel(packet_id)) for packet_id in self.inflight)
        self._fill_window(now, out)

    def acknowledge(self, packet: Puback | Pubrec | Pubcomp, now: float, out: list[Output]) -> None:
        """Take the client's answer to a message; one that fits no message changes nothing."""
        assert self.link is not None, self.key
        outgoing = self.inflight.get(packet.packet_id)
        match packet:
            case Puback():
                is_finished = outgoing is not None and outgoing.qos == 1
            case Pubrec(reason=reason) if reason >= _FAILURES_FROM:
                is_finished = outgoing is not None and outgoing.qos == _QOS_2
            case Pubrec():
                self._release(packet.packet_id, outgoing, out)
                return
            case Pubcomp():
                is_finished = outgoing is not None and outgoing.stage is Stage.RELEASED
        if outgoing is not None and is_finished:
            del self.inflight[packet.packet_id]
            self._forget(outgoing, out)
            self._fill_window(now, out)

    def open_incoming(self, packet_id: int, out: list[Output]) -> None:
        """Remember a QoS 2 message of the client until it is released."""
        self.incoming[packet_id] = None
        if self.is_recorded:
            out.append(IncomingSaved(self.key, packet_id))

    def release_incoming(self, packet_id: int, out: list[Output]) -> None:
        """Answer PUBREL; an unknown packet id is told so, which ends the exchange as well."""
        assert self.link is not None, self.key
        reason = Reason.SUCCESS if packet_id in self.incoming else Reason.PACKET_IDENTIFIER_NOT_FOUND
        if reason is Reason.SUCCESS:
            del self.incoming[packet_id]
            if self.is_recorded:
                out.append(IncomingRemoved(self.key, packet_id))
        out.append(Send(self.link.connection, Pubcomp(packet_id, reason)))

    def _fill_window(self, now: float, out: list[Output]) -> None:
        link = self.link
        while link is not None and self.waiting and len(self.inflight) < link.window:
            outgoing = self.waiting.popleft()
            if outgoing.stage is Stage.QUEUED and outgoing.message.is_expired(now):
                self._forget(outgoing, out)
                continue
            sent = outgoing._replace(packet_id=outgoing.packet_id or self._free_packet_id(), stage=Stage.SENT)
            if self.is_recorded and outgoing.stage is Stage.QUEUED:
                out.append(OutgoingMoved(self.key, sent.order, sent.packet_id, Stage.SENT))
            self._transmit(link, sent, is_repeated=outgoing.stage is Stage.SENT, now=now, out=out)

    def _transmit(self, link: Link, sent: Outgoing, *, is_repeated: bool, now: float, out: list[Output]) -> None:
        packet = sent.message.packet
        properties = _properties_for(sent.message, sent.identifiers, now)
        publish = Publish(packet.topic, packet.payload, sent.qos, sent.retain, is_repeated, sent.packet_id, properties)
        if self._send(link, publish, out):
            self.inflight[sent.packet_id] = sent
        else:
            self._forget(sent, out)

    def _send(self, link: Link, publish: Publish, out: list[Output]) -> bool:
        """Send, unless the client said that it takes no packet that large.

        Source:
            MQTT 5.0, section 3.1.2.11.4: such a message counts as sent.
        """
        if link.packet_size_max_bytes is not None and len(encode(publish, link.version)) > link.packet_size_max_bytes:
            self.dropped_count += 1
            return False
        out.append(Send(link.connection, publish))
        return True

    def _free_packet_id(self) -> int:
        packet_id = self.last_packet_id
        while True:
            packet_id = packet_id % _PACKET_ID_MAX + 1
            if packet_id not in self.inflight:
                self.last_packet_id = packet_id
                return packet_id

    def _drop_expired(self, now: float, out: list[Output]) -> None:
        self.purged_at = now
        expired = [one for one in self.waiting if one.stage is Stage.QUEUED and one.message.is_expired(now)]
        if expired:
            orders = {one.order for one in expired}
            self.waiting = deque(one for one in self.waiting if one.order not in orders)
            for one in expired:
                self._forget(one, out)

    def _forget(self, outgoing: Outgoing, out: list[Output]) -> None:
        if self.is_recorded:
            out.append(OutgoingRemoved(self.key, outgoing.order))

    def _release(self, packet_id: int, outgoing: Outgoing | None, out: list[Output]) -> None:
        assert self.link is not None, self.key
        if outgoing is None or outgoing.qos != _QOS_2:
            out.append(Send(self.link.connection, Pubrel(packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND)))
            return
        if outgoing.stage is Stage.SENT:
            self.inflight[packet_id] = outgoing._replace(stage=Stage.RELEASED)
            if self.is_recorded:
                out.append(OutgoingMoved(self.key, outgoing.order, packet_id, Stage.RELEASED))
        out.append(Send(self.link.connection, Pubrel(packet_id)))


def _properties_for(message: Message, identifiers: tuple[int, ...], now: float) -> Properties:
    """The properties a subscriber gets: its own identifiers, and what is left of the expiry.

    Source:
        MQTT 5.0, section 3.3.2.3.3.
    """
    properties = message.packet.properties
    if message.expires_at is None and not identifiers:
        return properties
    left_seconds = None if message.expires_at is None else max(0, math.ceil(message.expires_at - now))
    return replace(properties, message_expiry_seconds=left_seconds, subscription_identifiers=identifiers)
