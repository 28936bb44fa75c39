import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from orchestrator.__main__ import app
from schemas.policy_schema import policy_json_schema
from tests.json_schema import draft_2020_12

POLICIES = sorted((Path(__file__).parents[2] / "examples" / "policies").glob("*.yaml"))
SCHEMA = policy_json_schema()


def errors(tree: Any) -> list[str]:  # noqa: ANN401 - YAML holds anything
    return [error.json_path for error in draft_2020_12(SCHEMA).iter_errors(tree)]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    draft_2020_12(SCHEMA).check_schema(SCHEMA)
    assert errors(YAML(typ="safe", pure=True).load(path)) == []


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({}, "$"),
        ({"rollouts": {}}, "$"),
        ({"rollout": {"canary": {"percent": 3}}}, "$.rollout.canary"),
        ({"rollout": {"waves": "all"}}, "$.rollout.waves"),
        ({"strategy": "yolo"}, "$.strategy"),
        ({"health_gates": {"canary_gate": {"checks": [{"type": "eror_rate"}]}}}, "$.health_gates"),
    ],
)
def test_an_editor_is_told_what_is_wrong_and_where(tree: dict[str, Any], place: str) -> None:
    assert any(each.startswith(place) for each in errors(tree))


def test_the_command_prints_it() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).stdout) == SCHEMA
