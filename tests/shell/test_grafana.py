"""The dashboard and the alert rules: every metric and label that they name is there in a scrape."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.shell.metrics_bench import eventful

FOLDER = Path(__file__).parents[2] / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "tidegate.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
RULES: list[dict[str, Any]] = [
    rule for group in YAML(typ="safe").load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]
]
SELECTOR = re.compile(r"\b((?:tidegate|process)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on) ?\(([^)]*)\)")
WIDTH = 24
OF_PROMETHEUS = {"instance", "job", "le"}
VARIABLES = {each["name"] for each in DASHBOARD["templating"]["list"]} | {"__rate_interval"}


def queries() -> dict[str, str]:
    found = {f"{panel['title']} {t['refId']}": t["expr"] for panel in PANELS for t in panel.get("targets", [])}
    found |= {rule["alert"]: rule["expr"] for rule in RULES}
    variables = {each["name"]: each["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"}
    return found | {name: query["query"] for name, query in variables.items()}


QUERIES = queries()


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, set[str]]]:
    """Of each sample's name the labels with the values that occur."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, labels, _ in asyncio.run(eventful().scrape()).samples():
        of_it = found.setdefault(name, {})
        for label, value in labels.items():
            of_it.setdefault(label, set()).add(value)
    return found


def selected(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    for name, matchers in SELECTOR.findall(query):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))


@pytest.mark.parametrize("title", QUERIES)
def test_every_metric_and_label_of_a_query_is_scraped(title: str, labels: dict[str, dict[str, set[str]]]) -> None:
    query = QUERIES[title]
    named: set[str] = set(OF_PROMETHEUS)
    for name, matchers in selected(query):
        assert name in labels
        assert set(matchers) <= set(labels[name]) | OF_PROMETHEUS
        named |= set(labels[name])
        if name in {"tidegate_rollout_phase", "tidegate_devices"}:
            for label in {"phase", "state"} & set(matchers):
                assert set(matchers[label].split("|")) <= labels[name][label]
    for group in GROUPED.findall(query):
        assert {each.strip() for each in group.split(",")} <= named
    assert list(selected(query)) or "up{" in query


@pytest.mark.parametrize("panel", [each for each in PANELS if each.get("targets")], ids=lambda each: each["title"])
def test_every_legend_names_labels_that_are_left(panel: dict[str, Any], labels: dict[str, dict[str, set[str]]]) -> None:
    for target in panel["targets"]:
        groups = GROUPED.findall(target["expr"])
        left = {each.strip() for group in groups for each in group.split(",")} - {"le"}
        if not groups:
            left = {label for name, _ in selected(target["expr"]) for label in labels[name]} | OF_PROMETHEUS
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_panels_have_numbers_of_their_own_and_do_not_lie_upon_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= WIDTH
        taken |= cells


def test_dashboard_is_one_that_grafana_imports() -> None:
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("tidegate", "tidegate")
    assert DASHBOARD["schemaVersion"] >= 39
    assert "id" not in DASHBOARD, "it would overwrite another one"
    for panel in PANELS:
        assert panel["type"] in {"row", "stat", "timeseries", "state-timeline", "table"}
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [each["refId"] for each in panel["targets"]] == ["A", "B", "C", "D"][: len(panel["targets"])]
            assert {"defaults", "overrides"} == set(panel["fieldConfig"])


def test_every_variable_that_is_used_is_one() -> None:
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__all"}

    assert used <= VARIABLES
    assert {"datasource", "instance", "rollout", "check"} <= used


def test_the_timeline_has_a_word_for_each_phase(labels: dict[str, dict[str, set[str]]]) -> None:
    (timeline,) = [panel for panel in PANELS if panel["title"] == "Phases"]
    numbers = dict(re.findall(r'(\d+) \* tidegate_rollout_phase\{[^}]*phase="(\w+)"', timeline["targets"][0]["expr"]))
    (mapping,) = timeline["fieldConfig"]["defaults"]["mappings"]

    assert set(numbers.values()) == labels["tidegate_rollout_phase"]["phase"]
    assert {number: shown["text"].replace(" ", "_") for number, shown in mapping["options"].items()} == numbers


def test_every_alert_says_what_it_means_and_is_tested() -> None:
    tests = (FOLDER / "alerts_test.yml").read_text()
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        fires = re.search(rf"alertname: {rule['alert']}\n\s+exp_alerts:\n", tests)
        assert fires, rule["alert"]
        assert re.search(rf"alertname: {rule['alert']}, exp_alerts: \[\]", tests), rule["alert"]
