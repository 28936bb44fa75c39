"""Filters over devices: for a policy's targets, for lists, and for enrolment.

What a device has not said is neither equal nor different, neither less nor more: such a comparison selects nothing, and
neither does its negation. What is printed by ``str(filter)`` reads as the same filter again.
"""

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar

from schemas.versions import version_key


class FieldKind(StrEnum):
    """What a field holds, which says how it can be compared."""

    TEXT = "a text"
    TEXTS = "a list of texts"
    VERSION = "a version"
    FLAG = "true or false"
    NUMBER = "a whole number"


FIELDS: Final[Mapping[str, FieldKind]] = {
    "device": FieldKind.TEXT,
    "type": FieldKind.TEXT,
    "arch": FieldKind.TEXT,
    "region": FieldKind.TEXT,
    "group": FieldKind.TEXT,
    "site": FieldKind.TEXT,
    "version": FieldKind.VERSION,
    "tag": FieldKind.TEXTS,
    "signal": FieldKind.TEXTS,
    "known_issue": FieldKind.TEXTS,
    "maintenance": FieldKind.FLAG,
    "single_point_of_failure": FieldKind.FLAG,
    "quarantined": FieldKind.FLAG,
    "online": FieldKind.FLAG,
    "disk_free_bytes": FieldKind.NUMBER,
}
"""What can be asked of a device. Of a list, ``==`` and ``in`` ask whether it holds the text."""

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EQUALS: Final = ("==", "!=", "in", "not in")
OPERATORS: Final[Mapping[FieldKind, tuple[str, ...]]] = {
    FieldKind.TEXT: _EQUALS,
    FieldKind.TEXTS: _EQUALS,
    FieldKind.VERSION: (*_EQUALS, *_ORDERS),
    FieldKind.FLAG: ("==", "!="),
    FieldKind.NUMBER: (*_EQUALS, *_ORDERS),
}
Value: TypeAlias = str | int | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one or several values of its kind.

    Attributes:
        field: One of ``FIELDS``.
        operator: One of the ``OPERATORS`` of its kind.
        values: One; with ``in`` and ``not in`` one or more.
    """

    field: str
    operator: str
    values: tuple[Value, ...]

    def holds_for(self, values: Iterable[object]) -> list[bool | None]:
        """Say for each value of that field whether it holds; None for None, which is unknown."""
        key: Callable[[Any], Any] = version_key if FIELDS[self.field] is FieldKind.VERSION else _itself
        wanted = [key(each) for each in self.values]
        if self.operator in _ORDERS:
            is_so = _ORDERS[self.operator]
            return [None if value is None else is_so(key(value), wanted[0]) for value in values]
        positive = self.operator in {"==", "in"}
        return [
            None if value is None else any(key(each) in wanted for each in _held(value)) is positive for value in values
        ]

    def __str__(self) -> str:
        written = [json.dumps(value, ensure_ascii=False) for value in self.values]
        if FIELDS[self.field] is FieldKind.FLAG:
            return self.field if self.values[0] is (self.operator == "==") else f"not {self.field}"
        listed = f"({', '.join(written)})" if "in" in self.operator else written[0]
        return f"{self.field} {self.operator} {listed}"


@dataclass(frozen=True, slots=True)
class Not:
    """What does not hold."""

    part: "Filter"

    def __str__(self) -> str:
        return f"not {_within(self.part)}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Two or more parts, of which every one or any one must hold."""

    word: Literal["and", "or"]
    parts: tuple["Filter", ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(_within(part) for part in self.parts)


Filter: TypeAlias = Comparison | Not | Joined


class Truth(Protocol):
    """One bool, or one for each device."""

    def __and__(self, other: Self, /) -> Self: ...
    def __or__(self, other: Self, /) -> Self: ...


T = TypeVar("T", bound=Truth)


def evaluate(condition: Filter, look: Callable[[Comparison], tuple[T, T]]) -> tuple[T, T]:
    """Return where a filter holds and where it does not; where neither, it is unknown.

    Args:
        condition: The filter.
        look: Answers one comparison, in the same two parts.

    Source:
        Kleene's strong logic of three values.
    """
    match condition:
        case Comparison():
            return look(condition)
        case Not(part):
            holds, fails = evaluate(part, look)
            return fails, holds
        case Joined(word, parts):
            holds_each, fails_each = zip(*(evaluate(part, look) for part in parts), strict=True)
            every, some = operator.and_, operator.or_
            if word == "or":
                every, some = some, every
            return reduce(every, holds_each), reduce(some, fails_each)


def matches(condition: Filter, fields: Mapping[str, object]) -> bool:
    """Say whether a device is selected; a field that is missing or None is unknown."""

    def look(comparison: Comparison) -> tuple[bool, bool]:
        (held,) = comparison.holds_for([fields.get(comparison.field)])
        return held is True, held is False

    return evaluate(condition, look)[0]


def _held(value: object) -> tuple[object, ...]:
    """Return the texts of a list, or the one value."""
    return value if isinstance(value, tuple) else (value,)


def _itself(value: Any) -> Any:  # noqa: ANN401 - any value of a field
    return value


def _within(part: Filter) -> str:
    return f"({part})" if isinstance(part, Joined) else str(part)
