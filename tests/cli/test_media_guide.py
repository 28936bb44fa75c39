"""docs/air-gap.md: its settings are taken."""

import re
import tomllib

import pytest

from device_client.equipment import MediaTable
from tests.docs.pages import ROOT


@pytest.mark.parametrize("guide", ["air-gap.md", "device.md"])
def test_settings_of_the_guides_are_taken(guide: str) -> None:
    (block,) = re.findall(
        r"^```toml\n(\[media\].*?)^```", (ROOT / "docs" / guide).read_text(), flags=re.MULTILINE | re.DOTALL
    )

    assert MediaTable.model_validate(tomllib.loads(block)["media"]).wait_seconds == 600.0
