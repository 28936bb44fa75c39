"""The air gap, whole: exported, carried, installed by an agent that no network reaches, and reported when one does."""

import json
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from tests.device.device_world import (
    COMMAND,
    QUICK_APPLICATION,
    AgentProcess,
    broker,
    free_port,
    make_tree,
    until,
)

POLICY = """
rollout:
  canary: {min_devices: 1, max_devices: 1, soak_minutes: 1}
  waves: [{name: all, percentage: 100, soak_minutes: 1}]
rolling_update:
  min_ready_seconds: 0.3
  progress_deadline: 30
  health_check: {interval_seconds: 0.1, success_threshold: 2}
"""


class World:
    """An orchestrator's folder with two releases, and a device with the older one that has no network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fleet, self.port = folder, folder / "fleet", free_port()
        self.broker = f"mqtt://alice@127.0.0.1:{self.port}"
        self.policy = folder / "quick.yaml"
        self.policy.write_text(POLICY)
        self.tidegate("init", str(self.fleet))
        for counter, version in enumerate(("1.0.0", "1.1.0"), start=1):
            tree = make_tree(folder, version, application=QUICK_APPLICATION)
            words = ["--folder", str(self.fleet), "--release", f"app-{version}", "--version", version]
            self.tidegate("release", "build", str(tree), *words, "--counter", str(counter), "--", *COMMAND)
        keys = {name: [(self.fleet / "keys" / f"{name}.pub").read_text().strip()] for name in ("release", "command")}
        self.agent = AgentProcess(
            folder, f"mqtt://127.0.0.1:{self.port}", release_keys=keys["release"], command_keys=keys["command"],
            media={"folder": "media/*/tidegate"},
        )  # fmt: skip
        self.provision("app-1.0.0")

    def tidegate(self, *words: str) -> str:
        """Type a command, and return what it said."""
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, (words, done.output)
        return done.output

    def asked(self, *words: str) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.tidegate(*words, "--broker", self.broker, "--json"))

    def provision(self, release: str) -> None:
        index = json.loads((self.fleet / "releases" / "releases" / f"{release}.json").read_text())
        (stored,) = index["by_arch"].values()
        releases = self.fleet / "releases"
        files = ["--manifest", str(releases / "manifests" / stored["manifest_sha256"])]
        files += ["--artifact", str(releases / "artifacts" / stored["artifact_sha256"])]
        self.agent_says("provision", *files)

    def agent_says(self, verb: str, *options: str) -> str:
        command = [*self.agent.command, verb, "--config", str(self.agent.config), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.agent_says("status"))
        return found

    def row(self) -> dict[str, Any] | None:
        """Return what the orchestrator says of the device; None while it does not know it."""
        rows = self.asked("devices")["data"]["devices"]
        return rows[0] if rows and rows[0]["version"] is not None else None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.agent.close()


@contextmanager
def orchestrator(world: World) -> Iterator[None]:
    words = ["--broker", f"mqtt://orchestrator@127.0.0.1:{world.port}", "--folder", str(world.fleet)]
    options = ["--tick-seconds", "0.05", "--settle-seconds", "0.2", "--no-metrics"]
    command = [sys.executable, "-m", "orchestrator", "orchestrator", *words, *options]
    with (world.folder / "orchestrator.log").open("ab") as log, \
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            readable, _, _ = select.select([process.stdout], [], [], 60)
            assert readable, (world.folder / "orchestrator.log").read_text()
            process.stdout.readline()
            yield
        finally:
            process.terminate()


def test_release_is_carried_to_a_device_without_a_network_and_reported_when_there_is_one(world: World) -> None:
    made = world.tidegate(
        "media", "export", "app-1.1.0", "--folder", str(world.fleet), "--to", str(world.folder / "stick"),
        "--device", "pi-1", "--policy", str(world.policy), "--json",
    )  # fmt: skip
    number = json.loads(made)["order"]
    shutil.copytree(world.folder / "stick", world.folder / "media" / "usb" / "tidegate")

    world.agent.start()
    until(lambda: (world.agent.ask() or {}).get("version") == "1.1.0")
    until(lambda: "from=trial to=idle" in world.agent.log.read_text())
    status = world.status()
    assert (status["media_order"], status["generation"], status["verified"]) == (
        number, 0, {"blue": "1.0.0", "green": "1.1.0"},
    )  # fmt: skip
    assert "bus.connected" not in world.agent.log.read_text()

    with broker(world.port), orchestrator(world):
        until(lambda: "bus.connected" in world.agent.log.read_text(), 60)
        row = until(world.row, 60)
        assert (row["version"], row["media"]["order"], row["media"]["outcome"]) == ("1.1.0", number, "installed")
        explained = world.asked("device", "pi-1")["data"]
        assert explained["facts"]["media"] == f"1.1.0 was brought by media, order {number}"
        planned = world.tidegate("plan", str(world.policy), "--release", "app-1.1.0", "--broker", world.broker)
        assert "runs 1.1.0 already" in planned
        assert "1.1.0 (media)" in world.tidegate("devices", "--broker", world.broker)
    audited = [json.loads(line) for line in world.tidegate("audit", "show", "--folder", str(world.fleet)).splitlines()]
    assert [each["kind"] for each in audited if "media" in each["kind"]][-1] == "media_noted"
