"""One device that sends ten thousand messages a second, from a process of its own."""

import multiprocessing
import select
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from orchestrator.adapters import packets
from schemas.codec import encode
from schemas.messages import DeviceEvent, HealthSample, Info, Ready, Reported
from schemas.topics import RULES, Kind, TopicTree

FLOODER: Final = "flooder"
TREE: Final = TopicTree()
CHUNK: Final = 50
"""Messages that are sent together."""
PREPARED: Final = 10_000
"""Different messages; then they come again."""
_TURN_SECONDS: Final = 0.002
_READ_BYTES: Final = 1 << 16


def message(kind: Kind, number: int) -> bytes:
    """Return the ``number``-th message of a kind, with QoS and retention as the contract has them."""
    rule = RULES[kind]
    ids = {"device": FLOODER} | ({"kind": "slot_installed"} if kind is Kind.DEVICE_EVENT else {})
    packet_id = number % 0xFFFF + 1 if rule.qos else 0
    return packets.publish(
        TREE.build(kind, **ids), _payload(kind, number), packet_id, retain=rule.retained, has_properties=False
    )


def _payload(kind: Kind, number: int) -> bytes:
    match kind:
        case Kind.HEALTH:
            return encode(HealthSample(seq=number, boot_id="b", version="1.0.0", requests_total=number))
        case Kind.REPORTED:
            reported = {"observed_generation": 0, "seq": number, "state": "idle", "boot_id": "b"}
            return encode(Reported.model_validate(reported))
        case Kind.READY:
            return encode(Ready(generation=1, step="activate", nonce=f"{number:032x}"))
        case Kind.INFO:
            return encode(info(tags=(f"t-{number}",)))
        case Kind.AVAILABILITY:
            return b"online" if number % 2 else b"offline"
        case _:
            return encode(DeviceEvent(message=str(number)))


def info(tags: tuple[str, ...] = ()) -> Info:
    """Return what the flooder says it is; with other tags each time it is news each time."""
    return Info(
        session=1, boot_id="b", agent="storm/1", device_type="storm", arch="noarch", region="here", group="flood",
        tags=tags, version="1.0.0",
    )  # fmt: skip


@dataclass(frozen=True)
class Flood:
    """What is sent: messages of these kinds in turn, so many in a second in all."""

    kinds: tuple[Kind, ...]
    per_second: float


def _run(host: str, port: int, password: str, flood: Flood, pipe: Connection) -> None:
    wire = socket.create_connection((host, port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    will = (TREE.build(Kind.AVAILABILITY, device=FLOODER), b"offline")
    wire.sendall(
        packets.connect(
            FLOODER,
            keep_alive_seconds=0,
            receive_maximum=1,
            will=will,
            user=FLOODER,
            password=password,
            has_properties=False,
        )
    )
    assert wire.recv(4)[3] == 0, "the broker refused the flooder"
    topic = TREE.build(Kind.INFO, device=FLOODER)
    wire.sendall(packets.publish(topic, encode(info()), 1, retain=True, has_properties=False))
    wire.sendall(packets.publish(will[0], b"online", 2, retain=True, has_properties=False))
    numbers = range(1, PREPARED + 1)
    made = [message(flood.kinds[number % len(flood.kinds)], number) for number in numbers]
    chunks = [b"".join(made[at : at + CHUNK]) for at in range(0, PREPARED, CHUNK)]
    pipe.send("ready")
    pipe.recv()
    began, sent = time.monotonic(), 0
    while not pipe.poll():
        due = int((time.monotonic() - began) * flood.per_second) - sent
        if due < CHUNK:
            time.sleep(_TURN_SECONDS)
        for _ in range(min(due, 10 * CHUNK) // CHUNK):
            wire.sendall(chunks[sent // CHUNK % len(chunks)])
            sent += CHUNK
        while select.select([wire], [], [], 0)[0]:
            assert wire.recv(_READ_BYTES), "the broker ended the flooder's connection"
    pipe.send(sent / (time.monotonic() - began))


class Flooder:
    """The flooding device's process; it announces itself when it is entered, and floods from ``begin`` to ``end``."""

    def __init__(self, host: str, port: int, password: str, flood: Flood) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: Any = context.Process(target=_run, args=(host, port, password, flood, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        assert self._pipe.recv() == "ready"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join(10)

    def begin(self) -> None:
        """Flood."""
        self._pipe.send("begin")

    def end(self) -> float:
        """Stop; return how many messages a second the broker took."""
        self._pipe.send("end")
        rate: float = self._pipe.recv()
        return rate
