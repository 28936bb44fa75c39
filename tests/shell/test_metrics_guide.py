"""docs/metrics.md: its table is what is scraped, its alerts are the rules, and what it says to type can be typed."""

import re
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML

from orchestrator.__main__ import app
from tests.shell.metrics_bench import eventful

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", flags=re.MULTILINE)


async def rows() -> list[tuple[str, str, str, str]]:
    """Each family of ours as the table tells of it: name, type, labels, meaning."""
    scrape = await eventful().scrape(per_device=True)
    found = []
    for family in scrape.families.values():
        if not family.name.startswith("tidegate_"):
            continue
        assert family.samples, f"{family.name} does not occur in the story"
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        found.append((name, family.type, ", ".join(f"`{label}`" for label in labels), family.documentation))
    return sorted(found)


async def test_table_is_what_is_scraped() -> None:
    shown = [match.groups() for match in ROW.finditer(GUIDE)]

    assert shown == await rows()


def test_every_alert_is_explained_and_none_that_is_not_there() -> None:
    rules = YAML(typ="safe").load(ROOT / "grafana" / "alerts.yml")["groups"][0]["rules"]

    assert re.findall(r"^\| `(Tidegate\w+)` \|", GUIDE, flags=re.MULTILINE) == [rule["alert"] for rule in rules]


def test_what_it_says_to_type_can_be_typed() -> None:
    root: Any = typer.main.get_command(app)
    typed = re.findall(r"(?:`|\$ )tidegate ([^`\n]+)", GUIDE)
    assert len(typed) > 8
    for line in typed:
        command = root
        for word in line.split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, line
            command = command.commands[word]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line
