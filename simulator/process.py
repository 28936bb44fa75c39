"""One simulated orchestrator process: the real engine on the real journal, with a connection that may break."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from embedded_broker.packets import NO_PROPERTIES, Properties, Publish
from orchestrator.adapters.journal import FencedError, Journal, JournalError, StoredEntry
from orchestrator.core.inputs import Tick
from orchestrator.core.interpret import Received
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from schemas.documents import AuditRecord

if TYPE_CHECKING:
    from simulator.orchestrator import SimulatedOrchestrator


_TOGETHER: Final = 7
"""Samples that are heard together at the latest; then the engine looks at what was alarming in them."""


_QUESTION: Final = "/ready"
_LOOKED_AT_EACH: Final = 5
"""Ticks after which it is looked at what people see, if there is news; each time would cost more than the ticks do."""


class CrashError(Exception):
    """The process has just died."""


class WatchedJournal:
    """The real journal in the hands of one process, with a witness beside it; after an append the process may die.

    All processes share one journal in memory, so the newest epoch stands in ``newest_epoch``.

    Args:
        journal: Survives every process.
        newest_epoch: Of all that were opened, as a list of one.
        on_write: Asked before each write; may raise ``JournalError``, as a disk does that is full or broken.
        on_append: Told the epoch after each append, before its effects; may raise ``CrashError``.
    """

    def __init__(
        self,
        journal: Journal,
        newest_epoch: list[int],
        on_write: Callable[[], None],
        on_append: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._on_write = on_write
        self._newest_epoch = newest_epoch
        self._on_append = on_append
        self.epoch = 0

    @property
    def performed_seq(self) -> int:
        """As the journal says."""
        return self._journal.performed_seq

    def open_epoch(self, at: float, above: int = 0) -> int:
        """Take over."""
        self._on_write()
        self.epoch = self._newest_epoch[0] = self._journal.open_epoch(at, above)
        return self.epoch

    def read(self, after_seq: int = 0) -> Iterator[StoredEntry]:
        """Yield the entries after ``after_seq``."""
        return self._journal.read(after_seq)

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        """Append, then tell."""
        self.confirm()
        self._on_write()
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
        self._roots_said: Publish | None = None
        self._ticks = 0
        self._looked_at_seq = 0
        self._retained: dict[str, bytes] = {}
        """What it has said that stays, by topic."""
        self._samples: list[tuple[str, int, bytes]] = []
        """Device, shard and payload of what was not heard yet."""
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
        self._hear()
        engine, now = self.engine, self._world.clock.now
        is_first, self._is_started = not self._is_started, True
        self._roots_said = None
        self._tell_roots()
        world = self._world
        if is_first:
            world.forget_words()
        if is_first and self._run(lambda: engine.start(now, world.restored)):
            world.restored = ""
        elif not is_first:
            self._run(lambda: engine.reconnected(now))

    def _tell_roots(self) -> None:
        """Let devices have roots that they were not told of on this connection."""
        roots = self._world.roots()
        if roots is not None and roots != self._roots_said:
            self._roots_said = roots
            self.client.publish(roots.topic, roots.payload, qos=roots.qos, retain=roots.retain)

    def on_disconnected(self) -> None:
        """The engine is not told: what it hears next says enough."""

    def on_message(self, packet: Publish) -> None:
        """Let the engine have it; samples together with the next ones, but before anything else."""
        if not self._is_started:
            return
        plain = self._world.plain_sample(packet)
        if plain is None:
            self._hear()
            properties = packet.properties
            received = Received(
                packet.topic, packet.payload, packet.retain, properties.response_topic, properties.correlation_data
            )
            self._run(lambda: self._take(received))
            return
        self._samples.append(plain)
        if len(self._samples) >= _TOGETHER:
            self._hear()
            self._run(lambda: self.engine.react(self._world.clock.now))

    def _take(self, received: Received) -> list[Outgoing]:
        """Let the engine have it; a question is answered at once."""
        outgoing = self.engine.receive(received, self._world.clock.now)
        if received.topic.endswith(_QUESTION):
            self._world.note_answer(self, received.topic, outgoing)
        return outgoing

    def _hear(self) -> None:
        """Let the engine have the samples that came, as its reader does it: many at a time."""
        if self._samples:
            devices, shards, payloads = zip(*self._samples, strict=True)
            self._samples.clear()
            self.engine.hear(devices, np.array(shards, dtype=np.uint8), payloads, self._world.clock.now)

    def _tick(self) -> None:
        if not self._is_alive:
            return
        self._world.clock.after(self._world.tick_seconds, self._tick)
        if not self._is_awake:
            return
        self._hear()
        serves = self._is_started and self.client.is_connected
        if serves:
            self._tell_roots()
        survives = not serves or self._run(lambda: self.engine.handle(Tick(), self._world.clock.now))
        if survives and self.client.is_idle:
            self.engine.performed()
        self._ticks += 1
        if survives and serves and self._ticks % _LOOKED_AT_EACH == 0 and self.engine.seq != self._looked_at_seq:
            self._looked_at_seq = self.engine.seq
            self._world.note_view(self, self._retained)

    def _run(self, turn: Callable[[], list[Outgoing]]) -> bool:
        """Take a turn and publish what comes of it; False if it was the last."""
        try:
            outgoing = turn()
        except (CrashError, FencedError, JournalError) as error:
            self._world.ended(self, error)
            return False
        for each in outgoing:
            properties = Properties(correlation_data=each.correlation) if each.correlation else NO_PROPERTIES
            self.client.publish(each.topic, each.payload, qos=each.qos, retain=each.retain, properties=properties)
            if each.retain:
                self._retained[each.topic] = each.payload
        return True
