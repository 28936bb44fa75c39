"""Journal entries as a report reads them: by the names in their bodies, not through today's facts.

So a report can be made of a journal that is older or newer than this program. What is not there, or is not what it
should be, makes the entry unreadable; nothing is guessed.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from pydantic import TypeAdapter

from schemas.documents import CheckResult
from schemas.errors import FleetError

TEXT_MAX: Final = 2048
"""Longer text of devices and people is cut; no message of the wire is longer."""
BODY_SHOWN_MAX: Final = 160

_CHECKS: Final[TypeAdapter[tuple[CheckResult, ...]]] = TypeAdapter(tuple[CheckResult, ...])


class UnreadableEntryError(FleetError):
    """An entry is not what its kind promises; a newer program wrote it, or it is damaged."""


class Entry(Protocol):
    """One entry of the journal."""

    @property
    def seq(self) -> int:
        """Place in the journal, from 1."""

    @property
    def at(self) -> float:
        """When it was decided, in seconds since the epoch."""

    @property
    def kind(self) -> str:
        """What happened."""

    @property
    def body(self) -> str:
        """The details as JSON text."""

    @property
    def hash(self) -> str:
        """Of this entry and, through the chain, of all before."""


class Body:
    """The details of one entry; each reader raises ``UnreadableEntryError`` for what is not there.

    Args:
        text: JSON; anything but an object reads as one without fields.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        self._fields: Mapping[str, Any] = fields if isinstance(fields, dict) else {}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Body":
        """Read an object within a body."""
        body = cls("")
        body._fields = fields
        return body

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; ``default`` where it is missing or null."""
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise UnreadableEntryError(f"{name} is no text")
        return printable(value)

    def optional_text(self, name: str) -> str | None:
        """Return a text or None."""
        return None if self._fields.get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        """Return a number."""
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnreadableEntryError(f"{name} is no number")
        return value

    def flag(self, name: str) -> bool:
        """Return whether a field is true; false where it is missing."""
        return self._fields.get(name) is True

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, the words of one text, or the keys of an object."""
        value = self._fields.get(name)
        value = value.split() if isinstance(value, str) else value
        if not isinstance(value, list | dict):
            raise UnreadableEntryError(f"{name} is no list")
        return tuple(printable(str(each)) for each in value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise UnreadableEntryError(f"{name} is no object")
        return value

    def optional_mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object, empty where there is none."""
        value = self._fields.get(name)
        return value if isinstance(value, dict) else {}

    def items(self, name: str) -> list[dict[str, Any]]:
        """Return a list of objects, empty where there is none."""
        value = self._fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise UnreadableEntryError(f"{name} is no list of objects")
        return value

    def checks(self, name: str) -> tuple[CheckResult, ...]:
        """Return checks with their numbers."""
        try:
            return _CHECKS.validate_python(self.items(name))
        except ValueError as error:
            raise UnreadableEntryError(f"{name} are no checks") from error

    def word(self, *names: str) -> str:
        """Return the first of the named fields that holds text, else nothing."""
        found = (self._fields.get(name) for name in names)
        return next((printable(value) for value in found if isinstance(value, str)), "")

    def beginning(self) -> str:
        """Return the beginning of the JSON text."""
        is_long = len(self._text) > BODY_SHOWN_MAX
        return printable(self._text[:BODY_SHOWN_MAX]) + ("…" if is_long else "")


def printable(text: str) -> str:
    """Return ``text`` cut to ``TEXT_MAX``, with halves of characters, which no file can hold, written as escapes."""
    return text[:TEXT_MAX].encode("utf-8", "backslashreplace").decode()


def media_text(body: Body) -> str:
    """Return what a device took from media, in words; empty if it took nothing."""
    note = Body.of(body.optional_mapping("note"))
    refused = Body.of(note.optional_mapping("refused")).text("code", "")
    parts = [f"refused media: {refused}"] if refused else []
    outcome = note.text("outcome", "").replace("_", " ")
    if not outcome:
        return "; ".join(parts)
    code = note.text("code", "")
    taken = (
        f"{note.text('version', '?')} of media order {note.number('order'):.0f} {outcome}{f': {code}' if code else ''}"
    )
    return "; ".join([taken, *parts])
