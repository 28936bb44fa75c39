"""The policy as a JSON schema, for editors that check and complete a policy while it is written."""

from typing import Any, Final

from schemas.policy import Policy

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def policy_json_schema() -> dict[str, Any]:
    """Return what a policy file may hold, as JSON Schema (draft 2020-12).

    A first line ``# yaml-language-server: $schema=policy.schema.json`` makes an editor use it. It allows a little more
    than ``parse_policy``: thresholds and conditions are any text or number, and no rule across blocks is in it.
    """
    schema = Policy.model_json_schema(by_alias=True)
    # A file is a policy with whatever it holds, so nothing is required; but an empty one is none.
    return {"$schema": _DIALECT, "title": "tidegate rollout policy", **_closed(schema), "minProperties": 1}


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
