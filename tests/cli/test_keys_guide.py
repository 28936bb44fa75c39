"""docs/keys.md: its commands are typed as they stand, and say what it shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app

GUIDE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console( gpg)?\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


def commands(*, gpg: bool) -> Iterator[tuple[str, str]]:
    """Yield each command with what is shown of its output."""
    for marked, block in BLOCKS:
        if bool(marked) is gpg:
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


def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gpg: bool) -> None:
    monkeypatch.chdir(tmp_path)
    for command, shown in commands(gpg=gpg):
        said = run(command)
        pattern = re.escape(shown).replace("…", ".+?")
        assert not shown or re.fullmatch(pattern, said), f"$ {command}\n{said}"


def test_guide_is_what_the_commands_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(commands(gpg=False))) > 20

    follow(tmp_path, monkeypatch, gpg=False)


@pytest.mark.debian
def test_guide_to_gnupg_is_what_the_commands_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("g")  # short: the agent's socket lies in it
    monkeypatch.setenv("GNUPGHOME", str(home))
    home.chmod(0o700)
    try:
        subprocess.run(
            ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "release@example.org", "ed25519"],
            check=True, capture_output=True,
        )  # fmt: skip
        follow(tmp_path, monkeypatch, gpg=True)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
