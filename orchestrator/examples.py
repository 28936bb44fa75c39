"""Where the examples are: beside this module when installed, else in the checkout."""

from pathlib import Path


def find_examples() -> Path:
    """Return the folder with ``application/`` and ``policies/``."""
    installed = Path(__file__).with_name("_examples")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "examples"
