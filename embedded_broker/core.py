"""The broker as a pure state machine: packets and the time in, outputs out.

Theory of operation. A *session* belongs to a user and has a client id, a *link* is its live connection, if any: two
users with one client id have two sessions, and neither knows of the other. A message that a client publishes is
checked, retained if it says so, and delivered to every session with a matching subscription that the ACL lets read it;
QoS 2 is delivered when it arrives and its packet id is remembered until it is released, so a repetition is answered
and not delivered. Everything with a time (keep alive, delayed wills, session expiry) is a
deadline that ``tick`` takes; message expiry is checked when a message is about to be sent.

What the core does not do: bytes, sockets, passwords, clocks. The shell must hand a connection's packets over in
order beginning with CONNECT, write changes before it sends, close what ``Close`` names, and report a connection
that was lost.
"""

from dataclasses import replace
from typing import Final, assert_never

from embedded_broker.errors import PacketError
from embedded_broker.lifecycle import NEVER_EXPIRES, Lifecycle
from embedded_broker.outputs import Close, Output, Send
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
)
from embedded_broker.reasons import Reason
from embedded_broker.routing import Router
from embedded_broker.session import Link, Session
from embedded_broker.state import Access, Authorizer, BrokerConfig, BrokerState, SessionKey, allow_all
from embedded_broker.topics import check_topic

_QOS_2: Final = 2


class Broker:
    """All sessions, links and retained messages. The same calls give the same outputs.

    Args:
        config: Limits.
        authorize: The ACL.
    """

    def __init__(self, config: BrokerConfig, authorize: Authorizer = allow_all) -> None:
        self._config = config
        self._router = Router(config, authorize)
        self._lifecycle = Lifecycle(config, self._router)
        self._sessions = self._lifecycle.sessions
        self._connected = self._lifecycle.connected
        self._assigned_count = 0

    @classmethod
    def restore(
        cls, config: BrokerConfig, state: BrokerState, now: float, authorize: Authorizer = allow_all
    ) -> "Broker":
        """Start again with what a snapshot or database holds; a session that had a connection has lost it now."""
        broker = cls(config, authorize)
        for message in state.retained:
            broker._router.keep_retained(message)
        for saved in state.sessions:
            broker._lifecycle.restore(saved, now)
        return broker

    def obey(self, authorize: Authorizer) -> None:
        """Decide by another ACL from now on, also for subscriptions that are there."""
        self._router.obey(authorize)

    def snapshot(self) -> BrokerState:
        """Return what survives a restart: sessions that outlive their connection, and retained messages."""
        sessions = tuple(one.saved() for one in self._sessions.values() if one.expiry_seconds != 0)
        return BrokerState(sessions, self._router.retained())

    @property
    def dropped_count(self) -> int:
        """Messages lost since the start to full queues or to clients that take no packet that large."""
        return self._lifecycle.dropped_count + sum(session.dropped_count for session in self._sessions.values())

    def next_deadline(self) -> float | None:
        """Return when ``tick`` must be called at the latest, ``None`` if there is nothing to wait for."""
        return self._lifecycle.next_deadline()

    def connect(self, connection: int, packet: Connect, now: float) -> list[Output]:
        """Open a connection, whose user the shell has authenticated.

        Args:
            connection: A number never used before.
            packet: The first packet of the connection.
            now: Seconds; never less than in the call before.
        """
        out: list[Output] = []
        try:
            client_id = self._check_connect(packet)
        except PacketError as error:
            return refuse(connection, error.reason)
        is_resumed = self._lifecycle.open(connection, client_id, packet, now, out)
        out.append(Send(connection, self._connack(packet, client_id, is_resumed=is_resumed)))
        self._connected[connection].resume(now, out)
        return out

    def receive(self, connection: int, packet: Packet, now: float) -> list[Output]:
        """Take one packet; of a connection that is closed already it changes nothing."""
        session = self._connected.get(connection)
        if session is None:
            return []
        link = session.link
        assert link is not None, connection
        link.heard_at = now
        out: list[Output] = []
        try:
            self._take(session, link, packet, now, out)
        except PacketError as error:
            return out + self.reject(connection, error.reason, now)
        return out

    def reject(self, connection: int, reason: int, now: float) -> list[Output]:
        """Close a connection whose peer broke the protocol or a limit, and tell it why. Its will is published."""
        session = self._connected.get(connection)
        if session is None:
            return []
        out: list[Output] = []
        self._lifecycle.cut(session, reason, now, out)
        return out

    def disconnected(self, connection: int, now: float) -> list[Output]:
        """Take note that a connection was lost without DISCONNECT; of a closed one it changes nothing."""
        session = self._connected.get(connection)
        if session is None:
            return []
        out: list[Output] = []
        self._lifecycle.lose(session, now, out)
        return out

    def tick(self, now: float) -> list[Output]:
        """Do all that is due: silent connections, delayed wills, expired sessions."""
        out: list[Output] = []
        self._lifecycle.tick(now, out)
        return out

    def stop(self, now: float) -> list[Output]:
        """Close all connections and publish all wills, delayed ones too, as they are not kept over a restart."""
        out: list[Output] = []
        for connection in tuple(self._connected):
            out += self.reject(connection, Reason.SERVER_SHUTTING_DOWN, now)
        for session in tuple(self._sessions.values()):
            self._lifecycle.publish_delayed_will(session, now, out)
        return out

    def _take(self, session: Session, link: Link, packet: Packet, now: float, out: list[Output]) -> None:
        match packet:
            case Publish():
                self._publish(session, link, packet, now, out)
            case Puback() | Pubrec() | Pubcomp():
                session.acknowledge(packet, now, out)
            case Pubrel():
                session.release_incoming(packet.packet_id, out)
            case Subscribe():
                self._subscribe(session, link, packet, now, out)
            case Unsubscribe():
                reasons = tuple(self._router.unsubscribe(session, one, out) for one in packet.filters)
                out.append(Send(link.connection, Unsuback(packet.packet_id, reasons)))
            case Pingreq():
                out.append(Send(link.connection, Pingresp()))
            case Disconnect():
                self._disconnect(session, link, packet, now, out)
            case Connect() | Connack() | Suback() | Unsuback() | Pingresp() | Auth():
                raise PacketError(f"a client sent {type(packet).__name__} here", Reason.PROTOCOL_ERROR)
            case _:
                assert_never(packet)

    def _publish(self, session: Session, link: Link, packet: Publish, now: float, out: list[Output]) -> None:
        if link.version is Version.V5:
            packet = self._without_alias(link, packet)
        check_topic(packet.topic, levels_max=self._config.levels_max)
        if packet.qos == _QOS_2 and packet.packet_id in session.incoming:
            out.append(Send(link.connection, Pubrec(packet.packet_id)))
            return
        if packet.qos == _QOS_2 and len(session.incoming) >= self._config.receive_max:
            raise PacketError("more QoS 2 messages are open than allowed", Reason.RECEIVE_MAXIMUM_EXCEEDED)
        reason = Reason.NOT_AUTHORIZED
        if self._router.may(session, Access.WRITE, packet.topic):
            reason = self._router.accept(packet, session.key, now, out)
        # MQTT 3.1.1 cannot refuse: there the message is acknowledged and gone.
        is_taken = reason < Reason.UNSPECIFIED_ERROR or link.version is Version.V311
        if packet.qos == 1:
            out.append(Send(link.connection, Puback(packet.packet_id, reason)))
        elif packet.qos == _QOS_2:
            if is_taken:
                session.open_incoming(packet.packet_id, out)
            out.append(Send(link.connection, Pubrec(packet.packet_id, reason)))

    def _without_alias(self, link: Link, packet: Publish) -> Publish:
        """The packet with its topic in full.

        Source:
            MQTT 5.0, section 3.3.2.3.4.
        """
        properties = packet.properties
        if properties.subscription_identifiers:
            raise PacketError("a client sent a subscription identifier in PUBLISH", Reason.PROTOCOL_ERROR)
        alias = properties.topic_alias
        if alias is None:
            return packet
        if not 1 <= alias <= self._config.topic_alias_max:
            raise PacketError(f"topic alias {alias} is out of range", Reason.TOPIC_ALIAS_INVALID)
        topic = packet.topic or link.aliases.get(alias)
        if not topic:
            raise PacketError(f"topic alias {alias} stands for no topic", Reason.PROTOCOL_ERROR)
        link.aliases[alias] = topic
        return packet._replace(topic=topic, properties=replace(properties, topic_alias=None))

    def _subscribe(self, session: Session, link: Link, packet: Subscribe, now: float, out: list[Output]) -> None:
        """Add each filter once, with its last options, and answer as often as it stands there.

        To add one may mean to read all that is retained: what a packet costs is bound by what a session may have.

        Source:
            MQTT 5.0, section 3.8.4: as if each had come in a packet of its own.
        """
        identifier = next(iter(packet.properties.subscription_identifiers), None)
        last = {one.filter: one for one in packet.subscriptions}
        wanted = {name: replace(one, identifier=identifier) for name, one in last.items()}
        answers = {name: self._router.subscribe(session, one, out) for name, one in wanted.items()}
        reasons = tuple(_granted(one, answers[one.filter][0]) for one in packet.subscriptions)
        out.append(Send(link.connection, Suback(packet.packet_id, reasons)))
        for name, (_, wants_retained) in answers.items():
            if wants_retained:
                self._router.send_retained(session, wanted[name], now, out)

    def _check_connect(self, packet: Connect) -> str:
        """The client id, assigned if need be.

        Raises:
            PacketError: The connection is refused.
        """
        if packet.properties.authentication_method is not None:
            raise PacketError("no enhanced authentication here", Reason.BAD_AUTHENTICATION_METHOD)
        if packet.will is not None:
            check_topic(packet.will.topic, levels_max=self._config.levels_max)
        if SessionKey(packet.user, packet.client_id) not in self._sessions:
            self._check_room(packet.user)
        if packet.client_id:
            return packet.client_id
        if packet.version is Version.V311 and not packet.clean_start:
            raise PacketError("a session that stays needs a client id", Reason.CLIENT_IDENTIFIER_NOT_VALID)
        while True:
            self._assigned_count += 1
            client_id = f"auto-{self._assigned_count}"
            if SessionKey(packet.user, client_id) not in self._sessions:
                return client_id

    def _check_room(self, user: str | None) -> None:
        """Refuse one session more than all may have, or than one user may, who would lock all others out."""
        if len(self._sessions) >= self._config.sessions_max:
            raise PacketError("all sessions are taken", Reason.QUOTA_EXCEEDED)
        own_max = self._config.sessions_per_user_max
        if user is not None and own_max is not None and self._router.count_of(user) >= own_max:
            raise PacketError(f"user {user} has {own_max} sessions, all that one may have", Reason.QUOTA_EXCEEDED)

    def _connack(self, packet: Connect, client_id: str, *, is_resumed: bool) -> Connack:
        if packet.version is Version.V311:
            return Connack(is_resumed)
        properties = Properties(
            assigned_client_id=None if packet.client_id else client_id,
            receive_maximum=self._config.receive_max,
            topic_alias_maximum=self._config.topic_alias_max,
            packet_size_maximum_bytes=self._config.packet_size_max_bytes,
            shared_available=0,
        )
        return Connack(is_resumed, properties=properties)

    def _disconnect(self, session: Session, link: Link, packet: Disconnect, now: float, out: list[Output]) -> None:
        expiry_seconds = packet.properties.session_expiry_seconds
        if expiry_seconds is not None:
            if session.expiry_seconds == 0 and expiry_seconds:
                raise PacketError("a session without expiry cannot get one in DISCONNECT", Reason.PROTOCOL_ERROR)
            session.expiry_seconds = None if expiry_seconds == NEVER_EXPIRES else expiry_seconds
        if packet.reason == Reason.SUCCESS:
            link.will = None
        out.append(Close(link.connection, Reason.SUCCESS))
        self._lifecycle.lose(session, now, out)


def _granted(asked: Subscription, reason: int) -> int:
    """Return the answer to one of the times that a filter stands in a packet, given that to its last."""
    return reason if reason >= Reason.UNSPECIFIED_ERROR else asked.qos


def refuse(connection: int, reason: int) -> list[Output]:
    """Answer CONNECT with a reason and close: what the core does, and the shell with a wrong password."""
    return [Send(connection, Connack(reason=reason)), Close(connection, reason)]
