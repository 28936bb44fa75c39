"""A policy file as it was written: what it says at a path, and where."""

import re
from collections.abc import Iterator
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_STEPS: Final = re.compile(r"[^.\[\]]+")


class Written:
    """A policy file that has been parsed before, or none at all.

    Paths are those of findings, for example ``health_gates.wave_gate.checks[0].threshold``.
    """

    def __init__(self, text: str = "") -> None:
        """Read the text of a file; empty where only the policy's content is known."""
        self._root: Node | None = YAML(typ="safe", pure=True).compose(text) if text else None

    def __bool__(self) -> bool:
        """Say whether there is a file."""
        return self._root is not None

    def text(self, path: str) -> str:
        """Return what the file says at a path; empty where it leaves it to the default."""
        found = list(self._walk(path))
        node = found[-1][1] if len(found) == len(_STEPS.findall(path)) and found else None
        return node.value if isinstance(node, ScalarNode) else ""

    def place(self, path: str) -> tuple[int, int] | None:
        """Return line and column (from 1) of the deepest step of a path that the file holds; None if it holds none."""
        found = list(self._walk(path))
        if not found:
            return None
        mark = found[-1][0].start_mark
        return mark.line + 1, mark.column + 1

    def _walk(self, path: str) -> Iterator[tuple[Node, Node]]:
        """Yield for each step that the file holds the node where it is named and the node that it leads to."""
        node = self._root
        for step in _STEPS.findall(path):
            found = _child(node, step)
            if found is None:
                return
            yield found
            node = found[1]


def _child(node: Node | None, step: str) -> tuple[Node, Node] | None:
    match node:
        case MappingNode():
            return next(((key, value) for key, value in node.value if key.value == step), None)
        case SequenceNode() if step.isdigit() and int(step) < len(node.value):
            item = node.value[int(step)]
            return item, item
        case _:
            return None
