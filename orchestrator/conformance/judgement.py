"""What a clause is, and what is found about one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestrator.conformance.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is found about a clause.

    Attributes:
        holds: None if it could not be judged.
        seen: What was seen, or why nothing was.
    """

    holds: bool | None
    seen: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One sentence of the contract that can be seen to hold from outside.

    Attributes:
        id: Its name in tables and in docs/writing-a-device.md.
        text: The sentence.
        section: Where it stands in docs/writing-a-device.md.
        judge: A pure function of a transcript.
    """

    id: str
    text: str
    section: str
    judge: Callable[[Transcript], Judgement]


NOT_REACHED: Final = Judgement(None, "the test did not come that far")


def broken(seen: str) -> Judgement:
    """Return that a clause does not hold."""
    return Judgement(holds=False, seen=seen)


def kept(seen: str) -> Judgement:
    """Return that a clause holds."""
    return Judgement(holds=True, seen=seen)


def unknown(seen: str) -> Judgement:
    """Return that a clause could not be judged."""
    return Judgement(None, seen)
