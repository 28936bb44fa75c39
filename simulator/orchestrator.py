"""The simulated orchestrator processes: the real engine and the real journal, a client, and somebody who kills them.

A crash loses the process with everything that it has not published; the journal stays. It happens between two
messages, or right after an entry was written and before anything was done about it. A process may also hang: then
another takes over, and the one that wakes up later must find out that it is no longer needed.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from embedded_broker.packets import Publish, Subscription, Will
from orchestrator.adapters.journal import FencedError, Journal, JournalError
from orchestrator.core.context import Context
from orchestrator.core.releases import StoredRelease
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from schemas.dsse import GRANT_TYPE, seal
from schemas.ids import SHARDS
from schemas.policy import Policy
from schemas.topics import RULES, Kind, TopicTree
from simulator.authority import Authority, Shelf
from simulator.client import Client, Login
from simulator.clock import Clock
from simulator.network import Network
from simulator.process import CrashError, Process, WatchedJournal
from simulator.telemetry import WatchedMonitor
from simulator.trace import Trace
from simulator.view_invariants import view
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
        journal_failure: The chance of each write into the journal to fail.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        tree: TopicTree,
        authority: Authority,
        *,
        materials: Materials,
        tick_seconds: float,
        rng: random.Random,
        disk_rng: random.Random,
        witness: Witness,
        trace: Trace,
    ) -> None:
        self.journal = Journal(None)
        self.process: Process | None = None
        self.snapshot: tuple[int, bytes] | None = None
        """The last state that was kept, with its place in the journal: what a new process begins with."""
        self.crash = 0.0
        self.journal_failure = 0.0
        self.restored = ""
        """Why the journal is not the one that others saw last; until a process has dealt with it."""
        self.authority = authority
        self.clock = clock
        self.tick_seconds = tick_seconds
        self._network = network
        self._tree = tree
        self._materials = materials
        self._rng = rng
        self._witness = witness
        self._trace = trace
        self._newest_epoch = [0]
        self._processes: list[Process] = []
        self._disk_rng = disk_rng
        self._health_prefix = tree.build(Kind.HEALTH, device="x").rsplit("/", 2)[0]
        witness.online = self._online
        witness.normal_count = self._normal_count

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
        releases = Shelf(self._materials.releases, self.authority)
        context = Context(WatchedMonitor(self._witness), releases, self._materials.policies, "http://registry.example")
        journal = WatchedJournal(self.journal, self._newest_epoch, self._on_write, self._on_append)
        engine = Engine(
            journal,
            context,
            partial(seal, GRANT_TYPE, key=self.authority.command_key),
            self._tree,
            summary_seconds=math.inf,  # nobody reads them here
        )
        if self.snapshot is not None:
            seq, kept = self.snapshot
            engine.resume(thaw(kept), seq)
        self.process = Process(self, engine, journal)
        self._processes.append(self.process)

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

    def double(self) -> None:
        """Start a second process while the first one works; both have the same name on the bus, as in production."""
        if self.process is None:
            return
        self._trace.add("orchestrator", "doubles: another one is started beside it")
        self.process = None
        self.boot()

    def back_up(self) -> Journal:
        """Return a copy of the journal, as an operator makes one while it is written."""
        copy = Journal(None)
        self.journal._database.conn.backup(copy._database.conn)  # noqa: SLF001 - what an operator's tool does
        copy.open_epoch(self.clock.now)  # It reads anew what it holds.
        return copy

    def restore(self, copy: Journal) -> None:
        """End every process and start one on an earlier copy of the journal."""
        for process in self._processes:
            process.end()
        self._processes.clear()
        self.process, self.snapshot, self.journal = None, None, copy
        self.restored = "put back from a backup"
        self._trace.add("orchestrator", "journal is put back from a backup")
        self._witness.put_back(copy.read())
        self.boot()

    def cut(self) -> None:
        """Lose the connection to the broker."""
        if self.process is not None:
            self.process.client.cut()

    # What its processes need.

    def roots(self) -> Publish | None:
        """Return the trust roots that devices follow, as they are published; None if they were given the only one."""
        document = self.authority.document
        return None if document is None else Publish(self._tree.build(Kind.TRUST), document, qos=1, retain=True)

    def make_client(self, process: Process) -> Client:
        """Return the connection of a process: all have the same name."""
        return Client(self.clock, self._network, self._login(), process, self._rng)

    def ended(self, process: Process, error: Exception) -> None:
        """A process has died, or has found out that another took over."""
        if process is self.process and not isinstance(error, FencedError):
            self.kill()
            return
        self._trace.add("orchestrator", f"of epoch {process.epoch} ends: {error}")
        process.end()
        if process is self.process:
            self.process = None
            self.clock.after(self._rng.uniform(*_DOWN_SECONDS), self.boot)

    def plain_sample(self, packet: Publish) -> tuple[str, int, bytes] | None:
        """Return device, shard and payload of a message that is a plain sample: evidence, unless somebody lies."""
        prefix, shard, device = packet.topic.rsplit("/", 2) if packet.topic.count("/") > 1 else ("", "", "")
        if prefix != self._health_prefix:
            return None
        self._witness.heard(device, packet.payload)
        is_plain = shard in SHARDS and bool(packet.payload) and not packet.retain
        return (device, SHARDS[shard], packet.payload) if is_plain else None

    def forget_words(self) -> None:
        """A process has begun that has heard nobody yet."""
        self._witness.words.clear()

    def note_answer(self, process: Process, topic: str, outgoing: Sequence[Outgoing]) -> None:
        """A question has been dealt with; what goes out at once must hold its answer."""
        device = topic.split("/")[-2]
        grant = self._tree.build(Kind.GRANT, device=device)
        known = process.engine.state.devices.get(device)
        if known is None or known.rollout is None or any(each.topic == grant for each in outgoing):
            return
        if not self._witness.is_copied(device):  # Two with one name may say more at once than one device may.
            self._witness.accuse("INV-20 control is not delayed", device, "asked and was not answered at once")

    def note_view(self, process: Process, retained: Mapping[str, bytes]) -> None:
        """A tick is over; what was said so far must be what is so."""
        wrong = view(process.engine.state, process.engine.context, retained, self._tree, self.clock.now)
        if wrong is not None:
            self._witness.accuse("INV-27 view", "orchestrator", wrong)

    def _on_write(self) -> None:
        if self.journal_failure and self._disk_rng.random() < self.journal_failure:
            self._trace.add("orchestrator", "cannot write its journal")
            raise JournalError("simulated: disk I/O error")

    def _on_append(self, epoch: int) -> None:
        if epoch != self._newest_epoch[0]:
            self._witness.accuse("INV-13 one writer", "orchestrator", f"epoch {epoch} after {self._newest_epoch[0]}")
        for entry in self._witness.journaled(self.journal.read(self._witness.ledger.last_seq)):
            detail = entry.body.get("device") or entry.body.get("wave", "")
            self._trace.add("orchestrator", f"{entry.kind} {detail} {entry.body.get('decision', '')}".rstrip())
        engine = self._writer(epoch)
        if engine is not None and engine.seq and self._witness.ledger.last_seq % _KEPT_EACH == 0:
            self.snapshot = engine.seq, freeze(engine.state)  # What was appended just now is not in it yet.
        if self.crash and self._rng.random() < self.crash:
            raise CrashError

    def _writer(self, epoch: int) -> Engine | None:
        """Return the engine that has opened an epoch."""
        return next((each.engine for each in reversed(self._processes) if each.epoch == epoch), None)

    def _online(self) -> frozenset[str]:
        engine = self._writer(self._newest_epoch[0])
        if engine is None:
            return frozenset()
        return frozenset(name for name, device in engine.state.devices.items() if device.is_online)

    def _normal_count(self, group: str, excluding_version: str, since: float) -> int:
        engine = self._writer(self._newest_epoch[0])
        monitor = None if engine is None else engine.context.monitor
        return monitor.normal_count(group, excluding_version, since) if isinstance(monitor, WatchedMonitor) else 0

    def _login(self) -> Login:
        will = Will(self._tree.build(Kind.ORCHESTRATOR_AVAILABILITY), b"offline", 1, retain=True)
        subscriptions = tuple(
            Subscription(self._tree.filter(kind), RULES[kind].qos, retain_as_published=True) for kind in SUBSCRIPTIONS
        )
        return Login("orchestrator", subscriptions, will)
