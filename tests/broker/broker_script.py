"""Drives the core packet by packet and sorts what it puts out by connection."""

from embedded_broker.core import Broker
from embedded_broker.outputs import Change, Close, Output, Send
from embedded_broker.packets import (
    NO_PROPERTIES,
    Connect,
    Packet,
    Properties,
    Publish,
    Subscribe,
    Subscription,
    Version,
    Will,
)
from embedded_broker.state import Authorizer, BrokerConfig, allow_all

STAY = Properties(session_expiry_seconds=100)


class Script:
    """A broker under test and what it sent: ``sent`` by connection, ``closed`` with reasons, ``changes``."""

    def __init__(self, config: BrokerConfig | None = None, authorize: Authorizer = allow_all) -> None:
        self.config = config or BrokerConfig()
        self.core = Broker(self.config, authorize)
        self.now = 0.0
        self.sent: dict[int, list[Packet]] = {}
        self.closed: dict[int, int] = {}
        self.changes: list[Change] = []

    def connect(
        self,
        connection: int,
        client_id: str = "",
        version: Version = Version.V5,
        *,
        clean_start: bool = True,
        keep_alive_seconds: int = 0,
        user: str | None = None,
        will: Will | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> list[Packet]:
        """Connect and return what the connection is sent."""
        packet = Connect(
            client_id or f"c{connection}",
            version,
            clean_start=clean_start,
            keep_alive_seconds=keep_alive_seconds,
            user=user,
            will=will,
            properties=properties,
        )
        self._take(self.core.connect(connection, packet, self.now))
        return self.take(connection)

    def send(self, connection: int, packet: Packet) -> list[Packet]:
        """Send a packet and return what the connection is sent."""
        self._take(self.core.receive(connection, packet, self.now))
        return self.take(connection)

    def subscribe(self, connection: int, topic_filter: str, qos: int = 0) -> list[Packet]:
        """Subscribe and return what the connection is sent."""
        return self.send(connection, Subscribe(1, (Subscription(topic_filter, qos),)))

    def publish(self, connection: int, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False) -> None:
        """Publish and leave what is sent to be looked at."""
        packet = Publish(topic, payload, qos, retain, packet_id=9 if qos else 0)
        self._take(self.core.receive(connection, packet, self.now))

    def lose(self, connection: int) -> None:
        """Lose a connection without DISCONNECT."""
        self._take(self.core.disconnected(connection, self.now))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, ticking when the core wants it."""
        end = self.now + seconds
        while (due := self.core.next_deadline()) is not None and due <= end:
            self.now = due
            self._take(self.core.tick(due))
        self.now = end

    def take(self, connection: int) -> list[Packet]:
        """Return what a connection was sent since the last time."""
        return self.sent.pop(connection, [])

    def payloads(self, connection: int) -> list[bytes]:
        """Return the payloads of the messages a connection was sent since the last time."""
        return [one.payload for one in self.take(connection) if isinstance(one, Publish)]

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.sent.setdefault(output.connection, []).append(output.packet)
            elif isinstance(output, Close):
                self.closed[output.connection] = output.reason
            else:
                self.changes.append(output)
