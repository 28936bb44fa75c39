"""What a check has found, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """From good to bad; ``unknown`` is what could not be looked at, which is no good news."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Its name, one word or two.
        text: What was seen.
        remedy: What to do or type; empty where nothing is wrong.
    """

    check: str
    state: State
    text: str
    remedy: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check, State.OK, text)


def worst(findings: Iterable[Finding]) -> State:
    """Return how bad it is altogether; what could not be looked at is not worse than a warning."""
    order = list(State)
    return max((each.state for each in findings), key=order.index, default=State.UNKNOWN)
