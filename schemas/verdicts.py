"""Verdicts, ordered from best to worst, so that a gate is one ``max`` over its checks."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Literal

VerdictWord = Literal["pass", "caution", "inconclusive", "fail"]


class Verdict(IntEnum):
    """What the evidence says. On the wire it is the lower-case word."""

    PASS = 0
    CAUTION = 1
    """Degrading but within limits: extend the soak, do not proceed."""
    INCONCLUSIVE = 2
    """Too little evidence. No data is never good news."""
    FAIL = 3

    @property
    def word(self) -> VerdictWord:
        """The verdict as it stands on the wire."""
        return _WORDS[self]

    @classmethod
    def from_word(cls, word: str) -> "Verdict":
        """Read the wire's word; raises ``KeyError`` for any other."""
        return cls[word.upper()]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Fold to the worst verdict; of nothing it is INCONCLUSIVE, because nothing was shown."""
    return max(verdicts, default=Verdict.INCONCLUSIVE)


_WORDS: Final[dict[Verdict, VerdictWord]] = {
    Verdict.PASS: "pass",
    Verdict.CAUTION: "caution",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.FAIL: "fail",
}
