"""The life of sessions and their connections: begin, take over, lose, wait, end, and the deadlines of all that."""

from typing import Final

from embedded_broker.deadlines import Deadlines
from embedded_broker.outputs import Close, Output, Send, SessionRemoved
from embedded_broker.packets import Connect, Disconnect, Version
from embedded_broker.reasons import Reason
from embedded_broker.routing import Router
from embedded_broker.session import Link, Session
from embedded_broker.state import BrokerConfig, SavedSession, SessionKey

NEVER_EXPIRES: Final = 0xFFFFFFFF
_KEEP_ALIVE_GRACE: Final = 1.5
_KEEP_ALIVE, _DELAYED_WILL, _EXPIRY = "keep alive", "delayed will", "expiry"

Deadline = tuple[str, int | SessionKey]
"""What is due, and the connection or session it is due for."""


class Lifecycle:
    """Every session and the connection it may have.

    Attributes:
        sessions: Every session by its key.
        connected: The sessions that have a connection, by its number.
        dropped_count: Messages lost in sessions that have ended.
    """

    def __init__(self, config: BrokerConfig, router: Router) -> None:
        self.sessions = router.sessions
        self.connected: dict[int, Session] = {}
        self.dropped_count = 0
        self._config = config
        self._router = router
        self._deadlines: Deadlines[Deadline] = Deadlines()

    def next_deadline(self) -> float | None:
        """Return a time before which ``tick`` finds nothing due."""
        return self._deadlines.next()

    def restore(self, saved: SavedSession, now: float) -> None:
        """Bring a session back; one that had a connection has lost it now."""
        session = Session.from_saved(saved, is_recorded=self._config.is_durable)
        self._router.add_session(session)
        if session.expiry_seconds is not None:
            session.expires_at = now + session.expiry_seconds if saved.expires_at is None else saved.expires_at
            self._deadlines.set((_EXPIRY, session.key), session.expires_at)

    def open(self, connection: int, client_id: str, packet: Connect, now: float, out: list[Output]) -> bool:
        """Give a connection its session, cutting the connection of the same user that had it.

        Returns:
            Whether the session was there before.
        """
        key = SessionKey(packet.user, client_id)
        resumed = self._displace(key, packet, now, out)
        session = resumed or self._begin(key, packet)
        session.expiry_seconds = _expiry_of(packet)
        session.is_recorded = self._config.is_durable and session.expiry_seconds != 0
        session.expires_at = None
        session.link = self._link_for(connection, packet, now)
        self.connected[connection] = session
        self._watch(session.link)
        if resumed is not None and self._config.is_durable and not session.is_recorded:
            out.append(SessionRemoved(key))
        session.record(out)
        return resumed is not None

    def cut(self, session: Session, reason: int, now: float, out: list[Output]) -> None:
        """Close a session's connection from our side, telling an MQTT 5 client why."""
        link = session.link
        assert link is not None, session.key
        if link.version is Version.V5:
            out.append(Send(link.connection, Disconnect(reason)))
        out.append(Close(link.connection, reason))
        self.lose(session, now, out)

    def tick(self, now: float, out: list[Output]) -> None:
        """Do all that is due."""
        for kind, key in self._deadlines.take_due(now):
            if isinstance(key, int):
                self._check_alive(key, now, out)
                continue
            session = self.sessions.get(key)
            if session is None:
                continue  # it ended in this very tick
            if kind == _DELAYED_WILL:
                self.publish_delayed_will(session, now, out)
            else:
                self._end(session, now, out)

    def lose(self, session: Session, now: float, out: list[Output]) -> None:
        """Part a session from its connection: publish or delay the will, end the session or let it wait."""
        link = session.link
        assert link is not None, session.key
        session.link = None
        del self.connected[link.connection]
        self._deadlines.clear((_KEEP_ALIVE, link.connection))
        delay_seconds = 0
        if link.will is not None:
            delay_seconds = link.will.properties.will_delay_seconds or 0
            session.delayed_will = link.will
        if session.expiry_seconds == 0:
            self._end(session, now, out)
            return
        if session.delayed_will is not None and delay_seconds:
            self._deadlines.set((_DELAYED_WILL, session.key), now + delay_seconds)
        else:
            self.publish_delayed_will(session, now, out)
        if session.expiry_seconds is not None:
            session.expires_at = now + session.expiry_seconds
            self._deadlines.set((_EXPIRY, session.key), session.expires_at)
        session.record(out)

    def publish_delayed_will(self, session: Session, now: float, out: list[Output]) -> None:
        """Publish the will that a session without a connection may have, now."""
        will, session.delayed_will = session.delayed_will, None
        if will is not None:
            self._router.publish_will(session, will, now, out)

    def _end(self, session: Session, now: float, out: list[Output]) -> None:
        self._deadlines.clear((_DELAYED_WILL, session.key))
        self._deadlines.clear((_EXPIRY, session.key))
        self._router.remove_session(session)
        self.dropped_count += session.dropped_count
        if session.is_recorded:
            out.append(SessionRemoved(session.key))
        self.publish_delayed_will(session, now, out)

    def _watch(self, link: Link) -> None:
        if link.keep_alive_seconds:
            due = link.heard_at + _KEEP_ALIVE_GRACE * link.keep_alive_seconds
            self._deadlines.set((_KEEP_ALIVE, link.connection), due)

    def _check_alive(self, connection: int, now: float, out: list[Output]) -> None:
        session = self.connected[connection]
        link = session.link
        assert link is not None, connection
        if now >= link.heard_at + _KEEP_ALIVE_GRACE * link.keep_alive_seconds:
            self.cut(session, Reason.KEEP_ALIVE_TIMEOUT, now, out)
        else:
            self._watch(link)

    def _displace(self, key: SessionKey, packet: Connect, now: float, out: list[Output]) -> Session | None:
        """Cut the connection that has this session, and return the session if the new one continues it.

        It is the same user's: to hand it to another would hand over the messages, and let anybody end anybody's.
        """
        session = self.sessions.get(key)
        if session is None:
            return None
        goes_on = not packet.clean_start and session.expiry_seconds != 0
        if session.link is not None:
            will = session.link.will
            if goes_on and will is not None and will.properties.will_delay_seconds:
                session.link.will = None  # the client is back before its will was due
            self.cut(session, Reason.SESSION_TAKEN_OVER, now, out)
        if goes_on:
            self._deadlines.clear((_DELAYED_WILL, key))
            self._deadlines.clear((_EXPIRY, key))
            session.delayed_will = None
            return session
        if key in self.sessions:
            self._end(session, now, out)
        return None

    def _begin(self, key: SessionKey, packet: Connect) -> Session:
        session = Session(key, _expiry_of(packet), is_recorded=False)
        self._router.add_session(session)
        return session

    def _link_for(self, connection: int, packet: Connect, now: float) -> Link:
        return Link(
            connection=connection,
            version=packet.version,
            keep_alive_seconds=packet.keep_alive_seconds,
            heard_at=now,
            window=packet.properties.receive_maximum or self._config.inflight_max,
            packet_size_max_bytes=packet.properties.packet_size_maximum_bytes,
            will=packet.will,
        )


def _expiry_of(packet: Connect) -> int | None:
    if packet.version is Version.V311:
        return 0 if packet.clean_start else None
    seconds = packet.properties.session_expiry_seconds or 0
    return None if seconds == NEVER_EXPIRES else seconds
