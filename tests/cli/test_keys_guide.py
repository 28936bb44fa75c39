"""docs/keys.md: its commands are typed as they stand, and say what it shows."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.guide import commands, follow


def test_guide_is_what_the_commands_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(commands("keys.md"))) > 20

    follow("keys.md", tmp_path, monkeypatch)


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
        follow("keys.md", tmp_path, monkeypatch, "gpg")
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
