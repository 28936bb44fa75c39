"""An evaluator: it reads the health of some shards, refuses what is none, and hands the rest on in columns.

What costs with every message is done here, on as many machines as are needed: taking packets apart, floods, decoding,
checking. What is judged is judged in one place, over everything that all evaluators hand on, because a verdict is about
a group or a wave, and those lie across all shards.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.interpret import Refused
from orchestrator.intake import Intake, Located
from orchestrator.outgoing import Outgoing
from orchestrator.telemetry.bundle import (
    BUNDLE_MAX_BYTES,
    NOTES_MAX,
    SAMPLES_MAX,
    Bundle,
    Note,
    encode_bundle,
)
from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.roster import UNKNOWN, Roster
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sample_table import SampleTable
from schemas.topics import RULES, Kind, TopicTree

DEVICES_MAX: Final = 4_000_000
"""Devices that are told apart, so that names that somebody invents cannot fill the memory; further ones are refused."""

_NOWHERE: Final = Located(Place(""), 0)


class Evaluator:
    """What comes in and what goes out; mutable, without clock and connection.

    Args:
        worker: Its name on the bus.
        tree: Where things are published.
        wanted: The shards that it would read.

    Attributes:
        term: The lease under which it reads; empty until it has one.
    """

    def __init__(self, worker: str, tree: TopicTree, wanted: frozenset[int]) -> None:
        self.term = ""
        self._wanted = tuple(sorted(wanted))
        self._topic = tree.build(Kind.EVALUATOR_SAMPLES, worker=worker)
        self._held = Held()
        self._notes: Counter[tuple[str, str, str]] = Counter()
        self._intake = Intake(self._held, tree, self._locate, self._refuse)

    @property
    def count(self) -> int:
        """How many samples are held."""
        return self._held.count

    def hear(
        self, devices: Sequence[str], shards: NDArray[np.uint8], payloads: Sequence[bytes], now: float
    ) -> list[Outgoing]:
        """Take what devices sent, with the shard in each topic; return bundles once there is enough for a full one."""
        self._intake.take(devices, shards, payloads, now)
        return self.hand_on() if self._held.count >= SAMPLES_MAX else []

    def hear_odd(self, topics: Sequence[str]) -> None:
        """Count messages whose topics are none of a device's."""
        for topic in topics:
            self._refuse(Refused(topic, "foreign_topic"), 1)

    def hand_on(self) -> list[Outgoing]:
        """Return everything that is held as bundles, at least an empty one: it shows that we are alive."""
        devices, table, bad = self._held.take_out()
        notes = [
            Note(topic[:256], reason, detail[:256], count)
            for (topic, reason, detail), count in self._notes.most_common(NOTES_MAX)
        ]
        self._notes.clear()
        starts = range(0, max(len(devices), 1), SAMPLES_MAX)
        made: list[bytes] = []
        for start in starts:
            which = np.arange(start, min(start + SAMPLES_MAX, len(devices)))
            first = start == 0
            made += self._encoded(
                devices[start : start + SAMPLES_MAX], table.take(which), bad if first else [], notes if first else []
            )
        return [Outgoing(self._topic, each, qos=RULES[Kind.EVALUATOR_SAMPLES].qos) for each in made]

    def _encoded(
        self, devices: list[str], table: SampleTable, bad: Sequence[tuple[str, int]], notes: Sequence[Note]
    ) -> list[bytes]:
        encoded = encode_bundle(Bundle.of(self.term, self._wanted, devices, table, bad=bad, notes=notes))
        if len(encoded) <= BUNDLE_MAX_BYTES or len(devices) < 2:  # noqa: PLR2004 - nothing to part
            return [encoded]
        half = len(devices) // 2
        return [
            *self._encoded(devices[:half], table.take(np.arange(half)), bad, notes),
            *self._encoded(devices[half:], table.take(np.arange(half, len(devices))), (), ()),
        ]

    def _locate(self, _device: str) -> Located | None:
        return _NOWHERE if len(self._held.roster) < DEVICES_MAX else None  # The orchestrator knows who is who.

    def _refuse(self, refused: Refused, count: int) -> None:
        known = (refused.topic, refused.reason, refused.detail)
        if known not in self._notes and len(self._notes) >= NOTES_MAX // 2:  # The rest is for each reason's others.
            known = ("", refused.reason, "in further topics")
        self._notes[known] += count


class Held:
    """Samples that were let in and are not handed on yet; a ``Collector``."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.count = 0
        self._rows: list[Rows] = []
        self._tables: list[SampleTable] = []
        self._bad: Counter[int] = Counter()

    @property
    def nbytes(self) -> int:
        """What is known of devices takes so much memory."""
        return self.roster.nbytes

    def reserve(self, count: int) -> None:
        """Make room for ``count`` devices."""
        self.roster.reserve(count)

    def find(self, devices: Sequence[str]) -> Rows:
        """Return each device's row; ``UNKNOWN`` where it was never admitted."""
        return self.roster.find(devices)

    def names(self, rows: Rows) -> list[str]:
        """Return the devices of rows."""
        return self.roster.names(rows)

    def admit(self, devices: Sequence[str], places: Sequence[Place], homes: Sequence[int]) -> Rows:  # noqa: ARG002 - where they belong is not known here
        """Return the rows of devices, new ones where they are new."""
        return self.roster.add(devices)

    def observe(self, rows: Rows, samples: Sequence[Sample] | SampleTable, received_at: float) -> None:  # noqa: ARG002 - it is soon handed on
        """Hold samples."""
        self._rows.append(rows)
        self._tables.append(samples if isinstance(samples, SampleTable) else SampleTable.of(samples))
        self.count += len(rows)

    def refuse(self, rows: Rows) -> None:
        """Count messages that are no samples."""
        self._bad.update(rows[rows != UNKNOWN].tolist())

    def take_out(self) -> tuple[list[str], SampleTable, list[tuple[str, int]]]:
        """Return what is held, with the devices, and how many bad messages others sent; nothing is held then."""
        rows, tables, bad = self._rows, self._tables, self._bad.most_common(SAMPLES_MAX)
        self._rows, self._tables, self._bad, self.count = [], [], Counter(), 0
        devices = self.names(np.concatenate(rows)) if rows else []
        table = SampleTable.joined(tables) if tables else SampleTable.of([])
        return devices, table, [(self.roster.name(row), count) for row, count in bad]
