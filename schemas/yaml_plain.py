"""YAML as plain data: what is more, or too much of it, is refused as it is read, before anything is built of it."""

from functools import partial
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, MappingStartEvent, NodeEvent, ScalarEvent
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner

from schemas.codec import DEPTH_MAX

PARTS_MAX: Final = 8_000


class NotPlainError(ValueError):
    """The author's fault: more than plain data, or too much of it. ``place`` is line and column, from 0."""

    def __init__(self, place: tuple[int, int], message: str) -> None:
        super().__init__(message)
        self.place = place


def plain_yaml(parts_max: int | None = PARTS_MAX) -> YAML:
    """Return a reader of YAML 1.2 that knows places.

    What it reads holds no aliases, which could grow beyond their own text, no tags, no keys that are lists or mappings,
    which may take for ever, and no nesting that exhausts the stack. Comments are left out: ruamel.yaml has no place for
    some that are allowed. Its methods raise ``NotPlainError``, or ruamel's ``YAMLError`` where it is no YAML.

    Args:
        parts_max: How many keys, values and lists a text may have; None if only their nesting counts.
    """
    reader = YAML(typ="rt", pure=True)
    reader.Scanner, reader.Parser = Scanner, partial(_PlainParser, parts_max=parts_max)
    return reader


class _PlainParser(Parser):
    def __init__(self, loader: YAML, parts_max: int | None) -> None:
        super().__init__(loader)
        self._parts_max = parts_max
        self._count = 0
        self._keys: list[bool | None] = []
        """For each list or mapping that is open: whether a key comes next; None in a list."""

    def get_event(self) -> Any:  # noqa: ANN401 - as ruamel says
        event = super().get_event()
        self._count += 1
        if self._parts_max is not None and self._count > self._parts_max:
            raise NotPlainError(_place(event), f"more than {self._parts_max} keys, values and lists")
        if isinstance(event, CollectionEndEvent):
            self._keys.pop()
        elif isinstance(event, NodeEvent):
            self._check(event)
        return event

    def _check(self, event: NodeEvent) -> None:
        keys, begins = self._keys, isinstance(event, CollectionStartEvent)
        if event.anchor is not None:
            raise NotPlainError(_place(event), "anchors and aliases are not allowed; write the value out")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise NotPlainError(_place(event), f"tags such as {event.tag!r} are not allowed; write the value alone")
        if keys and keys[-1] is not None:
            if begins and keys[-1]:
                raise NotPlainError(_place(event), "a list or a mapping is no key; write a word")
            keys[-1] = not keys[-1]
        if begins:
            keys.append(True if isinstance(event, MappingStartEvent) else None)
            if len(keys) > DEPTH_MAX:
                raise NotPlainError(_place(event), f"nested deeper than {DEPTH_MAX}")


def _place(event: NodeEvent) -> tuple[int, int]:
    return event.start_mark.line, event.start_mark.column
