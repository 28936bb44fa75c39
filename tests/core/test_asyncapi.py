"""The wire contract as AsyncAPI says what the topic tree and the models say."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.version import VERSION
from schemas.asyncapi import asyncapi_document
from schemas.commands import VERBS
from schemas.topics import RULES, Kind, Sender
from tests.json_schema import draft_7

ROOT = Path(__file__).parents[2]
OFFICIAL = json.loads(gzip.decompress((ROOT / "tests" / "vectors" / "asyncapi-3.1.0.json.gz").read_bytes()))
"""The specification's own schema, from the npm package @asyncapi/specs 6.11.1 (Apache-2.0)."""
DOCUMENT = asyncapi_document(VERSION)


def wrong(document: Any) -> list[str]:  # noqa: ANN401 - JSON holds anything
    return [error.message for error in draft_7(OFFICIAL).iter_errors(document)]


def references(node: Any) -> list[str]:  # noqa: ANN401 - JSON holds anything
    match node:
        case dict():
            found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return found + [each for value in node.values() for each in references(value)]
        case list():
            return [each for value in node for each in references(value)]
        case _:
            return []


def test_document_is_what_the_specification_asks_for() -> None:
    assert wrong(DOCUMENT) == []


def test_what_the_specification_does_not_allow_is_found() -> None:
    assert wrong({**DOCUMENT, "channels": {"info": {"adress": "x"}}})


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        place = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_topic_has_its_channel_with_who_publishes_and_how() -> None:
    addresses = {each["address"] for each in DOCUMENT["channels"].values()}
    expected = {f"fleet/v1/{rule.pattern}" for kind, rule in RULES.items() if kind is not Kind.COMMAND}

    assert addresses == expected | {f"fleet/v1/ops/{{actor}}/cmd/{verb}" for verb in VERBS}
    for kind, rule in RULES.items():
        if kind is Kind.COMMAND:
            continue
        action = "send" if rule.sender is Sender.ORCHESTRATOR else "receive"
        operation = DOCUMENT["operations"][f"{action}_{kind.value}"]
        assert operation["bindings"]["mqtt"] == {"qos": rule.qos, "retain": rule.retained, "bindingVersion": "0.2.0"}


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one_in_the_dialect_of_asyncapi(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]

    draft_7(schema).check_schema(schema)
    assert "prefixItems" not in json.dumps(schema), "draft 7 would ignore it, and with it what it forbids"


def test_published_document_is_the_one_that_the_code_makes() -> None:
    published = json.loads((ROOT / "docs" / "asyncapi.json").read_text())

    assert published == DOCUMENT, "make it anew: tidegate schema --asyncapi > docs/asyncapi.json"


def test_command_prints_it() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema", "--asyncapi"]).stdout) == DOCUMENT
