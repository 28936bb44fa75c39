"""Ties connections to the core: bytes in, core, database, bytes out; one flush for each turn of the loop.

Everything that arrives in one turn of the event loop is handed to the core at once, and what the core puts out is
kept until the turn is over. Then all changes are committed in one transaction and only then are packets written, one
write for each connection. So nothing is acknowledged that could still be lost, and many messages share one fsync.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Protocol

from embedded_broker.codec import Parser, encode
from embedded_broker.core import Broker, refuse
from embedded_broker.errors import PacketError, StoreError
from embedded_broker.outputs import Change, Close, Output, Send
from embedded_broker.packets import Connect, Packet, Publish, Version
from embedded_broker.passwords import Passwords
from embedded_broker.reasons import Reason
from embedded_broker.state import Authorizer
from embedded_broker.store import Store

_LOG: Final = logging.getLogger(__name__)
_CONNECT_TIMEOUT_SECONDS: Final = 10.0
_STOP_TIMEOUT_SECONDS: Final = 1.0
_REPORT_INTERVAL_SECONDS: Final = 60.0


class Wire(Protocol):
    """A connection's transport, TCP or WebSocket."""

    def write(self, data: bytes) -> None:
        """Send when possible; never blocks."""

    def unsent_bytes(self) -> int:
        """How much was written and is not with the kernel yet."""

    def close(self) -> None:
        """Send what was written, then close."""

    def abort(self) -> None:
        """Close at once."""

    def hold(self, *, is_held: bool) -> None:
        """Stop reading, or read on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLimits:
    """What one server bears.

    Attributes:
        connections_max: More are closed as they come.
        unsent_soft_bytes: A connection that has so much unsent gets no QoS 0 messages.
        unsent_hard_bytes: A connection that has so much unsent is closed.
    """

    connections_max: int = 20_000
    unsent_soft_bytes: int = 1 << 20
    unsent_hard_bytes: int = 16 << 20


class _Phase(Enum):
    NEW = auto()
    AUTHENTICATING = auto()
    OPEN = auto()
    CLOSED = auto()


@dataclass(slots=True)
class Peer:
    """One connection as the hub sees it."""

    number: int
    wire: Wire
    parser: Parser
    phase: _Phase = _Phase.NEW
    user: str | None = None
    unread: Iterator[Packet] = field(default_factory=lambda: iter(()))
    backlog: bytes = b""
    out: list[bytes] = field(default_factory=list)
    out_bytes: int = 0
    is_closing: bool = False


class Hub:
    """All connections of one broker.

    Args:
        broker: The core.
        store: Where changes go, ``None`` for memory only.
        passwords: Who may connect; ``None`` lets everybody in.
        packet_size_max_bytes: Larger packets close the connection.
        limits: What the server bears.
        clock: Seconds since the epoch that never run backwards.
        on_failure: Called once if changes cannot be stored; nothing is sent any more.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        store: Store | None,
        passwords: Passwords | None,
        packet_size_max_bytes: int,
        limits: HubLimits,
        clock: Callable[[], float],
        on_failure: Callable[[StoreError], None],
    ) -> None:
        self._broker = broker
        self._store = store
        self._passwords = passwords
        self._packet_size_max_bytes = packet_size_max_bytes
        self._limits = limits
        self._clock = clock
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, Peer] = {}
        self._last_number = 0
        self._outputs: list[Output] = []
        self._is_flush_due = False
        self._has_failed = False
        self._is_stopped = False
        self._are_all_gone = asyncio.Event()
        self._tick: tuple[float, asyncio.TimerHandle] | None = None
        self._authentications: set[asyncio.Task[None]] = set()
        self._dropped_count = 0
        self._reported_count = 0
        self._report = self._loop.call_later(_REPORT_INTERVAL_SECONDS, self._report_drops)
        self._plan_tick()

    @property
    def dropped_count(self) -> int:
        """Messages lost to full queues, full buffers, or clients that take no packet that large."""
        return self._dropped_count + self._broker.dropped_count

    def opened(self, wire: Wire) -> Peer | None:
        """Take a new connection in; ``None`` if there are too many, and it is closed."""
        if len(self._peers) >= self._limits.connections_max or self._is_stopped:
            wire.abort()
            return None
        self._last_number += 1
        peer = Peer(self._last_number, wire, Parser(size_max_bytes=self._packet_size_max_bytes))
        self._peers[peer.number] = peer
        self._loop.call_later(_CONNECT_TIMEOUT_SECONDS, self._check_connected, peer)
        return peer

    def received(self, peer: Peer, data: bytes) -> None:
        """Take bytes of a connection."""
        if peer.phase is _Phase.AUTHENTICATING:
            peer.backlog += data
        elif peer.phase is not _Phase.CLOSED:
            self._read(peer, peer.parser.feed(data))

    def lost(self, peer: Peer) -> None:
        """Take note that a connection is gone."""
        peer.phase = _Phase.CLOSED
        if self._peers.pop(peer.number, None) is not None:
            self._put(self._broker.disconnected(peer.number, self._clock()))
        if self._is_stopped and not self._peers:
            self._are_all_gone.set()

    def admit(self, passwords: Passwords | None, authorize: Authorizer) -> int:
        """Let in and allow by other rules from now on, and end connections whose password is gone or another.

        Returns:
            How many were ended.
        """
        before, self._passwords = self._passwords, passwords
        self._broker.obey(authorize)
        if passwords is None or before is None:
            return 0
        opened = [(peer, peer.user) for peer in self._peers.values() if peer.phase is _Phase.OPEN]
        ended = [peer for peer, user in opened if not user or passwords.hash_of(user) != before.hash_of(user)]
        for peer in ended:
            self._drop(peer, Reason.NOT_AUTHORIZED)
        return len(ended)

    async def stop(self) -> None:
        """Close all connections, publish their wills, write everything down; takes a second at most."""
        self._is_stopped = True
        self._report.cancel()
        for task in self._authentications:
            task.cancel()
        self._put(self._broker.stop(self._clock()))
        self._flush()
        if self._tick is not None:
            self._tick[1].cancel()
        for peer in list(self._peers.values()):
            peer.wire.close()
        self._report_drops_once()
        if self._peers:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._are_all_gone.wait(), _STOP_TIMEOUT_SECONDS)

    def _read(self, peer: Peer, packets: Iterator[Packet]) -> None:
        now = self._clock()
        try:
            for packet in packets:
                if peer.phase is _Phase.OPEN:
                    self._put(self._broker.receive(peer.number, packet, now))
                elif peer.phase is _Phase.CLOSED:
                    return
                elif not isinstance(packet, Connect):
                    self._drop(peer, Reason.PROTOCOL_ERROR)
                    return
                elif self._must_wait(peer, packet):
                    peer.unread = packets
                    return
                else:
                    self._admit(peer, packet)
        except PacketError as error:
            self._drop(peer, error.reason)

    def _must_wait(self, peer: Peer, packet: Connect) -> bool:
        """Begin the slow check of a password, in a thread, unless the answer is known."""
        passwords = self._passwords
        if passwords is None or packet.user is None or passwords.is_remembered(packet.user, packet.password or b""):
            return False
        peer.phase = _Phase.AUTHENTICATING
        peer.wire.hold(is_held=True)
        task = self._loop.create_task(self._authenticate(peer, packet))
        self._authentications.add(task)
        task.add_done_callback(self._authentications.discard)
        return True

    async def _authenticate(self, peer: Peer, packet: Connect) -> None:
        assert packet.user is not None, "anonymous connections do not wait"
        passwords = None
        while passwords is not self._passwords:  # They may be replaced meanwhile.
            passwords = self._passwords
            assert passwords is not None, "with passwords it began"
            is_right = await asyncio.to_thread(passwords.fits, packet.user, packet.password or b"")
        if peer.phase is not _Phase.AUTHENTICATING:
            return
        peer.wire.hold(is_held=False)
        if not is_right:
            self._refuse(peer, Reason.BAD_USER_NAME_OR_PASSWORD)
            return
        self._admit(peer, packet)
        unread, backlog, peer.backlog = peer.unread, peer.backlog, b""
        self._read(peer, unread)
        self.received(peer, backlog)

    def _admit(self, peer: Peer, packet: Connect) -> None:
        if self._passwords is not None and packet.user is None:
            self._refuse(peer, Reason.NOT_AUTHORIZED)
            return
        peer.phase, peer.user = _Phase.OPEN, packet.user
        self._put(self._broker.connect(peer.number, packet, self._clock()))

    def _refuse(self, peer: Peer, reason: Reason) -> None:
        peer.phase = _Phase.CLOSED
        self._put(refuse(peer.number, reason))

    def _drop(self, peer: Peer, reason: Reason) -> None:
        """Close a connection that sent what MQTT does not allow."""
        if peer.phase is _Phase.OPEN:
            self._put(self._broker.reject(peer.number, reason, self._clock()))
        elif reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
            peer.parser.version = Version.V311  # in which every version understands the answer
            self._refuse(peer, reason)
        else:
            peer.wire.close()
        peer.phase = _Phase.CLOSED

    def _check_connected(self, peer: Peer) -> None:
        if peer.phase is _Phase.NEW:
            peer.wire.abort()

    def _put(self, outputs: list[Output]) -> None:
        self._outputs += outputs
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        outputs, self._outputs = self._outputs, []
        if self._has_failed:
            return
        changes: list[Change] = []
        touched: dict[int, Peer] = {}
        peers = self._peers
        for output in outputs:
            if isinstance(output, (Send, Close)):  # A union is made anew each time.
                peer = peers.get(output.connection)
                if peer is not None:
                    touched[peer.number] = peer
                    self._stage(peer, output)
            else:
                changes.append(output)
        if not self._commit(changes):
            return
        for peer in touched.values():
            self._write(peer)
        self._plan_tick()

    def _commit(self, changes: list[Change]) -> bool:
        if self._store is None or not changes:
            return True
        try:
            self._store.write(changes)
        except StoreError as error:
            self._has_failed = True
            self._on_failure(error)
            return False
        return True

    def _stage(self, peer: Peer, output: Send | Close) -> None:
        if isinstance(output, Close):
            peer.phase = _Phase.CLOSED
            peer.is_closing = True
            return
        packet = output.packet
        is_optional = isinstance(packet, Publish) and packet.qos == 0
        if is_optional and peer.out_bytes + peer.wire.unsent_bytes() > self._limits.unsent_soft_bytes:
            self._dropped_count += 1
            return
        data = encode(packet, peer.parser.version)
        peer.out.append(data)
        peer.out_bytes += len(data)

    def _write(self, peer: Peer) -> None:
        if peer.out:
            peer.wire.write(b"".join(peer.out))
            peer.out.clear()
            peer.out_bytes = 0
        if peer.is_closing:
            peer.wire.close()
        elif peer.wire.unsent_bytes() > self._limits.unsent_hard_bytes:
            _LOG.warning("connection %d reads too slowly and is closed", peer.number)
            peer.wire.abort()

    def _plan_tick(self) -> None:
        deadline = self._broker.next_deadline()
        if self._tick is not None:
            if deadline is not None and self._tick[0] <= deadline:
                return
            self._tick[1].cancel()
            self._tick = None
        if deadline is not None:
            delay_seconds = max(0.0, deadline - self._clock())
            self._tick = (deadline, self._loop.call_later(delay_seconds, self._on_tick))

    def _on_tick(self) -> None:
        self._tick = None
        self._put(self._broker.tick(self._clock()))

    def _report_drops(self) -> None:
        self._report_drops_once()
        self._report = self._loop.call_later(_REPORT_INTERVAL_SECONDS, self._report_drops)

    def _report_drops_once(self) -> None:
        count = self.dropped_count
        if count > self._reported_count:
            _LOG.warning("%d messages dropped: readers too slow or away too long", count - self._reported_count)
        self._reported_count = count
