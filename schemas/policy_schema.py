"""The policy as a JSON schema, for editors that check and complete a policy while it is written."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from schemas.block import StrictBlock
from schemas.policy import Policy

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def policy_json_schema() -> dict[str, Any]:
    """Return what a policy file may hold, as JSON Schema (draft 2020-12).

    A first line ``# yaml-language-server: $schema=policy.schema.json`` makes an editor use it. It allows a little more
    than ``parse_policy``: thresholds and conditions are any text or number, and no rule across blocks is in it.
    """
    schema = Policy.model_json_schema(by_alias=True, schema_generator=_WithTexts)
    # A file is a policy with whatever it holds, so nothing is required; but an empty one is none.
    return {"$schema": _DIALECT, "title": "tidegate rollout policy", **_closed(schema), "minProperties": 1}


class _WithTexts(GenerateJsonSchema):
    """Describes fields by the text below them.

    That is in the source alone. Models could take it themselves (``use_attribute_docstrings``), and every process that
    imports a block would read and parse its source for it.
    """

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made, block = super().model_schema(schema), schema["cls"]
        for each in reversed(block.__mro__):
            if issubclass(each, StrictBlock):
                for name, text in _texts(each):
                    made["properties"][block.model_fields[name].alias or name]["description"] = text
        return made


def _texts(block: type[StrictBlock]) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(dedent(inspect.getsource(block))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


def _closed(node: Any) -> Any:  # noqa: ANN401 - JSON holds anything
    """Drop titles and whole blocks as defaults, and refuse unknown keys in every block, as the loader does."""
    match node:
        case dict():
            tidy = {
                key: _closed(value)
                for key, value in node.items()
                if not (key == "title" and isinstance(value, str))
                and not (key == "default" and isinstance(value, dict))
            }
            if "properties" in tidy:
                tidy["additionalProperties"] = False
            return tidy
        case list():
            return [_closed(each) for each in node]
        case _:
            return node
