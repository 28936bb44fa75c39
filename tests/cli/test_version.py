"""Every program says its version."""

import subprocess
import sys
from importlib.metadata import version

import pytest


@pytest.mark.parametrize(
    "typed", [("orchestrator", "--version"), ("orchestrator", "version"), ("device_client", "--version")]
)
def test_a_program_prints_its_version_and_nothing_else(typed: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *typed], capture_output=True, text=True, check=True)
    assert done.stdout == f"{version('tidegate')}\n"
