"""A whole device whose application runs as a unit or in a container: forwards and back, also by its guardian."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from device_client.adapters.hosts import host_of
from orchestrator.adapters.releases import BuiltRelease, build_release
from schemas.messages import HealthCheck
from tests.device.device_world import (
    COMMAND,
    COUNTERS,
    RELEASE_KEY,
    AgentProcess,
    Orchestrator,
    broker,
    make_tree,
    order_for,
    put,
    registry,
    until,
)
from tests.device.guardian_world import start_guardian
from tests.device.host_stage import PROGRAM, install_fake

TRIAL_SECONDS = 8.0
CHECK = HealthCheck(interval_seconds=1.0, timeout_seconds=2.0, success_threshold=2)
PATIENCE_SECONDS = 90.0
"""Every question to an engine is a program that has to start, on a busy machine."""


class Device:
    """A real agent on a host that is played."""

    def __init__(self, folder: Path, kind: str, broker_port: int, url: str) -> None:
        self.folder, self.kind, self.url = folder, kind, url
        self.agent = AgentProcess(
            folder, f"mqtt://127.0.0.1:{broker_port}", runtime={"kind": kind}, sample_interval_seconds=5.0
        )
        self.host = host_of(self.agent.root, {"kind": kind}, {})
        self.orchestrator = Orchestrator(broker_port, "pi-1")
        install_fake(folder, {"docker": "docker", "systemd": "systemctl"}[kind], self.agent)

    def publish(self, version: str, program: str) -> BuiltRelease:
        tree = make_tree(self.folder, version, application=program)
        (tree / "app" / "image.tar").write_text(program)
        image = f"sha256:{hashlib.sha256(program.encode()).hexdigest()}"
        command = (image, "{port}") if self.kind == "docker" else COMMAND
        built = build_release(
            tree, release=f"app-{version}", version=version, release_counter=COUNTERS[version], command=command,
            key=RELEASE_KEY,
        )  # fmt: skip
        put(self.folder / "registry", built)
        return built

    def serves(self, version: str) -> bool:
        answer = self.agent.ask()
        return answer is not None and answer["version"] == version

    def running(self) -> list[tuple[str, str]]:
        return [(found.slot, found.role) for found in self.host.find()]


@pytest.fixture
def device(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with ExitStack() as stack:
        url, port = stack.enter_context(registry(tmp_path / "registry")), stack.enter_context(broker())
        made = Device(tmp_path, request.param, port, url)
        stack.callback(lambda: made.host.end_others(None, 0))
        stack.callback(made.agent.close)
        stack.callback(made.orchestrator.close)
        made.agent.start()
        made.orchestrator.order(order_for(made.publish("1.0.0", PROGRAM), 1, url, health_check=CHECK))
        made.orchestrator.until_reported("idle", 1, PATIENCE_SECONDS)
        yield made


@pytest.mark.parametrize("device", ["docker"], indirect=True)
def test_device_installs_takes_over_and_leaves_what_crashes(device: Device) -> None:
    assert device.serves("1.0.0")
    (before,) = device.host.find()
    device.agent.kill()
    device.agent.start()
    until(lambda: device.orchestrator.reports[-1].seq > 0 and device.agent.log.read_text().count("bus.connected") > 1)
    assert device.host.find() == [before], "what serves goes on serving"

    crash = "peer.recv(4096)\n    os.environ['TIDEGATE_ROLE'] == 'serving' and os._exit(3)"
    crashing = PROGRAM.replace("peer.recv(4096)", crash)
    terms = {"progress_deadline_seconds": TRIAL_SECONDS, "health_check": CHECK}
    device.orchestrator.order(order_for(device.publish("1.1.0", crashing), 2, device.url, **terms))

    back = device.orchestrator.until_reported("rolled_back", 2, PATIENCE_SECONDS)
    assert back.error is not None
    assert back.error.code in ("crash_loop", "unhealthy", "deadline_exceeded")
    assert device.serves("1.0.0")
    assert device.running() == [("blue", "serving")]


@pytest.mark.parametrize("device", ["systemd"], indirect=True)
def test_guardian_brings_the_old_version_back_when_the_agent_is_killed(device: Device) -> None:
    terms = {"min_ready_seconds": 60.0, "progress_deadline_seconds": TRIAL_SECONDS, "health_check": CHECK}
    device.orchestrator.order(order_for(device.publish("1.1.0", PROGRAM), 2, device.url, **terms))
    device.orchestrator.until_reported("trial", 2, PATIENCE_SECONDS)
    until(lambda: device.serves("1.1.0"))
    device.agent.kill()

    guardian = start_guardian(device.agent.config, log=device.folder / "guardian.log", PATH=os.environ["PATH"])
    try:
        until(lambda: device.serves("1.0.0"), PATIENCE_SECONDS)
        assert device.running() == [("blue", "serving")]
        memory = json.loads((device.agent.root / "state" / "guardian.json").read_bytes())
        assert memory["outcome"]["code"] == "deadline_exceeded"
    finally:
        guardian.kill()
        guardian.wait()
