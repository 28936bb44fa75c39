"""An MQTT client on the simulated network: connects, subscribes, repeats what was not acknowledged, comes back."""

import random
from dataclasses import dataclass
from itertools import cycle
from typing import Final, Protocol

from embedded_broker.packets import (
    NO_PROPERTIES,
    Connack,
    Connect,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Will,
)
from simulator.clock import Clock
from simulator.network import Connection, Network, repeated

_RETRY_SECONDS: Final = (1.0, 20.0)
_ANSWER_SECONDS: Final = 60.0
_CONNECTS, _HEARS_AGAIN = 1, 2
"""Packet ids of the subscriptions that are made with a connect, and of those that are made again."""


class Program(Protocol):
    """Whoever uses a client."""

    def on_connected(self) -> None:
        """The broker has accepted the session and the subscriptions."""

    def on_message(self, packet: Publish) -> None:
        """A message arrived; it is acknowledged when this returns, unless the connection is gone by then."""

    def on_disconnected(self) -> None:
        """The session is lost; the client comes back by itself until it is stopped."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a program connects.

    Attributes:
        user: Its user and its client id.
        expiry_seconds: How long its session waits for it; 0 begins anew each time.
        hears_again_seconds: After which time it asks for what is retained again, in turn; None: never.
    """

    user: str
    subscriptions: tuple[Subscription, ...]
    will: Will | None = None
    expiry_seconds: int = 0
    hears_again_seconds: float | None = None


class Client:
    """One program's session, over as many connections as it takes."""

    def __init__(self, clock: Clock, network: Network, login: Login, program: Program, rng: random.Random) -> None:
        self.is_connected = False
        self._clock = clock
        self._network = network
        self._login = login
        self._program = program
        self._rng = rng
        self._connection: Connection | None = None
        self._is_stopped = True
        self._unacknowledged: dict[int, Publish] = {}
        self._packet_id = 0
        self._attempt = 0
        self._again = cycle(login.subscriptions)

    @property
    def is_idle(self) -> bool:
        """Whether the broker has acknowledged everything."""
        return not self._unacknowledged

    def start(self) -> None:
        """Connect, and stay connected until ``stop``."""
        self._is_stopped = False
        self._connect()

    def stop(self, *, forget: bool = True) -> None:
        """Vanish without a word, as with a power cut; what was not acknowledged is forgotten with the memory."""
        self._is_stopped = True
        if forget:
            self._unacknowledged.clear()
        self.cut()

    def cut(self) -> None:
        """Lose the connection."""
        if self._connection is not None:
            self._network.cut(self._connection)
            self._lose()

    def stall(self, *, upwards: bool, seconds: float) -> None:
        """Let nothing pass to the broker, or nothing from it, for a while."""
        if self._connection is not None:
            self._network.stall(self._connection, upwards=upwards, seconds=seconds)

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties = NO_PROPERTIES
    ) -> None:
        """Send a message; QoS 0 is lost without a connection, QoS 1 waits for the next one."""
        if qos == 0 and not self.is_connected:
            return
        packet_id = 0
        if qos:
            packet_id = self._packet_id = self._packet_id % 65_535 + 1
        packet = Publish(topic, payload, qos, retain, packet_id=packet_id, properties=properties)
        if qos:
            self._unacknowledged[packet_id] = packet
        if self.is_connected and self._connection is not None:
            self._network.send(self._connection, packet)

    def _connect(self) -> None:
        if self._is_stopped or self._connection is not None:
            return
        login = self._login
        connect = Connect(
            client_id=login.user,
            clean_start=login.expiry_seconds == 0,
            user=login.user,
            will=login.will,
            properties=Properties(session_expiry_seconds=login.expiry_seconds),
        )
        self._attempt += 1
        attempt = self._attempt
        self._connection = self._network.open(connect, self._take, lambda: self._lose(attempt))
        self._clock.after(_ANSWER_SECONDS, lambda: self._give_up(attempt))

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and not self.is_connected:
            self.cut()

    def _lose(self, attempt: int | None = None) -> None:
        if self._connection is None or attempt not in (None, self._attempt):
            return
        was_connected, self.is_connected, self._connection = self.is_connected, False, None
        if was_connected and not self._is_stopped:
            self._program.on_disconnected()
        if not self._is_stopped:
            self._clock.after(self._rng.uniform(*_RETRY_SECONDS), self._connect)

    def _take(self, packet: Packet) -> None:
        connection = self._connection
        if connection is None:
            return
        match packet:
            case Publish():
                self._program.on_message(packet)
                if packet.qos and self._connection is connection:
                    self._network.send(connection, Puback(packet.packet_id))
            case Puback(packet_id=packet_id):
                self._unacknowledged.pop(packet_id, None)
            case Connack(reason=0):
                self._network.send(connection, Subscribe(_CONNECTS, self._login.subscriptions))
            case Suback(packet_id=number) if number == _CONNECTS:
                self.is_connected = True
                self._hear_again_later(connection)
                for unacknowledged in list(self._unacknowledged.values()):
                    self._network.send(connection, repeated(unacknowledged))
                self._program.on_connected()
            case _:
                pass

    def _hear_again_later(self, connection: Connection) -> None:
        if self._login.hears_again_seconds is not None:
            self._clock.after(self._login.hears_again_seconds, lambda: self._hear_again(connection))

    def _hear_again(self, connection: Connection) -> None:
        if self._connection is connection:
            self._network.send(connection, Subscribe(_HEARS_AGAIN, (next(self._again),)))
            self._hear_again_later(connection)
