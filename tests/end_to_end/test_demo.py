"""``tidegate demo`` as a user runs it: it tells the whole story, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.journal import Journal

DEMO = [sys.executable, "-m", "orchestrator", "demo"]


def processes_of(folder: Path) -> list[str]:
    """Every process that works in the demo's folder or names it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            place = str((entry / "cwd").readlink())
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if place.startswith(str(folder)) or str(folder) in arguments:
            found.append(arguments)
    return found


def run_demo(folder: Path, *options: str) -> dict[str, Any]:
    result = subprocess.run(
        [*DEMO, "--json", "--folder", str(folder), *options], capture_output=True, text=True, timeout=160, check=False
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def assert_the_story_is_told(summary: dict[str, Any], folder: Path) -> None:
    assert summary["final_counts"] == {"1.2.0": 12}
    assert summary["outcomes"] == {"r-1": "rolled_back", "r-2": "completed"}
    assert len(summary["ever_ran"]["1.1.0"]) == 2
    assert len(summary["ever_ran"]["1.2.0"]) == 12
    assert len(summary["rollbacks"]) == 1
    rollback = summary["rollbacks"][0]
    assert rollback["trigger"] in {"error_rate_spike", "canary_gate"}
    assert rollback["evidence"][0]["verdict"] == "fail"
    assert rollback["evidence"][0]["observed"] > rollback["evidence"][0]["limit"]
    assert set(rollback["devices"]) == set(summary["ever_ran"]["1.1.0"])
    assert summary["seconds"] <= 120
    assert summary["memory_bytes"] < 2e9
    assert json.loads(Path(summary["report"]).read_text()) == summary
    reader = Journal.open_reader(Path(summary["journal"]))
    try:
        assert reader.verify().entry_count > 100
    finally:
        reader.close()
    assert processes_of(folder) == []


@pytest.mark.timeout(180)
def test_demo_stops_the_bad_release_and_brings_the_good_one_to_all(tmp_path: Path) -> None:
    summary = run_demo(tmp_path)

    assert_the_story_is_told(summary, tmp_path)


@pytest.mark.mosquitto
@pytest.mark.timeout(180)
def test_demo_tells_the_same_story_on_mosquitto(tmp_path: Path) -> None:
    summary = run_demo(tmp_path, "--broker", "mosquitto")

    assert_the_story_is_told(summary, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_ends_cleanly_and_leaves_no_process_when_it_is_interrupted(tmp_path: Path, number: int) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--yes", "--folder", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not sum("serve.py" in each for each in processes_of(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(tmp_path), "it never came so far that there is something to leave behind"
    os.kill(demo.pid, number)
    _, errors = demo.communicate(timeout=40)

    assert demo.returncode == 0, errors
    assert processes_of(tmp_path) == []


def test_demo_says_in_one_line_what_to_do_when_the_broker_does_not_answer(tmp_path: Path) -> None:
    result = subprocess.run(
        [*DEMO, "--broker", "mqtt://127.0.0.1:9", "--folder", str(tmp_path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert result.returncode == 5
    assert result.stderr.startswith("error: no broker answers at mqtt://127.0.0.1:9")
    assert len(result.stderr.strip().splitlines()) == 1
