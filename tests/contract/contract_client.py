"""A raw MQTT client for tests: every packet is sent and seen, nothing is answered by itself.

It works over a ``Channel``, of which there are two: a socket, and the core driven in virtual time.
"""

import socket
import time
from collections import deque
from typing import Protocol, TypeVar

from embedded_broker.codec import Parser, encode
from embedded_broker.packets import (
    NO_PROPERTIES,
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

TIMEOUT_SECONDS = 8.0
P = TypeVar("P", bound=Packet)


class ClosedError(Exception):
    """The broker closed the connection and nothing is left to read."""


class Channel(Protocol):
    """One connection to a broker."""

    def send(self, packet: Packet) -> None:
        """Send a packet."""

    def take(self, timeout_seconds: float) -> Packet:
        """Return the next packet; raises ``TimeoutError`` or ``ClosedError``."""

    def drop(self) -> None:
        """Lose the connection without DISCONNECT."""


class SocketChannel:
    """A TCP connection."""

    def __init__(self, port: int, version: Version) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self._version = version
        self._parser = Parser(version)
        self._packets: deque[Packet] = deque()

    def send(self, packet: Packet) -> None:
        self.send_bytes(encode(packet, self._version))

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def take(self, timeout_seconds: float) -> Packet:
        deadline = time.monotonic() + timeout_seconds
        while not self._packets:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError as error:
                raise ClosedError from error
            if not data:
                raise ClosedError
            self._packets.extend(self._parser.feed(data))
        return self._packets.popleft()

    def drop(self) -> None:
        self.socket.close()


class Client:
    """A connected client; what it received and no test asked for yet is kept in order."""

    def __init__(self, channel: Channel, connect: Connect) -> None:
        self.channel = channel
        self._kept: list[Packet] = []
        self._packet_id = 0
        channel.send(connect)
        self.connack = self.expect(Connack)

    def send(self, packet: Packet) -> None:
        self.channel.send(packet)

    def expect(self, kind: type[P], timeout_seconds: float = TIMEOUT_SECONDS) -> P:
        """Return the first packet of a kind that was not asked for yet."""
        for index, packet in enumerate(self._kept):
            if isinstance(packet, kind):
                del self._kept[index]
                return packet
        deadline = time.monotonic() + timeout_seconds
        while True:
            packet = self.channel.take(deadline - time.monotonic())
            if isinstance(packet, kind):
                return packet
            self._kept.append(packet)

    def drain(self) -> list[Packet]:
        """Return all that was received up to now: a ping's answer comes behind it."""
        self.send(Pingreq())
        self.expect(Pingresp)
        kept, self._kept = self._kept, []
        return kept

    def expect_closed(self, timeout_seconds: float = TIMEOUT_SECONDS) -> list[Packet]:
        """Return all that came before the broker closed the connection, which it must do."""
        kept, self._kept = self._kept, []
        try:
            while True:
                kept.append(self.channel.take(timeout_seconds))
        except ClosedError:
            return kept

    def subscribe(self, topic_filter: str, qos: int = 0, *, identifier: int | None = None, **options: int) -> int:
        """Subscribe and return the granted QoS or error; the retained messages stay to be read."""
        identifiers = () if identifier is None else (identifier,)
        wanted = Subscription(
            topic_filter,
            qos,
            bool(options.get("no_local")),
            bool(options.get("retain_as_published")),
            options.get("retain_handling", 0),
        )
        properties = Properties(subscription_identifiers=identifiers) if identifiers else NO_PROPERTIES
        self.send(Subscribe(self.next_packet_id(), (wanted,), properties))
        [reason] = self.expect(Suback).reasons
        return reason

    def unsubscribe(self, topic_filter: str) -> Unsuback:
        self.send(Unsubscribe(self.next_packet_id(), (topic_filter,)))
        return self.expect(Unsuback)

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 1,
        *,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Publish, carry the exchange through, and return the reason it ended with."""
        packet_id = self.next_packet_id() if qos else 0
        self.send(Publish(topic, payload, qos, retain, packet_id=packet_id, properties=properties))
        if qos == 0:
            return 0
        if qos == 1:
            return self.expect(Puback).reason
        reason = self.expect(Pubrec).reason
        if reason < 0x80:
            self.send(Pubrel(packet_id))
            self.expect(Pubcomp)
        return reason

    def messages(self) -> list[Publish]:
        """Take and answer all messages there are until no more come."""
        found: list[Publish] = []
        while packets := self.drain():
            for packet in packets:
                if isinstance(packet, Publish):
                    found.append(packet)
                    self._answer(packet)
                elif isinstance(packet, Pubrel):
                    self.send(Pubcomp(packet.packet_id))
        return found

    def payloads(self) -> list[bytes]:
        """Take and answer all messages there are, and return what they say."""
        return [packet.payload for packet in self.messages()]

    def disconnect(self, reason: int = 0, properties: Properties = NO_PROPERTIES) -> None:
        """Leave with DISCONNECT and wait until the broker has closed."""
        self.send(Disconnect(reason, properties))
        self.expect_closed()

    def drop(self) -> None:
        self.channel.drop()

    def next_packet_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    def _answer(self, packet: Publish) -> None:
        if packet.qos == 1:
            self.send(Puback(packet.packet_id))
        elif packet.qos == 2:
            self.send(Pubrec(packet.packet_id))
