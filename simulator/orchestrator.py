"""The simulated orchestrator processes: the real engine and the real journal, a client, and somebody who kills them.

A crash loses the process with everything that it has not published; the journal stays. It happens between two
messages, or right after an entry was written and before anything was done about it. A process may also hang: then
another takes over, and the one that wakes up later must find out that it is no longer needed.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from embedded_broker.packets import Publish, Subscription, Will
from orchestrator.adapters.journal import Journal
from orchestrator.core.context import Context
from orchestrator.core.releases import StoredRelease
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.dsse import GRANT_TYPE, seal
from schemas.ids import SHARDS
from schemas.policy import Policy
from schemas.topics import RULES, Kind, TopicTree
from simulator.client import Client, Login
from simulator.clock import Clock
from simulator.network import Network
from simulator.process import CrashError, Process, WatchedJournal
from simulator.trace import Trace
from simulator.witness import Witness

SUBSCRIPTIONS: Final = (
    Kind.INFO, Kind.AVAILABILITY, Kind.REPORTED, Kind.HOLD, Kind.HEALTH, Kind.READY, Kind.COMMAND,
)  # fmt: skip
"""What the real process subscribes to, in its order."""
_DOWN_SECONDS: Final = (2.0, 90.0)
_HANG_SECONDS: Final = (20.0, 900.0)
_KEPT_EACH: Final = 17
"""A snapshot is kept where the journal's length is a multiple of this: often, and in the middle of everything."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What the operator has put on the shelf."""

    releases: Mapping[str, StoredRelease]
    policies: Mapping[str, Policy]


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
        self.snapshot: tuple[int, bytes] | None = None
        """The last state that was kept, with its place in the journal: what a new process begins with."""
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
        if self.snapshot is not None:
            seq, kept = self.snapshot
            engine.resume(thaw(kept), seq)
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

    def plain_sample(self, packet: Publish) -> tuple[str, int, bytes] | None:
        """Return device, shard and payload of a message that is a plain sample; a sample is evidence."""
        prefix, shard, device = packet.topic.rsplit("/", 2) if packet.topic.count("/") > 1 else ("", "", "")
        if prefix != self._health_prefix:
            return None
        self._witness.sampled_at[device] = self.clock.now
        return (device, SHARDS[shard], packet.payload) if shard in SHARDS and not packet.retain else None

    def _on_append(self, epoch: int) -> None:
        if epoch != self._newest_epoch[0]:
            self._witness.accuse("INV-13 one writer", "orchestrator", f"epoch {epoch} after {self._newest_epoch[0]}")
        for entry in self._witness.journaled(self.journal.read(self._witness.ledger.last_seq)):
            detail = entry.body.get("device") or entry.body.get("wave", "")
            self._trace.add("orchestrator", f"{entry.kind} {detail} {entry.body.get('decision', '')}".rstrip())
        engine = self.engine
        if engine is not None and engine.seq and self._witness.ledger.last_seq % _KEPT_EACH == 0:
            self.snapshot = engine.seq, freeze(engine.state)  # What was appended just now is not in it yet.
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
