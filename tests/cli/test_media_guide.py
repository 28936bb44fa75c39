"""docs/air-gap.md: its commands are typed as they stand, and say what it shows; its settings are taken."""

import re
import tomllib
from pathlib import Path

import pytest

from device_client.equipment import MediaTable
from tests.cli.guide import DOCS, commands, follow


def test_guide_is_what_the_commands_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(commands("air-gap.md"))) > 3

    follow("air-gap.md", tmp_path, monkeypatch)


@pytest.mark.parametrize("guide", ["air-gap.md", "device.md"])
def test_settings_of_the_guides_are_taken(guide: str) -> None:
    (block,) = re.findall(r"^```toml\n(\[media\].*?)^```", (DOCS / guide).read_text(), flags=re.MULTILINE | re.DOTALL)

    assert MediaTable.model_validate(tomllib.loads(block)["media"]).wait_seconds == 600.0
