"""Those who read the firehose, each in a process of its own: one throws everything away, the other is tidegate."""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final, Literal

import numpy as np
from firehose import Layout, ages_us, name_of
from numpy.typing import NDArray

from orchestrator.adapters import packets
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.fleet_stream import IN_FLIGHT_MAX, FleetStream
from orchestrator.adapters.framing import Framed
from orchestrator.adapters.journal import Journal
from orchestrator.core.context import Context
from orchestrator.core.inputs import Tick
from orchestrator.core.inventory import Device
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.messages import Info
from schemas.topics import Kind, TopicTree

TREE: Final = TopicTree()
Reading = Literal["discard", "tidegate"]
PEER_BATCH_SECONDS: Final = 0.002
_QUIET_SECONDS: Final = 1.0
"""When nothing has come for so long, nothing more will."""


@dataclass
class Tally:
    """What was read since it was begun.

    Attributes:
        first_at: When the first message was read, by the monotonic clock; ``last_at`` likewise.
        cpu_seconds: Of the process, until the last one.
        ages: How old each sample was when its device could be judged by it, in microseconds.
        device_bytes: What is kept of each device, all windows being full.
        is_aged: Whether ages are taken at all: it costs the reader a twentieth of its time.
    """

    received: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    cpu_seconds: float = 0.0
    ages: list[NDArray[np.int64]] = field(default_factory=list)
    device_bytes: float = 0.0
    is_aged: bool = False
    _cpu_before: float = field(default_factory=time.process_time)

    def add(self, count: int) -> None:
        """Note messages that were read just now."""
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.received += count
        self.cpu_seconds = time.process_time() - self._cpu_before

    @property
    def rate(self) -> float:
        """Messages in a second."""
        return self.received / (self.last_at - self.first_at)


class Reader:
    """The handle of a reader."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def begin(self, *, is_aged: bool) -> None:
        """Count from now on."""
        self._pipe.send("begin aged" if is_aged else "begin")
        assert self._pipe.recv() == "begun"

    def tally(self) -> Tally:
        """Return what was read since, when nothing more comes."""
        while True:
            self._pipe.send("tally")
            tally: Tally = self._pipe.recv()
            if tally.received and time.monotonic() - tally.last_at > _QUIET_SECONDS:
                return tally
            time.sleep(_QUIET_SECONDS / 4)


@contextmanager
def reader(kind: Reading, port: int, devices: int, qos: int) -> Iterator[Reader]:
    """Start a reader; it has subscribed when this returns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_discard if kind == "discard" else _judge, args=(theirs, port, devices, qos))
    process.start()
    try:
        assert ours.recv() == "ready"
        yield Reader(ours)
    finally:
        process.terminate()
        process.join()


def _discard(pipe: Connection, port: int, _devices: int, qos: int) -> None:
    """Read in the turns that suit mosquitto best, count bytes, and at QoS 1 acknowledge."""
    layout = Layout.of(qos)
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = packets.connect(
        "discards", keep_alive_seconds=0, receive_maximum=IN_FLIGHT_MAX, will=None, user=None, password=None
    )
    connection.sendall(hello)
    connection.recv(256)
    connection.sendall(packets.subscribe(1, [(TREE.filter(Kind.HEALTH), qos)]))
    connection.recv(256)
    connection.setblocking(False)
    pipe.send("ready")
    buffer, held, tally = bytearray(1 << 19), 0, Tally()
    view = memoryview(buffer)
    while True:
        if pipe.poll():
            tally = _obey(pipe, tally)
        try:
            came = connection.recv_into(view[held:])
        except BlockingIOError:
            time.sleep(PEER_BATCH_SECONDS)
            continue
        held += came
        count = held // layout.packet_bytes
        if qos:
            connection.setblocking(True)
            connection.sendall(_answers(buffer, count, layout))
            connection.setblocking(False)
        used = count * layout.packet_bytes
        buffer[: held - used] = buffer[used:held]
        held -= used
        tally.add(count)
        time.sleep(PEER_BATCH_SECONDS)


def _answers(buffer: bytearray, count: int, layout: Layout) -> bytes:
    table = np.frombuffer(buffer, dtype=np.uint8, count=count * layout.packet_bytes).reshape(count, -1)
    answers = np.empty((count, 4), dtype=np.uint8)
    answers[:, 0], answers[:, 1] = 0x40, 2
    answers[:, 2:] = table[:, layout.id_at : layout.id_at + 2]
    return answers.tobytes()


def _obey(pipe: Connection, tally: Tally) -> Tally:
    command = pipe.recv()
    if command.startswith("begin"):
        pipe.send("begun")
        return Tally(is_aged=command.endswith("aged"))
    pipe.send(tally)
    return tally


def _judge(pipe: Connection, port: int, devices: int, qos: int) -> None:
    asyncio.run(_Judge(pipe, devices, qos).run(port))


class _Judge:
    """An engine that knows the fleet, behind the reader that the orchestrator has."""

    def __init__(self, pipe: Connection, devices: int, qos: int) -> None:
        self._pipe, self._devices, self._qos = pipe, devices, qos
        self._layout = Layout.of(qos)
        self._tally = Tally()
        self._engine = make_engine(devices, Journal(None))
        self._engine.start(time.monotonic())

    async def run(self, port: int) -> None:
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._obey)
        stream = FleetStream(BrokerUrl("127.0.0.1", port), TREE, self._take, qos=self._qos)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.run())
            tasks.create_task(self._tick())
            while not stream.reads:  # noqa: ASYNC110 - it is said to nobody else
                await asyncio.sleep(0.05)
            self._pipe.send("ready")

    def _obey(self) -> None:
        self._tally.device_bytes = self._engine.intake.nbytes / self._devices
        self._tally = _obey(self._pipe, self._tally)

    def _take(self, framed: Framed) -> None:
        self._engine.hear(framed.devices, framed.shards, framed.payloads, time.monotonic())
        self._engine.context.monitor.settle()
        self._tally.add(len(framed.payloads))
        if self._tally.is_aged:
            self._tally.ages.append(ages_us(framed.payloads, self._layout))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._engine.handle(Tick(), time.monotonic())


def make_engine(devices: int, journal: Journal, settle_seconds: float = 0.0) -> Engine:
    """Return an engine that knows a fleet."""
    context = Context(Monitor(), {}, {}, "http://registry.example")
    engine = Engine(journal, context, lambda payload: payload, TREE, settle_seconds=settle_seconds)
    inventory = engine.state.devices
    rows = inventory.add([name_of(number) for number in range(devices)])
    for group in range(40):
        info = Info(
            session=0, boot_id="-", agent="agent/1", arch="aarch64", device_type="type-1", region="region-1",
            group=f"group-{group}", signals=("error_rate", "memory"),
        )  # fmt: skip
        for said in (Device.said, Device.info):
            inventory.fill(rows[group::40], said, info)
    inventory.fill(rows, Device.version, "1.2.3")
    inventory.fill(rows, Device.is_online, value=True)
    return engine
