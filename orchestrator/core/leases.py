"""Which evaluator reads which shards of the fleet's health, and which shards nobody reads.

The orchestrator lets each shard to one evaluator that wants it, and reads itself what is let to none. A lease ends when
its holder is not heard any more; whatever that one still sends under it is refused. Nothing of this is journaled:
evaluators are heard again within a second of any start.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.ids import SHARD_COUNT

ALL_SHARDS: Final = frozenset(range(SHARD_COUNT))
HEARTBEAT_SECONDS: Final = 1.0
"""An evaluator says something at least so often."""
STALE_SECONDS: Final = 2.5
"""When an evaluator was not heard for so long, its shards are not watched, and no gate passes."""
LOST_SECONDS: Final = 5.0
"""When it was not heard for so long, others read them."""
EVALUATORS_MAX: Final = 64

_Shards = frozenset[int]


class Lease(NamedTuple):
    """What an evaluator reads from now on; with an empty term it is gone."""

    worker: str
    term: str
    shards: _Shards


class Reader(NamedTuple):
    """An evaluator as it was heard last: what it would read, and what it says that it reads."""

    worker: str
    wanted: _Shards
    reads: _Shards
    heard_at: float


class Readers(NamedTuple):
    """Who reads the fleet's health.

    Attributes:
        own: What the orchestrator reads itself.
        unread: What nobody reads.
    """

    evaluators: tuple[Reader, ...] = ()
    own: _Shards = ALL_SHARDS
    unread: _Shards = frozenset()


@dataclass(slots=True)
class _Worker:
    wanted: _Shards = frozenset()
    heard_at: float = 0.0
    term: str = ""
    shards: _Shards = frozenset()
    reads_under: str = ""
    """The newest term under which it has said that it reads."""
    reads: _Shards = frozenset()


class Leases:
    """All evaluators; mutable. Times are in seconds."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._count = 0
        self._gone: list[str] = []

    def hear(self, worker: str, wanted: _Shards, term: str, now: float) -> _Shards:
        """Note that an evaluator spoke under ``term``; return the shards for which it may speak.

        An empty term says that it reads nothing at present.
        """
        if worker not in self._workers and len(self._workers) >= EVALUATORS_MAX:
            return frozenset()
        known = self._workers.setdefault(worker, _Worker())
        known.wanted, known.heard_at = wanted, now
        if term == known.term or not term:
            known.reads_under, known.reads = term, known.shards if term else frozenset()
        return known.reads if term == known.reads_under else frozenset()

    def lose(self, worker: str) -> None:
        """Note that the broker has lost an evaluator, or that it left."""
        if self._workers.pop(worker, None) is not None:
            self._gone.append(worker)

    def decide(self, epoch: int, now: float) -> list[Lease]:
        """Let shards anew where evaluators have come, gone or changed their mind; return what has changed."""
        for name in [name for name, worker in self._workers.items() if now - worker.heard_at > LOST_SECONDS]:
            self.lose(name)
        ended = [Lease(name, "", frozenset()) for name in self._gone if name not in self._workers]
        self._gone = []
        wanted = {name: worker.wanted for name, worker in self._workers.items()}
        let = assign(wanted, {name: worker.shards for name, worker in self._workers.items()})
        return ended + [
            self._let(name, let[name], epoch)
            for name, worker in self._workers.items()
            if let[name] != worker.shards or not worker.term
        ]

    def _let(self, name: str, shards: _Shards, epoch: int) -> Lease:
        worker = self._workers[name]
        self._count += 1
        worker.term, worker.shards = f"{epoch}-{self._count}", shards
        worker.reads &= shards  # What it still reads under the term before counts until it has changed over.
        return Lease(name, worker.term, shards)

    def own(self) -> _Shards:
        """Return the shards that the orchestrator has to read itself, until an evaluator says that it does."""
        return ALL_SHARDS.difference(*(worker.reads for worker in self._workers.values()))

    def unwatched(self, own: _Shards, now: float) -> _Shards:
        """Return the shards that nobody reads, while the orchestrator reads ``own``."""
        alive = (worker.reads for worker in self._workers.values() if now - worker.heard_at <= STALE_SECONDS)
        return ALL_SHARDS.difference(own, *alive)

    def readers(self, own: _Shards, now: float) -> Readers:
        """Return who reads what, while the orchestrator reads ``own``."""
        known = sorted(self._workers.items())
        evaluators = tuple(Reader(name, each.wanted, each.reads, each.heard_at) for name, each in known)
        return Readers(evaluators, own, self.unwatched(own, now))


def assign(wanted: Mapping[str, _Shards], held: Mapping[str, _Shards]) -> dict[str, _Shards]:
    """Give each wanted shard to one evaluator: evenly, and to the one that holds it where that is even.

    Args:
        wanted: What each evaluator would read.
        held: What each reads now.
    """
    takers = {
        shard: sorted(name for name in wanted if shard in wanted[name])
        for shard in sorted(frozenset[int]().union(*wanted.values()))
    }
    holder = {shard: name for name in wanted for shard in held[name] & wanted[name]}
    loads = Counter(holder.values())
    is_even = False
    while not is_even:
        is_even = True
        for shard, names in takers.items():
            least = min(names, key=lambda name: (loads[name], name))
            now = holder.get(shard)
            if now is None or loads[now] > loads[least] + 1:
                loads[least] += 1
                if now is not None:
                    loads[now] -= 1
                holder[shard], is_even = least, False
    return {name: frozenset(shard for shard, its in holder.items() if its == name) for name in wanted}
