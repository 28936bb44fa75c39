"""A real agent that follows its trust root: keys are rotated and releases revoked while it lives."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.releases import BuiltRelease
from schemas.codec import decode, encode
from schemas.messages import Info, Ready
from schemas.topics import Kind
from tests.core.trust_roots import document, key, make_root, role, signed
from tests.device.device_world import (
    COMMAND_KEY,
    QUICK_APPLICATION,
    RELEASE_KEY,
    AgentProcess,
    Orchestrator,
    broker,
    make_release,
    order_for,
    public,
    put,
    registry,
    sha256,
    until,
)

ROLES: dict[str, Any] = {
    "root": role("root-a"),
    "release": {"keys": [public(RELEASE_KEY).hex()], "threshold": 1},
    "command": {"keys": [public(COMMAND_KEY).hex()], "threshold": 1},
}
FIRST = signed(make_root(1, **ROLES), "root-a")


class World:
    """A fleet of one that was given a trust root."""

    def __init__(self, folder: Path, port: int, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "root.json").write_bytes(FIRST)
        self.agent = AgentProcess(
            folder, f"mqtt://127.0.0.1:{port}", trust_root="root.json", release_keys=None, command_keys=None
        )
        self.orchestrator = Orchestrator(port, "pi-1")
        self.chain = [FIRST]

    def publish(self, version: str, **changes: Any) -> BuiltRelease:  # noqa: ANN401 - any field
        built = make_release(self.folder, version, application=QUICK_APPLICATION, **changes)
        put(self.folder / "registry", built)
        return built

    def order(self, built: BuiltRelease, generation: int) -> None:
        self.orchestrator.order(order_for(built, generation, self.url))

    def tell(self, **changes: Any) -> None:  # noqa: ANN401 - any field
        """Publish the next root, and wait until the agent has it."""
        version = len(self.chain) + 1
        self.chain.append(signed(make_root(version, **{**ROLES, **changes}), "root-a"))
        topic = self.orchestrator.topics.build(Kind.TRUST)
        self.orchestrator.client.publish(topic, encode(document(1, *self.chain)), qos=1, retain=True)
        until(lambda: f"trust.root version={version}" in self.agent.log.read_text())

    def question(self, generation: int, after: int = 0) -> Ready:
        """Return the first question about a generation that came after so many others."""
        asked: Ready = until(
            lambda: next((q for q in self.orchestrator.questions[after:] if q.generation == generation), None)
        )
        return asked


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with broker() as port, registry(tmp_path / "registry") as url:
        made = World(tmp_path, port, url)
        try:
            made.agent.start()
            made.order(made.publish("1.0.0"), 1)
            made.orchestrator.until_reported("idle", 1)
            yield made
        finally:
            made.orchestrator.close()
            made.agent.close()


def test_grants_of_a_command_key_that_was_rotated_away_are_refused_also_after_a_restart(world: World) -> None:
    world.orchestrator.decision = None
    world.order(world.publish("1.1.0"), 2)
    world.orchestrator.until_reported("ready", 2)
    asked = len(world.orchestrator.questions)

    world.tell(command=role("command-2"))
    question = world.question(2, after=asked)
    world.orchestrator.grant(question)
    until(lambda: "no signature of a trusted key" in world.agent.log.read_text())
    assert world.orchestrator.reports[-1].state == "ready"
    world.agent.stop()
    asked = len(world.orchestrator.questions)
    world.agent.start()
    question = world.question(2, after=asked)
    assert decode(Info, world.orchestrator.last_of(Kind.INFO) or b"").root_version == 2
    refused = world.agent.log.read_text().count("no signature of a trusted key")
    world.orchestrator.grant(question)
    until(lambda: world.agent.log.read_text().count("no signature of a trusted key") > refused)
    world.orchestrator.grant(question, key("command-2"))

    assert world.orchestrator.until_reported("idle", 2).installed_version == "1.1.0"


def test_release_of_a_key_that_was_rotated_away_is_refused(world: World) -> None:
    world.tell(release=role("release-a"))

    world.order(world.publish("1.1.0"), 2)
    failed = world.orchestrator.until_reported("failed", 2)
    assert failed.error is not None
    assert (failed.error.code, failed.error.step) == ("signature_invalid", "fetch")

    world.order(world.publish("1.1.0", key=key("release-a")), 3)
    world.orchestrator.until_reported("idle", 3)


def test_revoked_release_is_left_in_standby_and_what_serves_serves_on(world: World) -> None:
    world.orchestrator.decision = None
    world.order(world.publish("1.1.0"), 2)
    world.orchestrator.until_reported("ready", 2)

    world.tell(revoked=("app-1.1.0",))
    failed = world.orchestrator.until_reported("failed", 2)
    assert failed.error is not None
    assert (failed.error.code, failed.error.step, failed.installed_version) == ("revoked", "order", "1.0.0")

    world.order(world.publish("1.0.0"), 3)  # Other bytes of the version that serves: it is prepared, and not asked for.
    world.tell(revoked=("app-1.1.0", "app-1.0.0"))
    world.orchestrator.until_reported("failed", 3)
    assert world.agent.ask()["version"] == "1.0.0"


def test_new_device_is_provisioned_by_the_newest_root_from_a_file(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", trust_root="root.json", release_keys=None, command_keys=None)
    built = make_release(tmp_path, "1.0.0", application=QUICK_APPLICATION)
    (tmp_path / sha256(built.envelope)).write_bytes(built.envelope)
    (tmp_path / "archive").write_bytes(built.artifact)

    def provision() -> "subprocess.CompletedProcess[str]":
        manifest, archive = tmp_path / sha256(built.envelope), tmp_path / "archive"
        command = [sys.executable, "-m", "device_client", "provision", "--config", str(agent.config)]
        return subprocess.run(
            [*command, "--manifest", str(manifest), "--artifact", str(archive)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    (tmp_path / "root.json").write_bytes(signed(make_root(4, **ROLES, revoked=("app-1.0.0",)), "root-a"))
    refused = provision()
    assert (refused.returncode, "app-1.0.0 is revoked by root 4" in refused.stderr) == (1, True)
    (tmp_path / "root.json").write_bytes(signed(make_root(5, **ROLES), "root-a"))

    assert provision().returncode == 0
    assert json.loads((tmp_path / "root" / "blue" / ".version").read_text())["root_version"] == 5
