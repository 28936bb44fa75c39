"""Guides whose commands are typed as they stand, and say what is shown of them."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app

DOCS = Path(__file__).parents[2] / "docs"


def commands(guide: str, mark: str = "") -> Iterator[tuple[str, str]]:
    """Yield each command of the blocks with that mark, with what is shown of its output."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    for marked, block in re.findall(r"^```console(?: (\w+))?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        if marked == mark:
            for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, shown = typed.partition("\n")
                yield command, shown


def run(command: str) -> str:
    """Return what a command says; our own runs in this process, which takes a tenth of the time."""
    if command.startswith("tidegate "):
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        return result.stdout
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-ec", command], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    return ended.stdout


def follow(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str = "") -> None:
    """Type all commands of a guide, in a folder that is empty at first."""
    monkeypatch.chdir(tmp_path)
    for command, shown in commands(guide, mark):
        said = run(command)
        pattern = re.escape(shown).replace("…", ".+?")
        assert not shown or re.fullmatch(pattern, said), f"$ {command}\n{said}"
