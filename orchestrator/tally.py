"""What has gone through the engine since it started, counted for whoever watches it; it decides nothing."""

from collections import Counter
from typing import Final

from orchestrator.core.inputs import (
    Announced,
    BundleReceived,
    CommandReceived,
    CommandRefused,
    DeviceReady,
    DeviceReported,
    EvaluatorLost,
    HoldSeen,
    Input,
    PresenceSeen,
)
from schemas.commands import VERBS
from schemas.topics import Kind

OTHER: Final = "other"
"""Stands for whatever has no place of its own, so that no sender can make up new ones."""
_KINDS: Final[dict[type[Input], Kind]] = {
    Announced: Kind.INFO,
    BundleReceived: Kind.EVALUATOR_SAMPLES,
    CommandReceived: Kind.COMMAND,
    CommandRefused: Kind.COMMAND,
    DeviceReady: Kind.READY,
    DeviceReported: Kind.REPORTED,
    EvaluatorLost: Kind.EVALUATOR_AVAILABILITY,
    HoldSeen: Kind.HOLD,
    PresenceSeen: Kind.AVAILABILITY,
}


class Tally:
    """Counts; mutable.

    Attributes:
        received: Messages by kind, those that were refused among them; what says nothing new is ``other``.
        refused: Messages that say nothing, by kind and reason.
        answered: Commands by verb and status.
        ticked_at: When decisions by time were taken last; None before the first.
        tick_gap_seconds: How long after the ones before.
    """

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.ticked_at: float | None = None
        self.tick_gap_seconds = 0.0

    @property
    def refused_by_reason(self) -> Counter[str]:
        """Return how many messages were refused for each reason."""
        counts: Counter[str] = Counter()
        for (_, reason), count in self.refused.items():
            counts[reason] += count
        return counts

    def note_received(self, given: Input | None) -> None:
        """Count one message that is no sample; those are counted where they are taken, many at a time."""
        kind = OTHER if given is None else _KINDS.get(type(given))
        if kind is not None:
            self.received[kind] += 1

    def note_answered(self, verb: str, status: str) -> None:
        """Count one command and what came of it."""
        self.answered[verb if verb in VERBS else OTHER, status] += 1

    def note_tick(self, now: float) -> None:
        """Note that decisions by time are being taken."""
        self.tick_gap_seconds = 0.0 if self.ticked_at is None else now - self.ticked_at
        self.ticked_at = now
