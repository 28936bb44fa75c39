"""The layers hold, and each contract is shown to fail when it is broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "orchestrator", "device_client", "embedded_broker", "simulator")

BREACHES = {
    "programs": ("device_client/core/machine.py", "import orchestrator.planning.plan"),
    "orchestrator-layers": ("orchestrator/core/state.py", "import orchestrator.service"),
    "device-layers": ("device_client/core/machine.py", "import device_client.adapters.slots"),
    "pure-cores": ("orchestrator/core/state.py", "import time"),
    "light-device": ("device_client/agent.py", "import asyncio"),
    "unpacking-alone": ("device_client/adapters/compression.py", "import socket"),
    "guardian-alone": ("device_client/adapters/layout.py", "import schemas.ids"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_all_contracts_hold(copy: Path) -> None:
    result = lint(copy)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("contract", BREACHES)
def test_contract_is_broken_when_an_import_crosses_it(copy: Path, contract: str) -> None:
    file, line = BREACHES[contract]
    path = copy / file
    path.write_text(f"{path.read_text()}\n{line}\n")

    result = lint(copy)

    assert result.returncode == 1, result.stdout
    name = next(
        text.split("=", 1)[1].strip().strip('"')
        for block in (ROOT / "pyproject.toml").read_text().split("[[tool.importlinter.contracts]]")
        if f'id = "{contract}"' in block
        for text in block.splitlines()
        if text.startswith("name")
    )
    assert f"{name} BROKEN" in result.stdout
