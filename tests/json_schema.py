"""JSON Schema's own validators, imported when a test asks for one: their formats take seconds to build grammars for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def draft_7(schema: Any) -> "Validator":  # noqa: ANN401 - JSON holds anything
    """Return what validates against a schema of draft 7."""
    from jsonschema import Draft7Validator  # noqa: PLC0415 - see above

    return Draft7Validator(schema)


def draft_2020_12(schema: Any) -> "Validator":  # noqa: ANN401 - JSON holds anything
    """Return what validates against a schema of draft 2020-12."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - see above

    return Draft202012Validator(schema)
