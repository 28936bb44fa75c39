"""The evaluators as the orchestrator deals with them: takes what they hand on, and lets them shards."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inputs import BundleReceived
from orchestrator.core.interpret import Refused
from orchestrator.core.leases import ALL_SHARDS, Lease, Leases, Readers
from orchestrator.intake import Intake
from orchestrator.outgoing import Outgoing
from orchestrator.telemetry.bundle import decode_bundle
from schemas.codec import encode
from schemas.documents import ShardLease
from schemas.errors import DecodeError
from schemas.topics import Kind, TopicTree

_NOBODY: NDArray[np.int32] = np.zeros(0, dtype=np.int32)


class Evaluators:
    """All of them; mutable.

    Args:
        intake: What their samples go through.
        tree: Where leases are published.
        refuse: Told of messages that are refused, here or by an evaluator.

    Attributes:
        reads: The shards that whoever runs the orchestrator reads itself; it should be those of ``own``.
    """

    def __init__(self, intake: Intake, tree: TopicTree, refuse: Callable[[Refused, int], None]) -> None:
        self.reads = ALL_SHARDS
        self._leases = Leases()
        self._intake = intake
        self._tree = tree
        self._refuse = refuse

    def take(self, given: BundleReceived, now: float) -> NDArray[np.int32]:
        """Take what an evaluator hands on; return the inventory's rows of the devices whose samples were taken."""
        topic = self._tree.build(Kind.EVALUATOR_SAMPLES, worker=given.worker)
        try:
            bundle = decode_bundle(given.payload)
            table = bundle.table()
        except DecodeError as error:
            self._refuse(Refused(topic, "undecodable", str(error)[:200]), 1)
            return _NOBODY
        for note in bundle.notes:
            self._refuse(Refused(note.topic, note.reason, note.detail), note.count)
        shards = self._leases.hear(given.worker, frozenset(bundle.wanted), bundle.term, now)
        if len(table) and not shards:
            self._refuse(Refused(topic, "stale_lease", f"term {bundle.term!r}"), len(table))
            return _NOBODY
        return self._intake.take_read(bundle.devices, table, bundle.bad, shards, now)

    def lose(self, worker: str) -> None:
        """Note that an evaluator left, or that the broker lost it."""
        self._leases.lose(worker)

    def let(self, epoch: int, now: float) -> list[Outgoing]:
        """Return the leases that are new or have ended."""
        return [self._message(each) for each in self._leases.decide(epoch, now)]

    def own(self) -> frozenset[int]:
        """Return the shards that no evaluator reads."""
        return self._leases.own()

    def unread(self, now: float) -> frozenset[int]:
        """Return the shards that nobody reads."""
        return self._leases.unwatched(self.reads, now)

    def readers(self, now: float) -> Readers:
        """Return who reads what, for whoever looks."""
        return self._leases.readers(self.reads, now)

    def _message(self, lease: Lease) -> Outgoing:
        payload = encode(ShardLease(term=lease.term, shards=tuple(sorted(lease.shards)))) if lease.term else b""
        return Outgoing(self._tree.build(Kind.EVALUATOR_LEASE, worker=lease.worker), payload, retain=True)
