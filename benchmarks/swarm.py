"""Thousands of devices in one process: raw sockets, the bytes of MQTT 3.1.1, and what counts of the wire contract.

Each device connects as itself with a will, subscribes to its exact topics, announces itself and follows its orders:
asks for the grant, reports that it is done. It fetches, installs and starts nothing, so that a machine of two cores can
carry them all beside what is measured. ``Swarm`` is the handle of whoever measures; the devices live in a child process
and tell when the last of them has got something.
"""

import base64
import json
import multiprocessing
import secrets
import select
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from orchestrator.adapters import packets
from schemas.codec import encode
from schemas.messages import Info
from schemas.topics import Kind, TopicTree

TREE: Final = TopicTree()
CONNECTING_MAX: Final = 200
"""Connections that are being made at a time; a broker's backlog is short."""
RETRY_SECONDS: Final = 1.0
OLD_VERSION: Final = "1.0.0"
_PATIENCE_SECONDS: Final = 120.0


def name_of(number: int) -> str:
    """Return the id of a device."""
    return f"device-{number:06d}"


@dataclass(slots=True)
class Device:
    """One device and its connection."""

    name: str
    password: str
    wire: socket.socket
    topics: Mapping[Kind, str]
    version: str = OLD_VERSION
    generation: int = 0
    wanted: str = ""
    action: str = ""
    nonce: str = ""
    packet_id: int = 0
    report_seq: int = 0
    unread: bytes = b""

    def connect(self) -> None:
        """Open the session."""
        hello = packets.connect(
            self.name, keep_alive_seconds=0, receive_maximum=1, will=(self.topics[Kind.AVAILABILITY], b"offline"),
            user=self.name, password=self.password, has_properties=False,
        )  # fmt: skip
        self.wire.sendall(hello)

    def introduce(self) -> None:
        """Subscribe, and say who is there and what it runs."""
        filters = (Kind.DESIRED, Kind.GRANT, Kind.HOLD)
        subscribe = packets.subscribe(1, [(self.topics[kind], 1) for kind in filters], has_properties=False)
        self.packet_id = 1
        info = encode(
            Info(
                session=1, boot_id="b", agent="swarm/1", device_type="swarm", arch="noarch", region="here",
                group="swarm", version=self.version,
            )
        )  # fmt: skip
        said = (
            self._message(Kind.AVAILABILITY, b"online", retain=True),
            self._message(Kind.INFO, info, retain=True),
            self._report("idle"),
        )
        self.wire.sendall(subscribe + b"".join(said))

    def follow(self, desired: Mapping[str, Any]) -> None:
        """Take an order: ask for the grant if there is something to do."""
        if desired["generation"] < self.generation:
            return
        self.generation, self.action, self.wanted = desired["generation"], desired["action"], desired["version"]
        if self.action == "hold" or self.wanted == self.version:
            self.wire.sendall(self._report("idle"))
        else:
            self.ask()

    def ask(self) -> None:
        """Ask whether the prepared version may be activated."""
        self.nonce = secrets.token_hex(16)
        ready = {"generation": self.generation, "step": "activate", "nonce": self.nonce}
        self.wire.sendall(self._message(Kind.READY, json.dumps(ready).encode()))

    def hear(self, envelope: bytes) -> bool:
        """Take a grant, whose signature is not looked at; False if it has to be asked for again."""
        grant = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        if grant["nonce"] != self.nonce:
            return True
        if grant["decision"] != "go":
            return False
        self.version = self.wanted
        self.wire.sendall(self._report("idle"))
        return True

    def _report(self, state: str) -> bytes:
        self.report_seq += 1
        reported = {
            "observed_generation": self.generation, "seq": self.report_seq, "state": state,
            "installed_version": self.version, "boot_id": "b",
        }  # fmt: skip
        return self._message(Kind.REPORTED, json.dumps(reported).encode(), retain=True)

    def _message(self, kind: Kind, payload: bytes, *, retain: bool = False) -> bytes:
        self.packet_id = self.packet_id % 0xFFFF + 1
        return packets.publish(self.topics[kind], payload, self.packet_id, retain=retain, has_properties=False)


@dataclass
class _Process:
    """The child process: all devices, one epoll."""

    host: str
    port: int
    passwords: Mapping[str, str]
    pipe: Connection
    devices: dict[int, Device] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    connecting: int = 0
    got: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[str, int, str]] = field(default_factory=set)
    again: list[tuple[float, Device]] = field(default_factory=list)

    def run(self) -> None:
        """Live until the parent says that it is enough."""
        epoll = select.epoll()
        epoll.register(self.pipe.fileno(), select.EPOLLIN)
        self.waiting = list(reversed(self.passwords))
        while True:
            self._connect_some(epoll)
            for number, _ in epoll.poll(RETRY_SECONDS, 1024):
                if number == self.pipe.fileno():
                    return
                self._read(self.devices[number])
            self._ask_again()

    def _connect_some(self, epoll: select.epoll) -> None:
        while self.waiting and self.connecting < CONNECTING_MAX:
            name = self.waiting.pop()
            wire = socket.create_connection((self.host, self.port))
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            topics = {
                kind: TREE.build(kind, device=name)
                for kind in (Kind.AVAILABILITY, Kind.INFO, Kind.REPORTED, Kind.READY, Kind.DESIRED, Kind.GRANT)
            }
            topics[Kind.HOLD] = TREE.build(Kind.HOLD)
            device = Device(name, self.passwords[name], wire, topics)
            self.devices[wire.fileno()] = device
            epoll.register(wire.fileno(), select.EPOLLIN)
            device.connect()
            self.connecting += 1

    def _read(self, device: Device) -> None:
        data = device.wire.recv(65536)
        assert data, f"{device.name}: the broker closed the connection"
        data, used = device.unread + data, 0
        for head, body, used in packets.split(data):  # noqa: B007 - what is left over begins there
            self._take(device, head, body)
        device.unread = data[used:]

    def _take(self, device: Device, head: int, body: bytes) -> None:
        match head >> 4:
            case packets.CONNACK:
                assert body[1] == 0, f"{device.name}: refused with {body[1]}"
                device.introduce()
            case packets.SUBACK:
                assert max(body[2:]) <= 1, f"{device.name}: a subscription is refused"
                self.connecting -= 1
                self._note("connected", device)
            case packets.PUBLISH:
                message = packets.read_publish(head, body, has_properties=False)
                if message.packet_id:
                    device.wire.sendall(packets.puback(message.packet_id))
                self._hear(device, message.topic, message.payload)
            case _:
                pass  # What it published is acknowledged.

    def _hear(self, device: Device, topic: str, payload: bytes) -> None:
        if topic == device.topics[Kind.DESIRED]:
            desired = json.loads(payload)
            self._note(desired["action"], device, desired["generation"])
            device.follow(desired)
        elif topic == device.topics[Kind.GRANT]:
            if not device.hear(payload):
                self.again.append((time.monotonic() + RETRY_SECONDS, device))
            elif device.version == device.wanted:
                self._note(f"runs {device.version}", device, device.generation)
        elif topic == device.topics[Kind.HOLD]:
            self._note("hold set" if payload else "hold cleared", device)

    def _note(self, what: str, device: Device, generation: int = 0) -> None:
        """Count ``what``, for each device and generation once; tell the parent when all have it."""
        if generation:
            if (what, generation, device.name) in self.seen:
                return
            self.seen.add((what, generation, device.name))
        self.got[what] += 1
        if self.got[what] == len(self.passwords):
            del self.got[what]
            self.pipe.send((what, time.time()))  # noqa: TID251 - the clock that the journal has

    def _ask_again(self) -> None:
        now = time.monotonic()
        due = [device for at, device in self.again if at <= now]
        self.again = [(at, device) for at, device in self.again if at > now]
        for device in due:
            device.ask()


def _live(host: str, port: int, passwords: Mapping[str, str], pipe: Connection) -> None:
    _Process(host, port, passwords, pipe).run()


class Swarm:
    """The devices as whoever measures sees them.

    Args:
        host: Of the broker.
        port: Where devices connect.
        passwords: By device.
    """

    def __init__(self, host: str, port: int, passwords: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(host, port, passwords, theirs), daemon=True)
        self._told: list[tuple[str, float]] = []

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.send("enough")
        self._process.join(10)
        self._process.kill()

    def all_got(self, what: str) -> float:
        """Wait until the last device has got ``what``; return when, in seconds since the epoch.

        Args:
            what: ``connected``, the action of an order, ``runs VERSION``, ``hold set`` or ``hold cleared``.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            for number, (told, at) in enumerate(self._told):
                if told == what:
                    del self._told[: number + 1]
                    return at
            assert self._pipe.poll(deadline - time.monotonic()), f"not all devices got {what!r}"
            try:
                self._told.append(self._pipe.recv())
            except EOFError:
                raise AssertionError("the devices' process has ended; it says why above") from None
