"""What the documents say about setting a broker up is typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from tests.cli.requests_made import request

ROOT = Path(__file__).parents[2]
ASKED = re.compile(r"^\$ openssl req .* -out (\S+)\.csr$", re.MULTILINE)
"""Made here by other means, because not every machine has openssl; ``make test-pages`` types it."""
TYPED = re.compile(r"^(?:\$ )?tidegate ((?:init fleet$|broker-config )[^#\n]*)", re.MULTILINE)


@pytest.mark.parametrize("name", ["docs/operating.md", "broker-config/README.md"])
def test_every_broker_config_of_a_document_works_in_its_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / name).read_text()
    typed = TYPED.findall(text)

    assert typed
    for device in ASKED.findall(text):
        request(tmp_path, device, device)
    for words in typed:
        result = CliRunner().invoke(app, shlex.split(words))
        assert result.exit_code == 0, (words, result.output)


def test_files_that_the_documents_name_are_there_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "alice")
    text = (ROOT / "docs" / "operating.md").read_text()
    for device in ASKED.findall(text):
        request(tmp_path, device, device)
    for words in TYPED.findall(text):
        CliRunner().invoke(app, shlex.split(words))

    named = {path.rstrip("`,;.") for path in re.findall(r"\b(?:access|secured)/[\w./-]+", text)}
    assert len(named) > 6
    there = [path for path in named if Path(path).exists() or Path("fleet", path.replace("NAME", "alice")).exists()]
    assert named - set(there) == set()
