"""Draining before a stop: work in flight is finished, and nothing that hangs keeps a device from going on."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters.draining import Draining
from tests.device.device_world import broker, free_port, registry, until
from tests.device.router_world import BUSY_APPLICATION, clients_of
from tests.device.test_agent_end_to_end import World, made_world
from tests.device.test_device_router import RoutedWorld

RUDE_APPLICATION = BUSY_APPLICATION.replace(
    "signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())",
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))",
)
"""Drops everything when it is told to end; only draining saves its work."""
DRAIN = '\n[drain]\npath = "/drain"\n'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def settle(world: World, tables: str, application: str = RUDE_APPLICATION) -> None:
    world.agent.config.write_text(world.agent.config.read_text() + tables)
    world.agent.start()
    world.old = world.publish("1.0.0", application)
    world.order(world.old, 1)
    world.orchestrator.until_reported("idle", 1)


class Request(threading.Thread):
    """One request that takes long."""

    def __init__(self, port: int, seconds: float) -> None:
        super().__init__()
        self.port, self.seconds, self.version = port, seconds, ""
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"/work={self.seconds}")
        self.version = json.loads(connection.getresponse().read())["version"]
        connection.close()


def states_of(world: World, generation: int) -> list[str]:
    return [report.state for report in world.orchestrator.reports if report.observed_generation == generation]


def test_rolling_update_finishes_what_is_in_flight_before_it_stops_the_old_version(world: World) -> None:
    settle(world, DRAIN)
    world.orchestrator.decision = None
    world.order(world.publish("1.1.0", RUDE_APPLICATION), 2, strategy="rolling")
    world.orchestrator.until_reported("ready", 2)
    question = until(lambda: next((q for q in world.orchestrator.questions if q.generation == 2), None))
    request = Request(world.agent.port, 1.5)
    until(lambda: world.agent.ask("/health"))

    world.orchestrator.decision = "go"
    world.orchestrator.grant(question)
    world.orchestrator.until_reported("idle", 2)
    request.join(20)

    assert request.version == "1.0.0", "it was begun by the old version and finished by it"
    assert world.version() == "1.1.0"
    states = states_of(world, 2)
    assert states[states.index("draining") :] == ["draining", "switching", "trial", "idle"]
    assert not (world.agent.root / "state" / "smoke_test.log").read_bytes(), "there are never two versions at once"


def test_application_that_never_finishes_is_stopped_when_its_grace_is_over(world: World) -> None:
    stuck = RUDE_APPLICATION.replace('{"in_flight": busy}', '{"in_flight": 1}')
    settle(world, DRAIN + "grace_seconds = 0.5\n", stuck)

    world.order(world.publish("1.1.0", RUDE_APPLICATION), 2)
    world.orchestrator.until_reported("idle", 2)

    assert world.version() == "1.1.0"
    assert "drain.unfinished slot=blue" in world.agent.log.read_text()


def test_rude_application_loses_nothing_behind_a_router_when_it_is_drained(tmp_path: Path) -> None:
    with broker() as port, registry(tmp_path / "registry") as url:
        world = RoutedWorld(tmp_path, port, url)
        try:
            settle(world, DRAIN)
            with clients_of(world.router.port) as clients:
                until(lambda: clients.versions["1.0.0"] > 10)
                world.order(world.publish("1.1.0", RUDE_APPLICATION), 2)
                world.orchestrator.until_reported("idle", 2)
                world.order(world.old, 3, action="rollback")
                world.orchestrator.until_reported("rolled_back", 3)
            assert (clients.failures, set(clients.versions)) == ([], {"1.0.0", "1.1.0"})
        finally:
            world.orchestrator.close()
            world.agent.close()
            world.router.close()


def drained_in(tmp_path: Path, *command: str, grace_seconds: float = 20.0) -> float:
    began = time.monotonic()
    Draining(None, command, grace_seconds, tmp_path / "drain.log").drain("blue", 1, lambda: False)
    return time.monotonic() - began


def test_command_is_run_again_until_it_says_that_nothing_is_left(tmp_path: Path) -> None:
    script = "import os, sys; os.path.exists('asked') and sys.exit(0); open('asked', 'w'); sys.exit(75)"

    drained_in(tmp_path, "python3", "-S", "-c", script)

    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("command", "reason"),
    [(("sleep", "60"), "it had not ended after"), (("sh", "-c", "exit 3"), "sh ended with 3"),
     (("/no/such/command",), "No such file or directory")],
)  # fmt: skip
def test_command_that_fails_or_hangs_does_not_keep_the_device(
    tmp_path: Path, command: tuple[str, ...], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert drained_in(tmp_path, *command, grace_seconds=0.3) < 10

    assert reason in caplog.text


def test_application_that_is_gone_needs_no_draining(tmp_path: Path) -> None:
    began = time.monotonic()

    Draining("/drain", None, 20.0, tmp_path / "log").drain("blue", free_port(), lambda: False)

    assert time.monotonic() - began < 10
