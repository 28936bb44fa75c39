"""The simulated orchestrator process: the real engine and the real journal, a client, and somebody who kills it.

A crash loses the process with everything that it has not published; the journal stays. It happens between two
messages, or right after an entry was written and before anything was done about it.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from embedded_broker.packets import NO_PROPERTIES, Properties, Publish, Subscription, Will
from orchestrator.adapters.journal import Journal, StoredEntry
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


class CrashError(Exception):
    """The process has just died."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What the operator has put on the shelf."""

    releases: Mapping[str, StoredRelease]
    policies: Mapping[str, Policy]


class WatchedJournal:
    """The real journal with a witness beside it; after an append the process may die.

    Args:
        journal: Survives every process.
        on_append: Told after each append, before its effects; may raise ``CrashError``.
    """

    def __init__(self, journal: Journal, on_append: Callable[[], None]) -> None:
        self._journal = journal
        self._on_append = on_append

    @property
    def performed_seq(self) -> int:
        """As the journal says."""
        return self._journal.performed_seq

    def open_epoch(self, at: float) -> int:
        """Take over."""
        return self._journal.open_epoch(at)

    def read(self, after_seq: int = 0) -> Iterator[StoredEntry]:
        """Yield the entries after ``after_seq``."""
        return self._journal.read(after_seq)

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        """Append, then tell."""
        records = self._journal.append(rows, at)
        self._on_append()
        return records

    def mark_performed(self, seq: int) -> None:
        """As the journal does."""
        self._journal.mark_performed(seq)


class SimulatedOrchestrator:
    """One orchestrator process after another, on one journal.

    Attributes:
        journal: Survives every process.
        engine: Of the process that runs; None while none does.
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
        self.engine: Engine | None = None
        self.crash = 0.0
        self._clock = clock
        self._network = network
        self._tree = tree
        self._key = key
        self._materials = materials
        self._tick_seconds = tick_seconds
        self._rng = rng
        self._witness = witness
        self._trace = trace
        self._is_started = False
        self._life = 0
        self._health_prefix = tree.build(Kind.HEALTH, device="x").rsplit("/", 2)[0]
        self.client = Client(clock, network, self._login(), self, rng)
        witness.online = self._online

    def boot(self) -> None:
        """Start a process; it does nothing before its first connection."""
        if self.engine is not None:
            return
        self._life += 1
        life = self._life
        context = Context(Monitor(), self._materials.releases, self._materials.policies, "http://registry.example")
        journal = WatchedJournal(self.journal, self._on_append)
        self.engine = Engine(
            journal,
            context,
            lambda payload: seal(GRANT_TYPE, payload, self._key),
            self._tree,
            summary_seconds=math.inf,  # nobody reads them here
        )
        self._is_started = False
        self.client = Client(self._clock, self._network, self._login(), self, self._rng)
        self.client.start()
        self._clock.after(self._tick_seconds, lambda: self._tick(life))

    def kill(self, down_seconds: float | None = None) -> None:
        """Kill the process; None draws how long it stays away."""
        if self.engine is None:
            return
        self._trace.add("orchestrator", "is killed")
        self.engine = None
        self.client.stop()
        self._clock.after(self._rng.uniform(*_DOWN_SECONDS) if down_seconds is None else down_seconds, self.boot)

    def cut(self) -> None:
        """Lose the connection to the broker."""
        self.client.cut()

    def on_connected(self) -> None:
        """Take over, or say everything again."""
        engine, now = self.engine, self._clock.now
        if engine is None:
            return
        self._run(lambda: engine.reconnected(now) if self._is_started else engine.start(now))
        self._is_started = self.engine is not None

    def on_disconnected(self) -> None:
        """The engine is not told: what it hears next says enough."""

    def on_message(self, packet: Publish) -> None:
        """Let the engine have it."""
        engine, topic = self.engine, packet.topic
        if engine is None or not self._is_started:
            return
        if topic.startswith(self._health_prefix):
            self._witness.sampled_at[topic.rsplit("/", 1)[1]] = self._clock.now
        properties = packet.properties
        received = Received(
            topic, packet.payload, packet.retain, properties.response_topic, properties.correlation_data
        )
        self._run(lambda: engine.receive(received, self._clock.now))

    def _tick(self, life: int) -> None:
        engine = self.engine
        if engine is None or life != self._life:
            return
        self._clock.after(self._tick_seconds, lambda: self._tick(life))
        if self._is_started and self.client.is_connected:
            self._run(lambda: engine.handle(Tick(), self._clock.now))
        if self.engine is engine and self.client.is_idle:
            engine.performed()

    def _run(self, turn: Callable[[], list[Outgoing]]) -> None:
        try:
            outgoing = turn()
        except CrashError:
            self.kill()
            return
        for each in outgoing:
            properties = Properties(correlation_data=each.correlation) if each.correlation else NO_PROPERTIES
            self.client.publish(each.topic, each.payload, qos=each.qos, retain=each.retain, properties=properties)

    def _on_append(self) -> None:
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
