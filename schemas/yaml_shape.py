"""YAML as plain data: what may stand in a file, checked before anything is built of it."""

from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner

from schemas.codec import DEPTH_MAX

PARTS_MAX: Final = 8_000


class YamlShapeError(ValueError):
    """The author's fault: YAML that is more than plain data, or too much of it. ``place`` is line and column from 0."""

    def __init__(self, place: tuple[int, int], message: str) -> None:
        super().__init__(message)
        self.place = place


def yaml_reader() -> YAML:
    """Return a reader of YAML 1.2 that knows places and leaves out comments, which may stand where it allows none."""
    reader = YAML(typ="rt", pure=True)
    reader.Scanner, reader.Parser = Scanner, Parser
    return reader


def check_shape(text: str, parts_max: int | None = PARTS_MAX) -> None:
    """Refuse what could grow beyond its own text, exhaust the stack or take for ever, and what is no plain data.

    Args:
        text: What somebody wrote.
        parts_max: How many keys, values and lists it may have; None if only their nesting counts.

    Raises:
        YamlShapeError: It has aliases, tags, keys that are lists or mappings, or is too deep or too large.
        YAMLError: It is no YAML.
    """
    keys: list[bool | None] = []
    """For each list or mapping that is open: whether a key comes next; None in a list."""
    for count, event in enumerate(yaml_reader().parse(text)):
        place = (event.start_mark.line, event.start_mark.column)
        if parts_max is not None and count > parts_max:
            raise YamlShapeError(place, f"more than {parts_max} keys, values and lists")
        if isinstance(event, CollectionEndEvent):
            keys.pop()
        elif isinstance(event, NodeEvent):
            _check_plain(event, place)
            begins = isinstance(event, CollectionStartEvent)
            if keys and keys[-1] is not None:
                if begins and keys[-1]:
                    raise YamlShapeError(place, "a list or a mapping is no key; write a word")
                keys[-1] = not keys[-1]
            if begins:
                keys.append(True if isinstance(event, MappingStartEvent) else None)
        if len(keys) > DEPTH_MAX:
            raise YamlShapeError(place, f"nested deeper than {DEPTH_MAX}")


def _check_plain(event: NodeEvent, place: tuple[int, int]) -> None:
    if event.anchor is not None:
        raise YamlShapeError(place, "anchors and aliases are not allowed; write the value out")
    if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
        raise YamlShapeError(place, f"tags such as {event.tag!r} are not allowed; write the value alone")
