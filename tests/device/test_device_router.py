"""A device behind a router: both versions run while clients are led from one to the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters.processes import find
from tests.device.device_world import broker, registry, until
from tests.device.router_world import BUSY_APPLICATION, RouterWorld, clients_of
from tests.device.test_agent_end_to_end import World


class RoutedWorld(World):
    def __init__(self, folder: Path, port: int, url: str) -> None:
        super().__init__(folder, port, url)
        self.router = RouterWorld(folder)
        self.configure(self.router.table())
        self.router.start(self.agent.root)

    def configure(self, tables: str) -> None:
        text = self.agent.config.read_text().partition("\n[")[0]
        self.agent.config.write_text(text + "\n" + tables)

    def running(self) -> list[str]:
        return [slot for _, slot, _ in find(self.agent.root)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RoutedWorld]:
    with broker() as port, registry(tmp_path / "registry") as url:
        made = RoutedWorld(tmp_path, port, url)
        try:
            yield made
        finally:
            made.orchestrator.close()
            made.agent.close()
            made.router.close()


def settle(world: RoutedWorld) -> None:
    """Have 1.0.0 committed and reached by clients."""
    world.agent.start()
    world.old = world.publish("1.0.0", BUSY_APPLICATION)
    world.order(world.old, 1)
    world.orchestrator.until_reported("idle", 1)
    assert world.router.version() == "1.0.0"


def test_no_request_fails_while_clients_are_led_to_the_new_version_and_back(world: RoutedWorld) -> None:
    settle(world)

    with clients_of(world.router.port) as clients:
        until(lambda: clients.versions["1.0.0"] > 10)
        world.order(world.publish("1.1.0", BUSY_APPLICATION), 2)
        world.orchestrator.until_reported("idle", 2)
        seen = clients.versions["1.1.0"]
        assert seen > 0
        assert world.running() == ["green"], "the old version is stopped, and its slot is left as it was"
        world.order(world.old, 3, action="rollback")
        world.orchestrator.until_reported("rolled_back", 3)
        before = clients.versions["1.0.0"]
        until(lambda: clients.versions["1.0.0"] > before)

    assert clients.failures == []
    assert set(clients.versions) == {"1.0.0", "1.1.0"}
    assert world.running() == ["blue"]
    states = [report.state for report in world.orchestrator.reports if report.observed_generation == 2]
    assert "draining" not in states, "nothing that serves was drained before the switch"


def test_router_that_does_not_reload_leaves_the_old_version_serving(world: RoutedWorld) -> None:
    settle(world)
    world.agent.stop()
    world.configure(world.router.table(reload=["false"]))
    world.agent.start()
    until(world.router.version)

    with clients_of(world.router.port) as clients:
        until(lambda: clients.versions["1.0.0"] > 10)
        world.order(world.publish("1.1.0", BUSY_APPLICATION), 2)
        failed = world.orchestrator.until_reported("failed", 2)
        until(lambda: world.running() == ["blue"])

    assert failed.error is not None
    assert (failed.error.code, failed.error.step, failed.installed_version) == ("router_failed", "route", "1.0.0")
    assert (clients.failures, set(clients.versions)) == ([], {"1.0.0"})
    assert (world.agent.root / "active").readlink() == Path("blue")


def test_router_that_leads_elsewhere_is_noticed_at_the_public_port(world: RoutedWorld) -> None:
    settle(world)
    world.agent.stop()
    world.configure(world.router.table(reload=["true"], timeout_seconds=0.5))
    world.agent.start()

    world.order(world.publish("1.1.0", BUSY_APPLICATION), 2)
    failed = world.orchestrator.until_reported("failed", 2)

    assert failed.error is not None
    assert failed.error.code == "router_failed"
    assert "answers as 1.0.0, not as 1.1.0" in failed.error.message
    assert until(world.router.version) == "1.0.0"


def test_router_is_told_again_after_a_restart_whatever_its_file_says(world: RoutedWorld) -> None:
    settle(world)
    world.agent.kill()
    (world.agent.root / "router.conf").write_text("upstream=1")
    world.router.close()
    world.router.start(world.agent.root)
    assert world.router.version() is None

    world.agent.start()

    assert until(world.router.version) == "1.0.0"


def test_router_that_comes_up_later_than_the_agent_is_led_to_what_serves(world: RoutedWorld) -> None:
    settle(world)
    world.agent.kill()
    world.router.close()
    (world.agent.root / "router.conf").write_text("upstream=1")
    world.configure(world.router.table(timeout_seconds=0.3))

    world.agent.start()
    until(lambda: "code=router_failed" in world.agent.log.read_text())
    (world.agent.root / "router.conf").write_text("upstream=1")
    world.router.start(world.agent.root)

    assert until(world.router.version) == "1.0.0"
