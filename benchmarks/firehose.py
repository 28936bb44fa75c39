"""A fleet's health as fast as a broker takes it: bytes made beforehand, sent over some fifty connections.

All packets are of one length, so that a whole round of the fleet is one matrix of bytes. ``seq`` is the moment at which
a sample was sent, in microseconds of this machine's monotonic clock: whoever reads it knows how old it is.
"""

import multiprocessing
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from orchestrator.adapters import packets
from schemas.topics import Kind, TopicTree

TREE: Final = TopicTree()
CONNECTIONS: Final = 50
TICK_SECONDS: Final = 0.002
CHUNK: Final = 64
"""Messages that are sent together over one connection."""
_MARK: Final = 2**53 - 1
"""What stands in a packet where ``seq`` will."""


def name_of(number: int) -> str:
    """Return the id of a device; all are of one length."""
    return f"device-{number:07d}"


def now_us() -> int:
    """Return the moment in microseconds, on the clock that all processes of this machine share."""
    return time.monotonic_ns() // 1000


def _packet(number: int, qos: int) -> bytes:
    sample = {
        "seq": _MARK, "boot_id": f"b{number:07d}", "version": "1.2.3", "requests_total": 100_000, "errors_total": 300,
        "memory_bytes": 100_000_000 + number, "healthy": True,
    }  # fmt: skip
    topic = TREE.build(Kind.HEALTH, device=name_of(number))
    return packets.publish(topic, msgspec.msgpack.encode(sample), qos and 1, retain=False)


@dataclass(frozen=True)
class Layout:
    """Where things stand in a packet, which is the same for who sends it and for who gets it."""

    packet_bytes: int
    seq_at: int
    id_at: int
    payload_bytes: int
    seq_in_payload: int

    @classmethod
    def of(cls, qos: int) -> "Layout":
        """Find them."""
        packet = _packet(0, qos)
        mark = _MARK.to_bytes(8, "big")
        topic = TREE.build(Kind.HEALTH, device=name_of(0))
        payload_at = packet.index(topic.encode()) + len(topic) + 2 * bool(qos) + 1
        seq_at = packet.index(mark)
        return cls(len(packet), seq_at, payload_at - 3, len(packet) - payload_at, seq_at - payload_at)


@dataclass(frozen=True)
class Round:
    """What is sent.

    Attributes:
        count: Messages.
        rate: In a second; None for as many as the broker takes.
        flood: Of these, how many in a hundred one single device sends.
    """

    count: int
    rate: float | None = None
    flood_percent: int = 0


class Firehose:
    """The publisher in a process of its own."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, wanted: Round) -> None:
        """Begin to send."""
        self._pipe.send(wanted)

    def sent(self) -> float:
        """Wait until all was handed to the broker; return the seconds it took."""
        seconds: float = self._pipe.recv()
        return seconds


@contextmanager
def firehose(port: int, devices: int, qos: int) -> Iterator[Firehose]:
    """Start the publisher; it has connected when this returns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, port, devices, qos), daemon=True)
    process.start()
    try:
        assert ours.recv() == "ready"
        yield Firehose(ours)
    finally:
        process.terminate()
        process.join()


def _run(pipe: Connection, port: int, devices: int, qos: int) -> None:
    order = list(range(devices))
    random.Random(1).shuffle(order)
    table = (
        np.frombuffer(b"".join(_packet(number, qos) for number in order), dtype=np.uint8).reshape(devices, -1).copy()
    )
    sockets = [_connected(port, number) for number in range(CONNECTIONS)]
    sender = _Sender(table, Layout.of(qos), sockets, qos)
    pipe.send("ready")
    while True:
        pipe.send(sender.run(pipe.recv()))


def _connected(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = packets.connect(
        f"firehose-{number}", keep_alive_seconds=0, receive_maximum=1, will=None, user=None, password=None
    )
    connection.sendall(hello)
    answer = connection.recv(256)
    assert answer[0] >> 4 == packets.CONNACK, answer
    assert answer[3] == 0, answer
    return connection


class _Sender:
    def __init__(self, table: NDArray[np.uint8], layout: Layout, sockets: list[socket.socket], qos: int) -> None:
        self._table, self._layout, self._sockets, self._qos = table, layout, sockets, qos
        self._next = 0
        self._turn = 0
        self._last_id = 0

    def run(self, wanted: Round) -> float:
        began = time.monotonic()
        sent = 0
        while sent < wanted.count:
            due = wanted.count
            if wanted.rate is not None:
                due = min(due, int((time.monotonic() - began) * wanted.rate))
                if due == sent:
                    time.sleep(TICK_SECONDS)
                    continue
            count = min(due - sent, CHUNK)
            self._send(count, wanted.flood_percent)
            sent += count
        return time.monotonic() - began

    def _send(self, count: int, flood_percent: int) -> None:
        rows = np.arange(self._next, self._next + count) % len(self._table)
        self._next = int(rows[-1]) + 1
        if flood_percent:
            rows[np.arange(count) * 37 % 100 < flood_percent] = 0
        batch = self._table[rows]
        batch[:, self._layout.seq_at : self._layout.seq_at + 8] = np.frombuffer(
            now_us().to_bytes(8, "big"), dtype=np.uint8
        )
        if self._qos:
            ids = (self._last_id + np.arange(count)) % 0xFFFF + 1
            self._last_id = int(ids[-1])
            batch[:, self._layout.id_at : self._layout.id_at + 2] = ids.astype(">u2").view(np.uint8).reshape(count, 2)
        connection = self._sockets[self._turn % len(self._sockets)]
        self._turn += 1
        connection.sendall(batch.tobytes())
        if self._qos:
            self._drain(connection)

    def _drain(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            connection.recv(1 << 16)
        except BlockingIOError:
            pass
        finally:
            connection.setblocking(True)


def ages_us(payloads: list[bytes], layout: Layout) -> NDArray[np.int64]:
    """Return how long ago each sample was sent, in microseconds."""
    table: NDArray[Any] = np.frombuffer(b"".join(payloads), dtype=np.uint8).reshape(-1, layout.payload_bytes)
    sent = np.ascontiguousarray(table[:, layout.seq_in_payload : layout.seq_in_payload + 8]).view(">u8")[:, 0]
    return now_us() - sent.astype(np.int64)
