"""The simulated orchestrator processes: the real engine and the real journal, a client, and somebody who kills them.

A crash loses the process with everything that it has not published; the journal stays. It happens between two
messages, or right after an entry was written and before anything was done about it. A process may also hang: then
another takes over, and the one that wakes up later must find out that it is no longer needed.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from embedded_broker.packets import NO_PROPERTIES, Properties, Publish, Subscription, Will
from orchestrator.adapters.journal import FencedError, Journal, StoredEntry
from orchestrator.core.context import Context
from orchestrator.core.inputs import Tick
from orchestrator.core.interpret import Received
from orchestrator.core.releases import StoredRelease
from orchestrator.service import Engine, Outgoing
from orchestrator.telemetry.monitor import Monitor
from schemas.dsse import GRANT_TYPE, seal
from schemas.messages import AuditRecord
from schemas.policy import Policy
from schemas.topics import RULES, Kind, TopicTree
from simulator.client import Client, Login
from simulator.clock import Clock
from simulator.network import Network
from simulator.trace import Trace
from simulator.witness import Witness

SUBSCRIPTIONS: Final = (
    Kind.INFO, Kind.AVAILABILITY, Kind.REPORTED, Kind.HOLD, Kind.HEALTH, Kind.READY, Kind.COMMAND,
)  # fmt: skip
"""What the real process subscribes to, in its order."""
_DOWN_SECONDS: Final = (2.0, 90.0)
_HANG_SECONDS: Final = (20.0, 900.0)


class CrashError(Exception):
    """The process has just died."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What the operator has put on the shelf."""

    releases: Mapping[str, StoredRelease]
    policies: Mapping[str, Policy]


class WatchedJournal:
    """The real journal in the hands of one process, with a witness beside it; after an append the process may die.

    All processes share one journal in memory, so the newest epoch stands in ``newest_epoch``.

    Args:
        journal: Survives every process.
        newest_epoch: Of all that were opened, as a list of one.
        on_append: Told the epoch after each append, before its effects; may raise ``CrashError``.
    """

    def __init__(self, journal: Journal, newest_epoch: list[int], on_append: Callable[[int], None]) -> None:
        self._journal = journal
        self._newest_epoch = newest_epoch
        self._on_append = on_append
        self.epoch = 0

    @property
    def performed_seq(self) -> int:
        """As the journal says."""
        return self._journal.performed_seq

    def open_epoch(self, at: float) -> int:
        """Take over."""
        self.epoch = self._newest_epoch[0] = self._journal.open_epoch(at)
        return self.epoch

    def read(self, after_seq: int = 0) -> Iterator[StoredEntry]:
        """Yield the entries after ``after_seq``."""
        return self._journal.read(after_seq)

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        """Append, then tell."""
        self.confirm()
        records = self._journal.append(rows, at)
        self._on_append(self.epoch)
        return records

    def confirm(self) -> None:
        """Refuse a process after which another has taken over."""
        if self._newest_epoch[0] != self.epoch:
            raise FencedError(f"epoch {self._newest_epoch[0]} took over")

    def mark_performed(self, seq: int) -> None:
        """As the journal does."""
        self._journal.mark_performed(seq)


class Process:
    """One orchestrator process, from its start to its end.

    Attributes:
        engine: Decides.
        client: Its connection.
    """

    def __init__(self, world: "SimulatedOrchestrator", engine: Engine, journal: WatchedJournal) -> None:
        self.engine = engine
        self._world = world
        self._journal = journal
        self._is_started = False
        self._is_awake = True
        self._is_alive = True
        self.client = world.make_client(self)
        self.client.start()
        world.clock.after(world.tick_seconds, self._tick)

    @property
    def epoch(self) -> int:
        """The one it has opened; 0 before its first connection."""
        return self._journal.epoch

    def end(self) -> None:
        """Be gone."""
        self._is_alive = False
        self.client.stop()

    def hang(self, seconds: float) -> None:
        """Do nothing for a while; the connection does not last so long."""
        self._is_awake = False
        self.client.stop(forget=False)
        self._world.clock.after(seconds, self._wake_up)

    def _wake_up(self) -> None:
        self._is_awake = True
        if self._is_alive:
            self.client.start()

    def on_connected(self) -> None:
        """Take over, or say everything again."""
        engine, now = self.engine, self._world.clock.now
        is_first, self._is_started = not self._is_started, True
        self._run(lambda: engine.start(now) if is_first else engine.reconnected(now))

    def on_disconnected(self) -> None:
        """The engine is not told: what it hears next says enough."""

    def on_message(self, packet: Publish) -> None:
        """Let the engine have it."""
        if not self._is_started:
            return
        self._world.note_sample(packet.topic)
        properties = packet.properties
        received = Received(
            packet.topic, packet.payload, packet.retain, properties.response_topic, properties.correlation_data
        )
        self._run(lambda: self.engine.receive(received, self._world.clock.now))

    def _tick(self) -> None:
        if not self._is_alive:
            return
        self._world.clock.after(self._world.tick_seconds, self._tick)
        if not self._is_awake:
            return
        serves = self._is_started and self.client.is_connected
        survives = not serves or self._run(lambda: self.engine.handle(Tick(), self._world.clock.now))
        if survives and self.client.is_idle:
            self.engine.performed()

    def _run(self, turn: Callable[[], list[Outgoing]]) -> bool:
        """Take a turn and publish what comes of it; False if it was the last."""
        try:
            outgoing = turn()
        except (CrashError, FencedError) as error:
            self._world.ended(self, error)
            return False
        for each in outgoing:
            properties = Properties(correlation_data=each.correlation) if each.correlation else NO_PROPERTIES
            self.client.publish(each.topic, each.payload, qos=each.qos, retain=each.retain, properties=properties)
        return True


class SimulatedOrchestrator:
    """One orchestrator process after another, on one journal.

    Attributes:
        journal: Survives every process.
        process: The newest one; None while none runs.
        crash: The chance to die after each append.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        tree: TopicTree,
        key: Ed25519PrivateKey,
        *,
        materials: Materials,
        tick_seconds: float,
        rng: random.Random,
        witness: Witness,
        trace: Trace,
    ) -> None:
        self.journal = Journal(None)
        self.process: Process | None = None
        self.crash = 0.0
        self.clock = clock
        self.tick_seconds = tick_seconds
        self._network = network
        self._tree = tree
        self._key = key
        self._materials = materials
        self._rng = rng
        self._witness = witness
        self._trace = trace
        self._newest_epoch = [0]
        self._health_prefix = tree.build(Kind.HEALTH, device="x").rsplit("/", 2)[0]
        witness.online = self._online

    @property
    def engine(self) -> Engine | None:
        """Of the process that runs; None while none does."""
        return None if self.process is None else self.process.engine

    @property
    def is_idle(self) -> bool:
        """Whether the broker has acknowledged everything."""
        return self.process is None or self.process.client.is_idle

    def boot(self) -> None:
        """Start a process, unless one runs; it does nothing before its first connection."""
        if self.process is not None:
            return
        context = Context(Monitor(), self._materials.releases, self._materials.policies, "http://registry.example")
        journal = WatchedJournal(self.journal, self._newest_epoch, self._on_append)
        engine = Engine(
            journal,
            context,
            lambda payload: seal(GRANT_TYPE, payload, self._key),
            self._tree,
            summary_seconds=math.inf,  # nobody reads them here
        )
        self.process = Process(self, engine, journal)

    def kill(self, down_seconds: float | None = None) -> None:
        """Kill the process; None draws how long it stays away."""
        if self.process is None:
            return
        self._trace.add("orchestrator", "is killed")
        self.process.end()
        self.process = None
        self.clock.after(self._rng.uniform(*_DOWN_SECONDS) if down_seconds is None else down_seconds, self.boot)

    def hang(self, seconds: float | None = None) -> None:
        """Let the process hang, so that another takes over at once; None draws for how long."""
        if self.process is None:
            return
        self._trace.add("orchestrator", "hangs, and another takes over")
        self.process.hang(self._rng.uniform(*_HANG_SECONDS) if seconds is None else seconds)
        self.process = None
        self.boot()

    def cut(self) -> None:
        """Lose the connection to the broker."""
        if self.process is not None:
            self.process.client.cut()

    # What its processes need.

    def make_client(self, process: Process) -> Client:
        """Return the connection of a process: all have the same name."""
        return Client(self.clock, self._network, self._login(), process, self._rng)

    def ended(self, process: Process, error: Exception) -> None:
        """A process has died, or has found out that another took over."""
        if process is self.process and isinstance(error, CrashError):
            self.kill()
            return
        self._trace.add("orchestrator", f"of epoch {process.epoch} ends: {error}")
        process.end()

    def note_sample(self, topic: str) -> None:
        """A message has come; a sample is evidence."""
        if topic.startswith(self._health_prefix):
            self._witness.sampled_at[topic.rsplit("/", 1)[1]] = self.clock.now

    def _on_append(self, epoch: int) -> None:
        if epoch != self._newest_epoch[0]:
            self._witness.accuse("INV-13 one writer", "orchestrator", f"epoch {epoch} after {self._newest_epoch[0]}")
        for entry in self._witness.journaled(self.journal.read(self._witness.ledger.last_seq)):
            detail = entry.body.get("device") or entry.body.get("wave", "")
            self._trace.add("orchestrator", f"{entry.kind} {detail} {entry.body.get('decision', '')}".rstrip())
        if self.crash and self._rng.random() < self.crash:
            raise CrashError

    def _online(self) -> frozenset[str]:
        if self.engine is None:
            return frozenset()
        return frozenset(name for name, device in self.engine.state.devices.items() if device.is_online)

    def _login(self) -> Login:
        will = Will(self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"offline", 1, retain=True)
        subscriptions = tuple(
            Subscription(self._tree.filter(kind), RULES[kind].qos, retain_as_published=True) for kind in SUBSCRIPTIONS
        )
        return Login("orchestrator", subscriptions, will)
