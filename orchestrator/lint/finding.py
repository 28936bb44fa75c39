"""What lint says: one sentence with its numbers, where it is, and what to change."""

from collections.abc import Collection
from math import ceil
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.times import format_duration

Severity = Literal["error", "warning", "note"]

_NAMED_MAX: Final = 5
_NAME_LENGTH_MAX: Final = 48
_LONGEST_MINUTES: Final = 7 * 24 * 60


class Finding(BaseModel):
    """One thing that a policy cannot do, does by accident, or does at a price.

    Attributes:
        id: Of the rule, for example ``L003``; the same in every version.
        severity: An error can never proceed or never stop; a warning will surprise; a note is good to know.
        where: Path in the policy, for example ``health_gates.completion_gate.checks[0]``.
        message: What is so, with the numbers of this fleet.
        remedy: What to change.
        silenced: The reason the policy gives for accepting it; None if it does not. An error is never silenced.
        line: Where the file says it, from 1, or the nearest that the file says; None without a file, and where it
            leaves the whole block to the default.
        column: Likewise, from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    severity: Severity
    where: str
    message: str
    remedy: str
    silenced: str | None = None
    line: int | None = None
    column: int | None = None

    @property
    def blocks(self) -> bool:
        """Whether a rollout must not start."""
        return self.severity == "error"


def error(rule: str, where: str, message: str, remedy: str) -> Finding:
    """Say what can never proceed or never stop."""
    return Finding(id=rule, severity="error", where=where, message=message, remedy=remedy)


def warning(rule: str, where: str, message: str, remedy: str) -> Finding:
    """Say what will surprise."""
    return Finding(id=rule, severity="warning", where=where, message=message, remedy=remedy)


def note(rule: str, where: str, message: str, remedy: str) -> Finding:
    """Say what is good to know."""
    return Finding(id=rule, severity="note", where=where, message=message, remedy=remedy)


def name_some(names: Collection[str]) -> str:
    """Name devices, types or regions: the first five, what cannot be printed replaced, and how many more."""
    shown = [_printable(name) for name in sorted(names)[:_NAMED_MAX]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def percent(share: float) -> str:
    """Write a probability or a rate (0..1) in whole percent, small ones with the digits that matter."""
    rounded = share * 100
    if rounded >= 99.5:  # noqa: PLR2004 - it would be rounded to certainty
        return "more than 99%" if share < 1 else "100%"
    return f"{rounded:.0f}%" if rounded >= 10 else f"{rounded:.2g}%"  # noqa: PLR2004 - two digits are enough


def counted(count: int, noun: str) -> str:
    """Write ``1 device``, ``1,000 devices``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def long_enough(count: int, per_minute: float) -> str:
    """Name the window and soak in which ``count`` come at so many a minute; empty if a week is not enough."""
    if per_minute * _LONGEST_MINUTES < count:
        return ""
    return f"a window and a soak of {format_duration(60 * ceil(count / per_minute))}"


def _printable(name: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in name[:_NAME_LENGTH_MAX])
