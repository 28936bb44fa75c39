"""What a person is told to type exists: every command that our texts name."""

import io
import re
from pathlib import Path

import pytest
import typer

from orchestrator.__main__ import app
from orchestrator.cli.terminal import command_lines, show

ROOT = Path(__file__).parents[2]
TYPED = re.compile(r"tidegate (?P<command>[a-z][a-z-]+)(?: (?P<sub>[a-z]+))?")
IN_DOCUMENTS = re.compile(r"(?:`|\$ )" + TYPED.pattern)
PROSE = frozenset({"starts", "at"})
"""Words behind the product's name where it is the subject of a sentence in our sources."""
SOURCES = sorted((ROOT / "orchestrator").rglob("*.py"))
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "broker-config" / "README.md"]


def commands() -> dict[str, set[str]]:
    """The commands, each with its own."""
    click_app = typer.main.get_command(app)
    return {name: set(getattr(command, "commands", {})) for name, command in getattr(click_app, "commands").items()}  # noqa: B009 - of click's group


@pytest.mark.parametrize("path", [*SOURCES, *DOCUMENTS], ids=lambda path: path.name)
def test_every_command_that_a_text_names_is_there(path: Path) -> None:
    known = commands()
    for found in (TYPED if path.suffix == ".py" else IN_DOCUMENTS).finditer(path.read_text(encoding="utf-8")):
        name, sub = found["command"], found["sub"]
        if name in PROSE:
            continue
        assert name in known, found.group()
        if known[name] and sub is not None:
            assert sub in known[name], found.group()


def test_a_command_to_type_is_never_wrapped_however_long_it_is() -> None:
    file = io.StringIO()

    show(command_lines([f"tidegate plan {'long/' * 60}policy.yaml", "tidegate list"]), file)

    assert file.getvalue() == f"Next: tidegate plan {'long/' * 60}policy.yaml\n      tidegate list\n"
