"""Thousands of light devices over as many real connections: a few processes, each with one epoll.

``Crowd`` is the handle of whoever storms; the devices live in child processes, tell how many are where, and at the end
what each of them has done. A lost connection is made again as the device client does it, or, without jitter, by all at
once.
"""

import heapq
import multiprocessing
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from device_client.adapters.mqtt import (
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_SECONDS,
    RECONNECT_SECONDS,
    RECONNECT_SECONDS_MAX,
    STABLE_SECONDS,
)
from orchestrator.adapters import packets
from schemas.topics import RULES, Kind
from tests.storm.light_device import NEVER, Deeds, LightDevice, Pace, Said

TOLD_SECONDS: Final = 0.25
"""How often a process tells how its devices are."""
CONNECTS_PER_TURN: Final = 200
"""Connections that are begun before others are heard again."""
FIRST_PER_SECOND: Final = 500
"""So many devices of a process switch on in a second."""
_READ_BYTES: Final = 1 << 16
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Crew:
    """The devices of one process.

    Attributes:
        passwords: By device.
        jitter: Whether pauses before another attempt differ.
        seed: Of all that the devices draw.
    """

    host: str
    port: int
    passwords: Mapping[str, str]
    command_key: bytes
    pace: Pace
    jitter: bool
    seed: str


@dataclass
class Line:
    """A device's connection, when there is one."""

    device: LightDevice
    password: str
    wire: socket.socket | None = None
    unread: bytes = b""
    unsent: bytes = b""
    packet_id: int = 0
    pause_seconds: float = RECONNECT_SECONDS
    connect_at: float = 0.0
    began_at: float = 0.0
    pinged_at: float = 0.0
    is_open: bool = False
    """The broker's machine has taken the connection; whether the broker answers is another thing."""
    is_up: bool = False
    scheduled_at: float = NEVER

    def due_at(self) -> float:
        """When time alone brings something."""
        if self.wire is None:
            return min(self.connect_at, self.device.next_at)
        if not self.is_up:
            return min(self.given_up_at(), self.device.next_at)
        return min(self.pinged_at + KEEPALIVE_SECONDS, self.device.next_at)

    def given_up_at(self) -> float:
        """When an attempt has taken too long, as the client library sees it."""
        return self.began_at + (KEEPALIVE_SECONDS if self.is_open else CONNECT_TIMEOUT_SECONDS)


@dataclass
class _Process:
    """One process: its devices in the order in which something is due, and whose sockets are ready."""

    crew: Crew
    pipe: Connection
    lines: dict[int, Line] = field(default_factory=dict)
    due: list[tuple[float, int, Line]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    everybody: list[Line] = field(default_factory=list)
    told_at: float = 0.0
    pushed: int = 0

    def run(self) -> None:
        """Live until the parent has asked for what was done."""
        self.poll = select.epoll()
        self.poll.register(self.pipe.fileno(), select.EPOLLIN)
        rng, now = random.Random(self.crew.seed), time.monotonic()
        spread_seconds = len(self.crew.passwords) / FIRST_PER_SECOND
        for name, password in self.crew.passwords.items():
            own = random.Random(f"{self.crew.seed} {name}")
            device = LightDevice(name, self.crew.command_key, self.crew.pace, own)
            line = Line(device, password, connect_at=now + rng.random() * spread_seconds)
            self.everybody.append(line)
            self._schedule(line)
        self.rng = rng
        while True:
            wait = max(0.0, min(self.due[0][0] - time.monotonic() if self.due else TOLD_SECONDS, TOLD_SECONDS))
            for number, what in self.poll.poll(wait, 1024):
                if number == self.pipe.fileno():
                    self.pipe.recv()
                    self.pipe.send(
                        {line.device.name: (line.device.version, line.device.deeds) for line in self.everybody}
                    )
                    return
                served = self.lines.get(number)
                if served is not None:
                    self._serve(served, what)
            self._do_what_is_due()
            self._tell()

    def _do_what_is_due(self) -> None:
        now, connects = time.monotonic(), 0
        while self.due and self.due[0][0] <= now and connects < CONNECTS_PER_TURN:
            at, _, line = heapq.heappop(self.due)
            if at != line.scheduled_at:
                continue  # It was moved forward; another entry stands for it.
            line.scheduled_at = NEVER
            if line.due_at() <= now:
                connects += line.wire is None and line.connect_at <= now
                self._advance(line, now)
            self._schedule(line)

    def _schedule(self, line: Line) -> None:
        at = line.due_at()
        if at < line.scheduled_at:
            line.scheduled_at = at
            self.pushed += 1
            heapq.heappush(self.due, (at, self.pushed, line))

    def _advance(self, line: Line, now: float) -> None:
        said = line.device.advance(now)
        if line.wire is None:
            if line.connect_at <= now:
                self._connect(line, now)
        elif not line.is_up:
            if now >= line.given_up_at():
                self._lose(line, now)
        else:
            self._say(line, said)
            if now - line.pinged_at >= KEEPALIVE_SECONDS:
                line.pinged_at = now
                self._write(line, packets.PINGREQ)

    def _connect(self, line: Line, now: float) -> None:
        self.counts["attempts"] += 1
        wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        wire.settimeout(0)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.connect_ex((self.crew.host, self.crew.port))
        line.wire, line.began_at, line.pinged_at, line.unread = wire, now, now, b""
        device = line.device
        line.unsent = packets.connect(
            device.name, keep_alive_seconds=KEEPALIVE_SECONDS, receive_maximum=1,
            will=(device.topic(Kind.AVAILABILITY), b"offline"), user=device.name, password=line.password,
            has_properties=False,
        )  # fmt: skip
        self.lines[wire.fileno()] = line
        self.poll.register(wire.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _lose(self, line: Line, now: float) -> None:
        assert line.wire is not None
        del self.lines[line.wire.fileno()]
        self.poll.unregister(line.wire.fileno())
        line.wire.close()
        if line.is_up:
            self.counts["lost"] += 1
            line.device.lost()
        if now - line.began_at > STABLE_SECONDS:
            line.pause_seconds = RECONNECT_SECONDS
        line.wire, line.is_open, line.is_up = None, False, False
        line.connect_at = now + line.pause_seconds * (self.rng.uniform(0.5, 1.0) if self.crew.jitter else 1.0)
        line.pause_seconds = min(2 * line.pause_seconds, RECONNECT_SECONDS_MAX)

    def _serve(self, line: Line, what: int) -> None:
        now = time.monotonic()
        assert line.wire is not None
        try:
            if what & select.EPOLLOUT:
                line.is_open = True
                self._write(line, b"")
            if what & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not self._read(line, now):
                self._lose(line, now)
        except OSError:
            self._lose(line, now)
        self._schedule(line)

    def _read(self, line: Line, now: float) -> bool:
        assert line.wire is not None
        data = line.wire.recv(_READ_BYTES)
        if not data:
            return False
        data, used = line.unread + data, 0
        for head, body, used in packets.split(data):  # noqa: B007 - what is left over begins there
            if not self._take(line, head, body, now):
                return False
        line.unread = data[used:]
        return True

    def _take(self, line: Line, head: int, body: bytes, now: float) -> bool:
        device = line.device
        match head >> 4:
            case packets.CONNACK:
                if body[1]:
                    self.counts[f"refused with {body[1]}"] += 1
                    return False
                self._write(line, packets.subscribe(1, device.subscriptions, has_properties=False))
                line.packet_id = 1
            case packets.SUBACK:
                assert max(body[2:]) <= 1, f"{device.name}: a subscription is refused"
                line.is_up = True
                self._say(line, device.connected(now))
            case packets.PUBLISH:
                message = packets.read_publish(head, body, has_properties=False)
                if message.packet_id:
                    self._write(line, packets.puback(message.packet_id))
                if line.is_up or message.retain:
                    self._say(line, device.hear(message.topic, message.payload, now))
            case _:
                pass  # What it published is acknowledged, or it is still there.
        return True

    def _say(self, line: Line, said: Sequence[Said]) -> None:
        if said and line.is_up:
            self._write(line, b"".join(self._packet(line, each) for each in said))

    def _packet(self, line: Line, said: Said) -> bytes:
        rule, packet_id = RULES[said.kind], 0
        self.counts[said.kind] += 1
        if rule.qos:
            line.packet_id = packet_id = line.packet_id % 0xFFFF + 1
        return packets.publish(
            line.device.topic(said.kind), said.payload, packet_id, retain=rule.retained, has_properties=False
        )

    def _write(self, line: Line, data: bytes) -> None:
        assert line.wire is not None
        was_waiting, line.unsent = bool(line.unsent), line.unsent + data
        try:
            line.unsent = line.unsent[line.wire.send(line.unsent) :] if line.unsent else b""
        except BlockingIOError:
            pass
        except OSError:
            return  # The broker is gone; reading tells.
        wanted = select.EPOLLIN | (select.EPOLLOUT if line.unsent else 0)
        if was_waiting or line.unsent or not data:
            self.poll.modify(line.wire.fileno(), wanted)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self.told_at < TOLD_SECONDS:
            return
        self.told_at = now
        seen = Counter[str](self.counts)
        for line in self.everybody:
            seen["connected"] += line.is_up
            seen[f"runs {line.device.version}"] += 1
            seen[f"is {line.device.state}"] += 1
            seen["committed"] += bool(line.device.deeds.commits)
            seen["unanswered"] += line.device.deeds.unanswered
        self.pipe.send(seen)


def _live(crew: Crew, pipe: Connection) -> None:
    _Process(crew, pipe).run()


class Crowd:
    """The devices as whoever storms sees them: counts that are a quarter of a second old, and what was done at the end.

    Args:
        host: Of the broker.
        port: Where devices connect.
        passwords: By device.
        command_key: Whose grants they believe.
        pace: How long things take them.
        jitter: Whether pauses before another attempt to connect differ.
        seed: Of what they draw.
        processes: How many they live in.
    """

    def __init__(
        self, host: str, port: int, passwords: Mapping[str, str], command_key: bytes,
        *, pace: Pace, jitter: bool, seed: int, processes: int,
    ) -> None:  # fmt: skip
        context = multiprocessing.get_context("spawn")
        self._seen: list[Counter[str]] = []
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        names = list(passwords)
        for number in range(processes):
            own = {name: passwords[name] for name in names[number::processes]}
            crew = Crew(host, port, own, command_key, pace, jitter, f"{seed} {number}")
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            self._processes.append(context.Process(target=_live, args=(crew, theirs), daemon=True))
            self._seen.append(Counter())

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.join(10)

    @property
    def pids(self) -> list[int]:
        """Of the processes that they live in."""
        return [process.pid for process in self._processes]

    def seen(self) -> Counter[str]:
        """Return how many devices are where, as last told."""
        for number, pipe in enumerate(self._pipes):
            try:
                while pipe.poll():
                    self._seen[number] = pipe.recv()
            except EOFError:
                raise AssertionError("a process of devices has ended; it says why above") from None
        return sum(self._seen, Counter[str]())

    def deeds(self) -> dict[str, tuple[str, Deeds]]:
        """End, and return of each device what it runs and what it has done."""
        done: dict[str, tuple[str, Deeds]] = {}
        for pipe in self._pipes:
            pipe.send("enough")
        for pipe in self._pipes:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            told: Any = None
            while not isinstance(told, dict) or isinstance(told, Counter):
                assert pipe.poll(deadline - time.monotonic()), "a process of devices does not end"
                told = pipe.recv()
            done |= told
        return done
