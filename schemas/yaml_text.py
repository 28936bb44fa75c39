"""Files that operators write: YAML text to a model, with line, column, a caret and a suggestion for what is wrong."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from schemas.errors import FleetError
from schemas.yaml_plain import NotPlainError, plain_yaml

Model = TypeVar("Model", bound=BaseModel)


class YamlTextError(FleetError):
    """The author's fault: a text that does not parse or breaks a rule. Names the place, and perhaps the remedy."""


def parse_yaml(text: str, model: type[Model], *, source: str, expected: str, length_max: int) -> Model:
    """Parse what an operator wrote.

    Args:
        text: YAML 1.2.
        model: What it shall be.
        source: File name for messages.
        expected: What stands in such a file, for the message about one that holds no mapping.
        length_max: Characters that it may have.

    Raises:
        YamlTextError: It is empty, does not parse or breaks a rule. The message names file, line and column, shows the
            line with a caret, and suggests the nearest name for an unknown one.
    """
    if len(text) > length_max:
        raise YamlTextError(f"{source}: {len(text)} characters, at most {length_max} are allowed")
    try:
        tree = plain_yaml().load(text)
    except NotPlainError as error:
        raise YamlTextError(_pointing(source, text, error.place, str(error))) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line, mark.column) if mark is not None else (0, 0)
        raise YamlTextError(_pointing(source, text, place, str(error.problem))) from error
    except (YAMLError, ValueError) as error:  # a ValueError is of a scalar that looks like a number or a date
        raise YamlTextError(f"{source}: no YAML: {error}") from error
    if not isinstance(tree, dict) or not tree:
        raise YamlTextError(f"{source}:1:1: expected {expected}")
    try:
        return model.model_validate(_plain(tree))
    except ValidationError as error:
        # A misspelt key is also a missing one; the misspelling is what helps.
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        message = _explain(first, model)
        raise YamlTextError(_pointing(source, text, _position(tree, first["loc"]), message)) from error


def _plain(node: Any) -> Any:  # noqa: ANN401 - YAML holds anything
    match node:
        case dict():
            return {str(key): _plain(value) for key, value in node.items()}
        case list():
            return [_plain(value) for value in node]
        case _:
            return node


def _position(tree: Any, location: Sequence[int | str]) -> tuple[int, int]:  # noqa: ANN401 - YAML holds anything
    """Return line and column, from 0, of the deepest node on the way to ``location`` that the file holds."""
    place = (0, 0)
    for key in location:
        if isinstance(tree, CommentedMap) and key in tree:
            place = tree.lc.key(key)
        elif isinstance(tree, CommentedSeq) and isinstance(key, int) and key < len(tree):
            place = tree.lc.item(key)
        else:
            break
        tree = tree[key]
    return place


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    name = str(error["loc"][-1]) if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden":
            near = get_close_matches(name, _known_keys(model), n=1)
            return f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        case "missing":
            return f"the key {name!r} is missing"
        case "literal_error":
            near = get_close_matches(str(error["input"]), error["ctx"]["expected"].replace("'", "").split(), n=1)
            hint = f"; did you mean {near[0].strip(',')!r}?" if near else ""
            return f"{name}: {error['input']!r} is none of {error['ctx']['expected']}{hint}"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return message if name.isdigit() or not name else f"{name}: {message}"


@cache
def _known_keys(model: type[BaseModel]) -> tuple[str, ...]:
    schema = model.model_json_schema(by_alias=True)
    blocks = [schema, *schema.get("$defs", {}).values()]
    return tuple(sorted({key for block in blocks for key in block.get("properties", {})}))


def _pointing(source: str, text: str, place: tuple[int, int], message: str) -> str:
    line, column = place
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines) - 1)]
    return f"{source}:{line + 1}:{column + 1}: {message}\n{shown}\n{' ' * column}^"
