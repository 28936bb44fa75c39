"""The kit finds nothing to say about the two devices that keep the contract, and names what others break."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.publish as paho
import pytest

from orchestrator.conformance.clauses import CLAUSES
from tests.conformance.conformance_bench import (
    FAULTS,
    MINIMAL,
    judged,
    make_folder,
    minimal_device,
    next_root,
    run_kit,
)
from tests.device.device_world import AgentProcess, broker

ALL = {clause.id for clause in CLAUSES}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with broker() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def test_agent_keeps_every_clause(folder: Path, port: int) -> None:
    root = next_root()
    keys = {
        name: [(folder / "keys" / f"{name[:-5]}.pub").read_text().strip()] for name in ("release_keys", "command_keys")
    }
    agent = AgentProcess(folder, f"mqtt://127.0.0.1:{port}", topic_root=root, **keys)
    agent.start()
    try:
        code, stdout, _ = run_kit(folder, port, "pi-1", root, "--json")
    finally:
        agent.close()

    found = judged(stdout)
    assert found[False] == found[None] == {}
    assert (code, set(found[True])) == (0, ALL)


def test_minimal_client_keeps_every_clause(folder: Path, port: int) -> None:
    root, key = next_root(), (folder / "keys" / "command.pub").read_text().strip()
    command = [
        sys.executable, str(MINIMAL), "--broker", f"mqtt://127.0.0.1:{port}", "--device", "pi-7", "--command-key", key,
        "--state", str(folder / "state.json"), "--topic-root", root, "--sample-seconds", "0.2",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            code, stdout, _ = run_kit(folder, port, "pi-7", root, "--json")
        finally:
            process.kill()

    found = judged(stdout)
    assert found[False] == found[None] == {}
    assert (code, set(found[True])) == (0, ALL)


@pytest.mark.parametrize("clause", FAULTS)
def test_fault_is_named_by_its_clause_and_by_no_other(folder: Path, port: int, clause: str) -> None:
    root = next_root()
    with minimal_device(folder, port, root, FAULTS[clause]):
        code, stdout, _ = run_kit(folder, port, "pi-7", root, "--json")

    assert (code, set(judged(stdout)[False])) == (1, {clause})


def test_table_shows_what_is_broken_and_what_a_second_run_cannot_judge(folder: Path, port: int) -> None:
    root = next_root()
    with minimal_device(folder, port, root, FAULTS["health-shard"]):
        run_kit(folder, port, "pi-7", root, "--quiet", "0.1")
        code, stdout, _ = run_kit(folder, port, "pi-7", root, "--quiet", "0.1")

    (broken,) = [line for line in stdout.splitlines() if line.startswith("✖")]
    unknown = [line.split()[1] for line in stdout.splitlines() if line.startswith("–")]
    assert code == 1
    assert "health-shard" in broken
    assert "shard 16; crc32 of its id modulo 64 is 15" in broken
    assert unknown == ["tampered-refused", "verified-first"]
    assert "pi-7 keeps 22 of 25 clauses, breaks 1, 2 could not be judged" in stdout


def test_device_that_says_nothing_is_an_error_with_a_next_step(folder: Path, port: int) -> None:
    code, stdout, stderr = run_kit(folder, port, "pi-9", next_root(), "--timeout", "0.5")

    assert (code, stdout) == (6, "")
    assert "pi-9 said nothing" in stderr
    assert "start it, and type this again" in stderr


def test_kit_does_not_run_beside_an_orchestrator(folder: Path, port: int) -> None:
    root = next_root()
    paho.single(f"{root}/orchestrator/availability", "online", 1, retain=True, port=port)

    code, _, stderr = run_kit(folder, port, "pi-7", root)

    assert code == 1
    assert f"an orchestrator is online on {root}" in stderr
    assert "--topic-root" in stderr


def test_brake_that_somebody_else_has_pulled_is_left_alone(folder: Path, port: int) -> None:
    root = next_root()
    paho.single(f"{root}/all/hold", '{"reason": "fire"}', 1, retain=True, port=port)

    code, _, stderr = run_kit(folder, port, "pi-7", root)

    assert code == 1
    assert f"the brake is pulled on {root}" in stderr


def test_folder_without_two_releases_says_how_to_build_one(tmp_path: Path, port: int) -> None:
    make_folder(tmp_path)
    (tmp_path / "releases" / "releases" / "app-1.1.0.json").unlink()

    code, _, stderr = run_kit(tmp_path, port, "pi-7", next_root())

    assert code == 4
    assert "must hold two releases" in stderr
    assert "tidegate release build" in stderr


def test_release_that_is_not_there_is_named(folder: Path, port: int) -> None:
    code, _, stderr = run_kit(folder, port, "pi-7", next_root(), "--new", "app-9.9.9")

    assert code == 4
    assert "no release 'app-9.9.9'; it holds app-1.0.0, app-1.1.0" in stderr
