"""The Dockerfile's steps, run in a clean folder: what they install works by itself, and is as large as we say."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.index, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
SIZES = re.search(r"(\d+) MB on a device and (\d+) MB with the orchestrator", DOCUMENT)


def instructions(stage: str) -> list[tuple[str, str]]:
    """Return what a stage of the Dockerfile does, in order."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    body = text.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def context(target: Path) -> None:
    """Copy what reaches the builder."""
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    for name in sent:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target / name)


def script(root: Path) -> str:
    """Return the steps of the stage that builds, with its absolute paths below ``root``."""
    lines = ["set -eu"]
    for name, words in instructions("build"):
        moved = re.sub(r"(?<![\w.\"])/(source|wheels|opt)\b", rf"{root}/\1", words)
        match name:
            case "ENV":
                lines.append(f"export {moved}".replace("PIP_NO_CACHE_DIR=1", ""))  # that keeps images small
            case "WORKDIR":
                lines.append(f"mkdir -p {moved} && cd {moved}")
            case "COPY" if words == ". .":
                lines.append(f"cp -r {root}/context/. .")
            case "COPY":
                *files, place = words.split()
                lines.append(f"cp {' '.join(f'{root}/context/{file}' for file in files)} {place}")
            case "RUN":
                lines.append(moved)
            case _:
                pytest.fail(f"the test does not know {name}")
    return "\n".join(lines)


def megabytes(environment: Path) -> float:
    """Return what was installed, without pip and what comes with it, and before Python compiles it."""
    (packages,) = environment.glob("lib/python*/site-packages")
    own = [
        each for each in packages.iterdir() if not each.name.startswith(("pip", "setuptools", "pkg_resources", "_dist"))
    ]
    return (
        sum(
            path.stat().st_size
            for each in own
            for path in (each, *each.rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        )
        / 1e6
    )


def demo_until_rollback(tidegate: Path, folder: Path, environment: dict[str, str]) -> str:
    """Let the demo run until the bad release is taken back, then stop it as a person does; return all it says."""
    command = [str(tidegate), "demo", "--yes", "--folder", str(folder)]
    said = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder.parent, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "rolled back" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0, said
    return said


def test_what_the_images_are_made_of_works_by_itself_and_is_as_large_as_we_say(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    context(tmp_path / "context")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["PIP_NO_COMPILE"] = "1"  # half of the time
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    done = subprocess.run(
        ["sh", "-c", script(tmp_path)], env=environment, capture_output=True, text=True, check=False, timeout=500
    )

    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    agent, orchestrator = tmp_path / "opt" / "agent", tmp_path / "opt" / "orchestrator"
    programs = (
        agent / "bin" / "tidegate-agent",
        orchestrator / "bin" / "tidegate-agent",
        orchestrator / "bin" / "tidegate",
    )
    for program in programs:
        told = subprocess.run([program, "--help"], env=environment, check=True, capture_output=True, text=True)
        assert "usage" in told.stdout.lower()
    assert SIZES is not None, "docs/operating.md says how large an install is"
    for folder, said in ((agent, SIZES[1]), (orchestrator, SIZES[2])):
        assert megabytes(folder) == pytest.approx(float(said), rel=0.15)
    said = demo_until_rollback(orchestrator / "bin" / "tidegate", tmp_path / "demo", environment)
    assert "rolled back" in said
    assert "nothing was left running" in said
