"""The examples for tools that people run: each reads what is there, and says what it may say."""

import json
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.access import RIGHTS, Role
from schemas.codec import encode, encode_msgpack
from schemas.commands import VERBS
from schemas.documents import GroupSummary, StatusDocument
from schemas.messages import HealthSample, Message
from schemas.topics import RULES, TopicTree

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
TREE: Final = TopicTree()
FILTERS: Final = {TREE.filter(kind): kind for kind in RULES}
KINDS: Final = {str(kind): kind for kind in RULES}
MODELS: Final[dict[str, type[Message]]] = {"health": HealthSample, "group": GroupSummary, "rollout": StatusDocument}
FLOW: Final[list[dict[str, Any]]] = json.loads((EXAMPLES / "node-red" / "flow.json").read_text())
NODES: Final = {node["id"]: node for node in FLOW}


def telegraf() -> list[dict[str, Any]]:
    with (EXAMPLES / "telegraf" / "telegraf.conf").open("rb") as file:
        inputs: list[dict[str, Any]] = tomllib.load(file)["inputs"]["mqtt_consumer"]
    return inputs


@pytest.mark.parametrize("consumer", telegraf(), ids=lambda consumer: consumer["name_override"])
def test_telegraf_reads_a_topic_that_is_there_and_names_its_levels(consumer: dict[str, Any]) -> None:
    (topic,) = consumer["topics"]
    kind = FILTERS[topic]
    (parsing,) = consumer["topic_parsing"]
    levels = f"{TREE.root}/{RULES[kind].pattern}".split("/")

    assert parsing["topic"] == topic
    assert parsing["tags"].split("/") == [level.strip("{}") if level.startswith("{") else "_" for level in levels]
    assert consumer["qos"] == RULES[kind].qos


@pytest.mark.parametrize("consumer", telegraf(), ids=lambda consumer: consumer["name_override"])
def test_telegraf_names_only_fields_that_are_said(consumer: dict[str, Any]) -> None:
    (part,) = consumer["json_v2"]
    (described,) = part["object"]
    named = {*described.get("tags", ()), *described.get("included_keys", ()), *described.get("excluded_keys", ())}

    assert named <= set(MODELS[consumer["topics"][0].split("/")[2]].model_fields)


def test_all_that_is_read_may_be_read_by_the_user_it_is_read_as() -> None:
    viewer = [what for right in RIGHTS[Role.VIEWER] if right.may == "read" for what in right.what]
    for consumer in telegraf():
        kind = FILTERS[consumer["topics"][0]]
        assert consumer["username"] == "viewer"
        assert kind in viewer or RULES[kind].pattern.split("/")[0] in viewer


def test_wires_of_the_flow_lead_to_nodes_of_its_tab_and_nodes_name_what_is_there() -> None:
    assert len(NODES) == len(FLOW)
    (tab,) = (node["id"] for node in FLOW if node["type"] == "tab")
    for node in FLOW:
        assert node.get("z", tab) == tab
        for wired in (target for output in node.get("wires", []) for target in output):
            assert NODES[wired]["z"] == tab, f"{node['name']} leads nowhere"
        if "broker" in node and node["type"].startswith("mqtt "):
            assert NODES[node["broker"]]["type"] == "mqtt-broker"


def test_topics_of_the_flow_are_those_of_the_contract_and_its_user_may_say_what_it_says() -> None:
    read = {node["topic"] for node in FLOW if node["type"] == "mqtt in"}
    said = {node["topic"]: node for node in FLOW if node["type"] == "mqtt out"}

    assert read == {TREE.filter(KINDS["status"]), "fleet/v1/ops/node-red/reply/approve"}
    for topic, node in said.items():
        address = TREE.parse(topic)
        assert address is not None
        assert address.ids["actor"] == "node-red"
        assert address.ids["verb"] in VERBS
        assert (node["qos"], node["retain"]) == ("1", "false"), "a retained command is refused"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_functions_of_the_flow_and_the_consumer_are_javascript(tmp_path: Path) -> None:
    scripts = {
        node["name"]: f"async function f(msg, flow, node) {{\n{node['func']}\n}}" for node in FLOW if "func" in node
    }
    assert scripts
    for number, text in enumerate(scripts.values()):
        (tmp_path / f"{number}.js").write_text(text)
    shutil.copyfile(EXAMPLES / "consumers" / "telemetry.mjs", tmp_path / "telemetry.mjs")
    for path in tmp_path.iterdir():
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_consumer_reads_json_and_msgpack_and_takes_what_is_neither_for_nothing() -> None:
    read = runpy.run_path(str(EXAMPLES / "consumers" / "telemetry.py"))["read"]
    sample = HealthSample(seq=1, boot_id="b", requests_total=7)

    assert read(encode(sample))["requests_total"] == read(encode_msgpack(sample))["requests_total"] == 7
    assert read(b"") == read(b"{") == read(b"\x01") == {}


@pytest.mark.parametrize("name", ["telemetry.py", "telemetry.mjs"])
def test_consumer_is_short_and_reads_the_topic_of_health(name: str) -> None:
    text = (EXAMPLES / "consumers" / name).read_text()

    assert len(text.splitlines()) < 60
    assert f'TOPIC = "{TREE.filter(KINDS["health"])}"' in text
