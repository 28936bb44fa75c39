"""The real broker core behind a network that loses, repeats, delays and breaks.

Within one connection packets keep their order, as in TCP; between connections they overtake each other. What is lost of
a QoS 1 message is repeated by whoever sent it when the connection is back. A broken connection is noticed by the client
at once and by the broker up to a minute and a half later, so that late wills and take-overs happen.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from embedded_broker.core import Broker
from embedded_broker.outputs import Close, Output, Send
from embedded_broker.packets import Connect, Packet, Publish
from embedded_broker.state import Authorizer, BrokerConfig, BrokerState
from simulator.clock import Clock
from simulator.faults import Faults
from simulator.trace import Trace

_TICK_SECONDS: Final = 30.0
_SAVE_TICKS: Final = 10
"""How often a broker that rewinds saves what it knows."""
_NOTICE_SECONDS_MAX: Final = 90.0
_LONG_DELAY: Final = (0.02, 100.0)
"""How many packets take how many times as long."""


@dataclass(slots=True)
class Connection:
    """One connection as its client holds it; ``take`` and ``lost`` are how it hears from the broker."""

    number: int
    take: Callable[[Packet], None]
    lost: Callable[[], None]
    is_open: bool = True
    up_at: float = 0.0
    down_at: float = 0.0


class Network:
    """Carries packets between clients and the broker.

    Args:
        clock: Virtual time.
        authorize: The broker's ACL.
        faults: What the network and the broker do wrong until ``faults.stop_seconds``.
        rng: Decides when.
        trace: Where restarts are written down.
    """

    def __init__(self, clock: Clock, authorize: Authorizer, faults: Faults, rng: random.Random, trace: Trace) -> None:
        self._clock = clock
        self._authorize = authorize
        self._faults = faults
        self._rng = rng
        self._trace = trace
        self._config = _config_of(faults)
        self._broker: Broker | None = Broker(self._config, authorize)
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._tick_count = 0
        self._saved: BrokerState | None = None
        self._is_calm = not (faults.loss or faults.duplicate)
        self._tick()

    def heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self._faults, self._is_calm = Faults(), True

    def open(self, connect: Connect, take: Callable[[Packet], None], lost: Callable[[], None]) -> Connection:
        """Open a connection; without a broker it is lost at once."""
        self._count += 1
        connection = Connection(self._count, take, lost)
        if self._broker is None:
            connection.is_open = False
            self._clock.after(1.0, lost)
            return connection
        self._connections[connection.number] = connection
        connection.up_at = self._carry(connection.up_at, partial(self._connect, connection, connect))
        return connection

    def send(self, connection: Connection, packet: Packet) -> None:
        """Send a packet to the broker."""
        if not connection.is_open:
            return
        for _ in range(1 if self._is_calm else self._copies(packet)):
            connection.up_at = self._carry(connection.up_at, partial(self._receive, connection, packet))

    def cut(self, connection: Connection) -> None:
        """Break a connection; what is under way is lost, and the broker notices later."""
        if not connection.is_open:
            return
        connection.is_open = False
        seconds = self._rng.uniform(0, _NOTICE_SECONDS_MAX)
        self._clock.after(seconds, partial(self._notice, connection.number))
        self._clock.soon(connection.lost)

    def stall(self, connection: Connection, *, upwards: bool, seconds: float) -> None:
        """Let nothing pass in one direction for a while; what is sent meanwhile arrives after it."""
        until = self._clock.now + seconds
        if upwards:
            connection.up_at = max(connection.up_at, until)
        else:
            connection.down_at = max(connection.down_at, until)

    @property
    def dropped_count(self) -> int:
        """Messages that the broker which runs now has had no room for."""
        return 0 if self._broker is None else self._broker.dropped_count

    def retained(self) -> dict[str, bytes]:
        """Return what the broker holds retained, by topic; nothing while it is down."""
        messages = () if self._broker is None else self._broker.snapshot().retained
        return {message.packet.topic: message.packet.payload for message in messages}

    def restart_broker(self, down_seconds: float) -> None:
        """Kill the broker and start it again, with what it has kept."""
        if self._broker is None:
            return
        state = (self._saved if self._faults.broker_rewinds else None) or self._broker.snapshot()
        kept = BrokerState(
            state.sessions if self._faults.broker_keeps_sessions else (),
            state.retained if self._faults.broker_keeps_retained else (),
        )
        self._trace.add("broker", f"restarts with {len(kept.sessions)} sessions, {len(kept.retained)} retained")
        self._broker = None
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            if connection.is_open:
                connection.is_open = False
                self._clock.soon(connection.lost)
        self._clock.after(down_seconds, partial(self._restore, kept))

    def _restore(self, kept: BrokerState) -> None:
        self._broker = Broker.restore(self._config, kept, self._clock.now, self._authorize)

    def _connect(self, connection: Connection, connect: Connect) -> None:
        if connection.is_open and self._broker is not None:
            self._put(self._broker.connect(connection.number, connect, self._clock.now))

    def _receive(self, connection: Connection, packet: Packet) -> None:
        if connection.is_open and self._broker is not None:
            self._put(self._broker.receive(connection.number, packet, self._clock.now))

    def _notice(self, number: int) -> None:
        self._connections.pop(number, None)
        if self._broker is not None:
            self._put(self._broker.disconnected(number, self._clock.now))

    def _tick(self) -> None:
        if self._broker is not None:
            self._put(self._broker.tick(self._clock.now))
            self._save(self._broker)
        self._clock.after(_TICK_SECONDS, self._tick)

    def _save(self, broker: Broker) -> None:
        self._tick_count += 1
        if self._faults.broker_rewinds and self._tick_count % _SAVE_TICKS == 0:
            self._saved = broker.snapshot()

    def _put(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(number, packet):
                    connection = self._connections.get(number)
                    if connection is not None and connection.is_open:
                        for _ in range(1 if self._is_calm else self._copies(packet)):
                            arrive = partial(self._deliver, connection, packet)
                            connection.down_at = self._carry(connection.down_at, arrive)
                case Close(connection=number):
                    closed = self._connections.pop(number, None)
                    if closed is not None and closed.is_open:
                        closed.down_at = self._carry(closed.down_at, partial(self._close, closed))
                case _:
                    raise AssertionError("a broker that is not durable puts out no changes")

    def _deliver(self, connection: Connection, packet: Packet) -> None:
        if connection.is_open:
            connection.take(packet)

    def _close(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            connection.lost()

    def _copies(self, packet: Packet) -> int:
        """How often a packet arrives: QoS 0 may be lost, and a message may come twice."""
        faults = self._faults
        if not (faults.loss or faults.duplicate) or not isinstance(packet, Publish):
            return 1
        if packet.qos == 0 and self._rng.random() < faults.loss:
            return 0
        return 2 if self._rng.random() < faults.duplicate else 1

    def _carry(self, not_before: float, arrive: Callable[[], None]) -> float:
        """Let a packet arrive after the one before it, and return when."""
        now = self._clock.now
        typical = self._faults.delay_seconds
        if not typical:
            if not_before <= now:
                self._clock.soon(arrive)
                return now
            self._clock.after(not_before - now, arrive)
            return not_before
        seconds = self._rng.expovariate(1 / typical)
        share, factor = _LONG_DELAY
        if self._rng.random() < share:
            seconds *= self._rng.uniform(1, factor)
        at = max(not_before, now + seconds)
        self._clock.after(at - now, arrive)
        return at


def _config_of(faults: Faults) -> BrokerConfig:
    """Return the broker's limits: one that keeps few messages has few under way as well."""
    if faults.queued_max is None:
        return BrokerConfig()
    return BrokerConfig(queued_max=faults.queued_max, inflight_max=1 + faults.queued_max)


def repeated(packet: Publish) -> Publish:
    """Return a QoS 1 message as it is sent again."""
    return packet._replace(dup=True)
