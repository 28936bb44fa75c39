"""Verdicts, ordered from best to worst, so that a gate is one ``max`` over its checks."""

from collections.abc import Iterable
from enum import IntEnum


class Verdict(IntEnum):
    """What the evidence says. On the wire it is the lower-case word."""

    PASS = 0
    CAUTION = 1
    """Degrading but within limits: extend the soak, do not proceed."""
    INCONCLUSIVE = 2
    """Too little evidence. No data is never good news."""
    FAIL = 3

    @property
    def word(self) -> str:
        """The verdict as it stands on the wire."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> "Verdict":
        """Read the wire's word; raises ``KeyError`` for any other."""
        return cls[word.upper()]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Fold to the worst verdict; of nothing it is INCONCLUSIVE, because nothing was shown."""
    return max(verdicts, default=Verdict.INCONCLUSIVE)
