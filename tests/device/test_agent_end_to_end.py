# ruff: noqa: ANN401 - builders take a value for any field
"""A real agent process against a real broker: what a device does from its first order to its last."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.processes import find
from orchestrator.adapters.releases import BuiltRelease
from schemas.codec import HEALTH, decode
from schemas.messages import Desired, HealthSample, Info
from schemas.topics import Kind
from tests.device.device_world import (
    QUICK_APPLICATION,
    AgentProcess,
    Orchestrator,
    ask,
    broker,
    free_port,
    make_release,
    order_for,
    put,
    registry,
    until,
)

BROKEN_LATER = QUICK_APPLICATION.replace("while True:", "import time; born = time.monotonic()\nwhile True:").replace(
    '"status": "ok"', '"status": "ok" if time.monotonic() - born < 0.4 or "smoke" in sys.argv[0] else "ill"'
)
CRASHING = QUICK_APPLICATION.replace(
    "    peer.close()", "    peer.close()\n    import os; os.environ['TIDEGATE_ROLE'] == 'serving' and os._exit(3)"
)


class World:
    """A fleet of one."""

    def __init__(self, folder: Path, port: int, url: str) -> None:
        self.folder, self.url, self.broker_port = folder, url, port
        self.agent = AgentProcess(folder, f"mqtt://127.0.0.1:{port}")
        self.orchestrator = Orchestrator(port, "pi-1")

    def publish(self, version: str, application: str | None = None, **changes: Any) -> BuiltRelease:
        built = make_release(self.folder, version, application=application, **changes)
        put(self.folder / "registry", built)
        return built

    def order(self, built: BuiltRelease, generation: int, **changes: Any) -> Desired:
        desired = order_for(built, generation, self.url, **changes)
        self.orchestrator.order(desired)
        return desired

    def version(self) -> str | None:
        answer = self.agent.ask()
        return answer["version"] if answer else None

    def with_old_version(self) -> "World":
        self.agent.start()
        self.old = self.publish("1.0.0")
        self.order(self.old, 1)
        self.orchestrator.until_reported("idle", 1)
        return self


@contextmanager
def made_world(folder: Path) -> Iterator[World]:
    """Make a world in a folder, with a broker and a registry of its own, and end it."""
    with broker() as port, registry(folder / "registry") as url:
        made = World(folder, port, url)
        try:
            yield made
        finally:
            made.orchestrator.close()
            made.agent.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def test_device_installs_commits_and_goes_back_as_ordered(world: World) -> None:
    world.with_old_version()
    assert world.version() == "1.0.0"

    world.order(world.publish("1.1.0"), 2, commit_on="round_trip")
    committed = world.orchestrator.until_reported("idle", 2)
    assert (committed.installed_version, committed.previous_version, committed.error) == ("1.1.0", "1.0.0", None)
    assert world.version() == "1.1.0"
    assert [ready.step for ready in world.orchestrator.questions] == ["activate", "activate", "commit"]

    world.order(world.old, 3, action="rollback")
    world.orchestrator.until_reported("rolled_back", 3)
    assert world.version() == "1.0.0"
    until(lambda: "rolled_back" in world.orchestrator.events())  # it comes after the report
    assert world.orchestrator.events() == ["slot_switched", "slot_switched", "slot_switched", "rolled_back"]


def test_samples_count_what_the_application_serves(world: World) -> None:
    world.with_old_version()
    for _ in range(5):
        assert world.agent.ask("/measure")

    def sample() -> HealthSample | None:
        found = [payload for topic, payload in world.orchestrator.messages if "/health/" in topic]
        last = decode(HealthSample, found[-1], HEALTH) if found else None
        return last if last is not None and last.requests_total == 5 else None

    found: HealthSample = until(sample)
    assert (found.version, found.healthy, found.errors_total, found.restarts_total) == ("1.0.0", True, 0, 0)
    assert found.memory_bytes is not None
    sketches = [
        decode(HealthSample, payload, HEALTH).latency
        for topic, payload in world.orchestrator.messages
        if "/health/" in topic
    ]
    assert sum(sum(sketch.counts) for sketch in sketches if sketch) == 5


def test_device_introduces_itself_and_says_goodbye(world: World) -> None:
    world.with_old_version()
    info = decode(Info, world.orchestrator.last_of(Kind.INFO) or b"")
    assert (info.device_type, info.group, info.slots) == ("pi", "vision", ("blue", "green"))
    assert world.orchestrator.last_of(Kind.AVAILABILITY) == b"online"

    assert world.agent.stop() == 0

    assert until(lambda: world.orchestrator.last_of(Kind.AVAILABILITY) == b"offline")
    assert find(world.agent.root) == []


def test_version_that_gets_ill_in_its_trial_is_left(world: World) -> None:
    world.with_old_version()

    world.order(world.publish("1.1.0", BROKEN_LATER), 2, min_ready_seconds=5.0)
    back = world.orchestrator.until_reported("rolled_back", 2)

    assert back.error is not None
    assert back.error.code == "unhealthy"
    assert world.version() == "1.0.0"


def test_version_that_crashes_in_its_trial_is_left(world: World) -> None:
    world.with_old_version()

    world.order(world.publish("1.1.0", CRASHING), 2)
    back = world.orchestrator.until_reported("rolled_back", 2)

    assert back.error is not None
    assert back.error.code in ("crash_loop", "unhealthy")
    until(lambda: "crash" in world.orchestrator.events())
    assert world.version() == "1.0.0"


def test_version_that_fails_its_smoke_test_never_serves(world: World) -> None:
    world.with_old_version()

    world.order(world.publish("1.1.0", "raise SystemExit(1)"), 2)
    failed = world.orchestrator.until_reported("failed", 2)

    assert failed.error is not None
    assert failed.error.code == "smoke_test_failed"
    assert world.version() == "1.0.0"
    assert world.orchestrator.events() == ["slot_switched"]


def test_release_of_an_unknown_key_never_reaches_a_slot(world: World) -> None:
    world.with_old_version()

    world.order(world.publish("1.1.0", key=Ed25519PrivateKey.from_private_bytes(b"x" * 32)), 2)
    failed = world.orchestrator.until_reported("failed", 2)

    assert failed.error is not None
    assert failed.error.code == "signature_invalid"
    assert list((world.agent.root / "green").iterdir()) == []


def test_forged_grant_changes_nothing(world: World) -> None:
    world.with_old_version()
    world.orchestrator.decision = None
    world.order(world.publish("1.1.0"), 2)
    world.orchestrator.until_reported("ready", 2)
    question = until(lambda: next((q for q in world.orchestrator.questions if q.generation == 2), None))

    world.orchestrator.grant(question, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    until(lambda: "message.rejected" in world.agent.log.read_text())
    assert world.orchestrator.reports[-1].state == "ready"
    world.orchestrator.grant(question)

    world.orchestrator.until_reported("idle", 2)


def test_junk_on_every_topic_is_dropped(world: World) -> None:
    world.with_old_version()
    topics = world.orchestrator.topics
    for topic in (
        topics.build(Kind.DESIRED, device="pi-1"), topics.build(Kind.GRANT, device="pi-1"), topics.build(Kind.SYNC),
    ):  # fmt: skip
        for junk in (b"\xff", b"{}", b"[]", b"\xdf\xff\xff\xff\xff", b"x" * 20_000):
            world.orchestrator.client.publish(topic, junk, qos=1)
    before = len(world.orchestrator.reports)
    world.orchestrator.client.publish(topics.build(Kind.SYNC), b'{"spread_seconds": 0}', qos=1)

    until(lambda: len(world.orchestrator.reports) > before)
    assert world.orchestrator.reports[-1].observed_generation == 1


def test_brake_holds_an_install_until_it_is_lifted(world: World) -> None:
    world.with_old_version()
    hold = world.orchestrator.topics.build(Kind.HOLD)
    world.orchestrator.client.publish(hold, b'{"reason": "fire"}', qos=1, retain=True)
    until(lambda: "hold.received" in world.agent.log.read_text())

    world.order(world.publish("1.1.0"), 2)
    world.orchestrator.until_reported("ready", 2)
    assert [q.generation for q in world.orchestrator.questions] == [1]
    world.orchestrator.client.publish(hold, b"", qos=1, retain=True)

    world.orchestrator.until_reported("idle", 2)


def test_late_will_is_corrected(world: World) -> None:
    world.with_old_version()
    topic = world.orchestrator.topics.build(Kind.AVAILABILITY, device="pi-1")

    world.orchestrator.client.publish(topic, b"offline", qos=1, retain=True)

    until(
        lambda: (
            [payload for known, payload in world.orchestrator.messages if known == topic][-2:]
            == [b"offline", b"online"]
        )
    )


def test_killed_agent_leaves_the_application_serving_and_takes_it_over(world: World) -> None:
    world.with_old_version()
    (before,) = find(world.agent.root)
    world.agent.kill()
    assert world.version() == "1.0.0"
    reports = len(world.orchestrator.reports)

    world.agent.start()
    until(lambda: len(world.orchestrator.reports) > reports)

    assert find(world.agent.root) == [before]


def test_second_agent_on_the_same_folder_is_refused(world: World) -> None:
    world.with_old_version()
    second = AgentProcess(world.folder, f"mqtt://127.0.0.1:{world.broker_port}")

    second.start()

    assert second.process is not None
    assert second.process.wait(20) == 1
    assert "another agent runs here" in second.log.read_text()


def test_agent_without_a_broker_runs_on_and_says_so_once(world: World, tmp_path: Path) -> None:
    world.with_old_version()
    world.agent.stop()
    text = world.agent.config.read_text().replace(str(world.broker_port), str(free_port()))
    world.agent.config.write_text(text)

    world.agent.start()

    assert until(lambda: ask(world.agent.port)) == {"status": "ok", "version": "1.0.0"}
    until(lambda: "still trying" in world.agent.log.read_text())
    assert world.agent.stop() == 0
    assert world.agent.log.read_text().count("still trying") == 1


def test_device_comes_back_when_the_broker_does(tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as url:
        with broker() as port:
            world = World(tmp_path, port, url)
            world.with_old_version()
            world.orchestrator.close()
        try:
            until(lambda: "bus.disconnected" in world.agent.log.read_text())
            assert world.version() == "1.0.0", "nobody is missed while nothing is to be done"
            with broker(port):
                world.orchestrator = Orchestrator(port, "pi-1")
                again = world.orchestrator.until_reported("idle", 1)
                assert again.installed_version == "1.0.0"
                assert until(lambda: world.orchestrator.last_of(Kind.AVAILABILITY) == b"online")
                world.orchestrator.close()
        finally:
            world.agent.close()


def test_status_shows_what_the_device_remembers(world: World) -> None:
    world.with_old_version()
    shown = subprocess.run(
        [sys.executable, "-m", "device_client", "status", "--config", str(world.agent.config)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    status = json.loads(shown.stdout)
    assert (status["phase"], status["generation"], status["active"]) == ("idle", 1, "blue")
    assert status["verified"] == {"blue": "1.0.0"}


def test_provisioned_device_serves_at_once_and_takes_orders(world: World) -> None:
    built = world.publish("1.0.0")
    (world.folder / "manifest").write_bytes(built.envelope)
    (world.folder / "artifact").write_bytes(built.artifact)
    provision = [
        sys.executable, "-m", "device_client", "provision", "--config", str(world.agent.config),
        "--manifest", str(world.folder / "manifest"), "--artifact", str(world.folder / "artifact"),
    ]  # fmt: skip
    subprocess.run(provision, check=True)
    again = subprocess.run(provision, check=False, capture_output=True, text=True)
    assert (again.returncode, "this is for empty devices" in again.stderr) == (1, True)

    world.agent.start()
    assert until(world.version) == "1.0.0"
    world.order(world.publish("1.1.0"), 1)

    assert world.orchestrator.until_reported("idle", 1).previous_version == "1.0.0"


def test_device_is_not_provisioned_with_an_unknown_key(world: World) -> None:
    built = world.publish("1.0.0", key=Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    (world.folder / "manifest").write_bytes(built.envelope)
    (world.folder / "artifact").write_bytes(built.artifact)

    refused = subprocess.run(
        [
            sys.executable, "-m", "device_client", "provision", "--config", str(world.agent.config),
            "--manifest", str(world.folder / "manifest"), "--artifact", str(world.folder / "artifact"),
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert refused.returncode == 1
    assert "no signature of a trusted key" in refused.stderr
    assert not (world.agent.root / "active").is_symlink()


def test_secrets_do_not_stand_in_the_log(world: World) -> None:
    text = world.agent.config.read_text().replace("mqtt://", "mqtt://pi-1:canary-secret@")
    world.agent.config.write_text(
        text.replace("sample_interval_seconds = 0.2", 'sample_interval_seconds = 0.2\nlog_level = "debug"')
    )
    world.with_old_version()

    assert "canary-secret" not in world.agent.log.read_text()
