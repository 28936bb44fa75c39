"""From what devices send of their health to what is known of it: many messages at a time, and nothing lost unseen.

Refused are, in this order and each counted: messages in another device's shard, those of devices that nobody knows,
what is more than a device may send (before it is decoded, so that a flood costs the others nothing), and what is no
sample. Floods and what is no sample count as bad samples of their device: three, and nothing is concluded from it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import compress
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.interpret import Refused
from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.limiter import SAMPLES_PER_SECOND, Limiter
from orchestrator.telemetry.offences import Offences
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.roster import UNKNOWN
from orchestrator.telemetry.sample import Sample, decode_samples
from orchestrator.telemetry.sample_table import SampleTable
from schemas.errors import DecodeError
from schemas.ids import SHARD_COUNT, shard_of
from schemas.topics import Kind, TopicTree

FLOOD: Final = "flood"
BAD_COUNT_MAX: Final = 15
"""Bad messages of a device that count at a time: more than a window tells apart."""
_GROWTH: Final = 1.25

_Mask = NDArray[np.bool_]


class Located(NamedTuple):
    """Where a device belongs, and its row in the inventory."""

    place: Place
    row: int


class Collector(Protocol):
    """What samples are given to: the monitor that folds them, or what hands them on; see ``Monitor``."""

    @property
    def nbytes(self) -> int: ...  # noqa: D102 - see the class
    def reserve(self, count: int) -> None: ...  # noqa: D102 - see the class
    def find(self, devices: Sequence[str]) -> Rows: ...  # noqa: D102 - see the class
    def names(self, rows: Rows) -> list[str]: ...  # noqa: D102 - see the class
    def admit(self, devices: Sequence[str], places: Sequence[Place], homes: Sequence[int]) -> Rows: ...  # noqa: D102 - see the class
    def observe(self, rows: Rows, samples: Sequence[Sample] | SampleTable, received_at: float) -> None: ...  # noqa: D102 - see the class
    def refuse(self, rows: Rows) -> None: ...  # noqa: D102 - see the class


class Intake:
    """Takes samples in; mutable.

    Args:
        monitor: What they are given to.
        tree: Names the topics of what is refused.
        locate: Finds a device; None for one that nobody knows. Asked again only after ``displace``.
        refuse: Told of each message that is refused; of many that a device sends too much, once.
    """

    def __init__(
        self,
        monitor: Collector,
        tree: TopicTree,
        locate: Callable[[str], Located | None],
        refuse: Callable[[Refused, int], None],
    ) -> None:
        self._monitor = monitor
        self._tree = tree
        self._locate = locate
        self._refuse = refuse
        self._limiter = Limiter()
        self._offences = Offences()
        # The last entry is nobody's: that of rows that are not known.
        self._is_placed: _Mask = np.zeros(1, dtype=np.bool_)
        self._shards: NDArray[np.uint8] = np.zeros(1, dtype=np.uint8)
        self._homes: NDArray[np.int32] = np.zeros(1, dtype=np.int32)

    @property
    def nbytes(self) -> int:
        """What is kept of devices takes so much memory, with what the monitor knows of them."""
        own = self._is_placed.nbytes + self._shards.nbytes + self._homes.nbytes
        return self._monitor.nbytes + self._limiter.nbytes + own

    def expect(self, count: int) -> None:
        """Make room for a fleet of ``count`` devices."""
        self._monitor.reserve(count)
        self._limiter.reserve(count)
        self._reserve(count)

    def displace(self, devices: Collection[str] | None) -> None:
        """Forget where devices belong, because that may have changed; None: all."""
        if devices is None:
            self._is_placed[:] = False
        elif devices:
            self._is_placed[self._monitor.find(list(devices))] = False

    def take(
        self, devices: Sequence[str], shards: NDArray[np.uint8], payloads: Sequence[bytes], now: float
    ) -> NDArray[np.int32]:
        """Take messages in the order in which they came; return the inventory's rows of those that sent a sample.

        Args:
            devices: As they stand in the topics; nobody has checked them.
            shards: In whose topics they stand, one for each message.
            payloads: Undecoded.
            now: Seconds; never less than before.
        """
        rows = self._rows(devices)
        is_let_in = self._check(rows, devices, shards, now)
        if not is_let_in.all():
            rows, payloads = rows[is_let_in], list(compress(payloads, is_let_in.tolist()))
        found = decode_samples(payloads)
        samples = [each for each in found if type(each) is Sample]
        if len(samples) < len(found):
            rows = self._note_poison(rows, found, now)
        if samples:
            self._monitor.observe(rows, samples, now)
        return self._homes[rows]

    def take_read(
        self,
        devices: Sequence[str],
        table: SampleTable,
        bad: Sequence[tuple[str, int]],
        shards: Collection[int],
        now: float,
    ) -> NDArray[np.int32]:
        """Take samples that an evaluator has checked; return the inventory's rows of those that are taken.

        Args:
            devices: Who sent them.
            table: The samples, in their order.
            bad: How many messages of devices were floods, or no samples.
            shards: Those that the evaluator may speak for.
            now: Seconds; never less than before.
        """
        allowed = np.isin(np.arange(SHARD_COUNT), list(shards))
        rows = self._rows(devices)
        is_right: _Mask = (rows != UNKNOWN) & allowed[self._shards[rows]]
        if not is_right.all():
            for index in np.flatnonzero(~is_right).tolist():
                device, is_known = devices[index], rows[index] != UNKNOWN
                topic = f"{self._tree.root}/health/{shard_of(device)}/{device}"  # Nobody has checked the name.
                self._refuse(Refused(topic, "foreign_shard" if is_known else "unknown_device"), 1)
            which = np.flatnonzero(is_right)
            rows, table = rows[which], table.take(which)
        if len(rows):
            self._monitor.observe(rows, table, now)
        if bad:
            culprits = self._rows([device for device, _ in bad])
            counts = np.array([min(count, BAD_COUNT_MAX) for _, count in bad])
            is_known = (culprits != UNKNOWN) & allowed[self._shards[culprits]]
            self._note_offences(np.repeat(culprits[is_known], counts[is_known]), now)
        return self._homes[rows]

    def note_floods(self, counts: Mapping[str, int], now: float) -> None:
        """Note that devices have said too much beside their health; their samples are not doubted for that."""
        rows = self._rows(list(counts))
        repeats = np.minimum(list(counts.values()), BAD_COUNT_MAX)
        is_known = rows != UNKNOWN
        self._offences.note(np.repeat(rows[is_known], repeats[is_known]), now)

    def troublemakers(self, now: float) -> list[str]:
        """Name devices that have sent floods or what is no sample for long enough to be kept out; each once."""
        return self._monitor.names(self._offences.over(now))

    def _rows(self, devices: Sequence[str]) -> Rows:
        """Return rows of devices, all of them placed; ``UNKNOWN`` for those that nobody knows."""
        rows = self._monitor.find(devices)
        lost = np.flatnonzero(~self._is_placed[rows])
        if not len(lost):
            return rows
        found = {name: self._locate(name) for name in dict.fromkeys(devices[index] for index in lost.tolist())}
        known = {name: located for name, located in found.items() if located is not None}
        homes = [each.row for each in known.values()]
        placed = self._monitor.admit(list(known), [each.place for each in known.values()], homes)
        self._reserve(int(placed.max(initial=UNKNOWN)) + 1)
        self._is_placed[placed] = True
        self._homes[placed] = homes
        self._shards[placed] = [int(shard_of(name)) for name in known]
        row_of = dict(zip(known, placed.tolist(), strict=True))
        rows[lost] = [row_of.get(devices[index], UNKNOWN) for index in lost.tolist()]
        return rows

    def _check(self, rows: Rows, devices: Sequence[str], shards: NDArray[np.uint8], now: float) -> _Mask:
        """Say which messages are decoded, and tell of the others."""
        is_right: _Mask = (rows != UNKNOWN) & (self._shards[rows] == shards)
        for index in np.flatnonzero(~is_right).tolist():
            is_foreign = int(shard_of(devices[index])) != shards[index]
            topic = f"{self._tree.root}/health/{shards[index]:02d}/{devices[index]}"
            self._refuse(Refused(topic, "foreign_shard" if is_foreign else "unknown_device"), 1)
        is_admitted = self._limiter.admit(rows[is_right], now)
        if not is_admitted.all():
            right = np.flatnonzero(is_right)
            floods = rows[right[~is_admitted]]
            is_right[right] = is_admitted
            self._note_offences(floods, now)
            many, counts = np.unique(floods, return_counts=True)
            for device, count in zip(self._monitor.names(many), counts.tolist(), strict=True):
                self._refuse(
                    Refused(self._topic(device), FLOOD, f"more than {SAMPLES_PER_SECOND:g} in a second"), count
                )
        return is_right

    def _note_poison(self, rows: Rows, found: Sequence[Sample | DecodeError], now: float) -> Rows:
        """Tell of what is no sample; return the rows of the samples."""
        is_sample = np.array([type(each) is Sample for each in found])
        poisoned = rows[~is_sample]
        self._note_offences(poisoned, now)
        errors = [each for each in found if type(each) is not Sample]
        for device, error in zip(self._monitor.names(poisoned), errors, strict=True):
            self._refuse(Refused(self._topic(device), "undecodable", str(error)[:200]), 1)
        kept: Rows = rows[is_sample]
        return kept

    def _note_offences(self, rows: Rows, now: float) -> None:
        self._monitor.refuse(rows)
        self._offences.note(rows, now)

    def _topic(self, device: str) -> str:
        return self._tree.build(Kind.HEALTH, device=device)

    def _reserve(self, count: int) -> None:
        """Make room for ``count`` rows, and for nobody's."""
        need, have = count + 1, len(self._homes)
        if need > have:
            more = max(need, int(_GROWTH * have)) - have
            self._is_placed = np.pad(self._is_placed, (0, more))
            self._shards = np.pad(self._shards, (0, more))
            self._homes = np.pad(self._homes, (0, more))
