"""A real guardian and a real router: after a restoration clients reach what serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters.boot import boot_seconds
from device_client.adapters.layout import ROUTER
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.router import Router
from device_client.adapters.runtime import Runtime
from device_client.guardian.decision import Restore, Start, Wait
from device_client.guardian.seen import Patience
from device_client.guardian.settings import Place
from device_client.guardian.watch import Guardian
from tests.device.device_world import free_port, until
from tests.device.guardian_world import TrialDevice, start_guardian
from tests.device.router_world import RouterWorld


class RoutedTrial(TrialDevice):
    """Green is on trial at its own port, and clients are led there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.standby_port = free_port()
        self.router = RouterWorld(folder)
        self.config.write_text(
            f'root = "root"\nport = {self.port}\nstandby_port = {self.standby_port}\n{self.router.table()}'
        )
        (self.root / ROUTER).write_text(f"upstream={self.standby_port}")
        self.green = Runtime(self.slots, self.standby_port, boot_seconds)
        self.green.start("green", self.slots.check("green"))
        self.router.start(self.root)
        assert until(self.router.version) == "1.1.0"

    def guardian_with(self, reload: tuple[str, ...]) -> Guardian:
        router = Router(self.root, self.router.folder / "router.template", reload, 5.0)
        self._hosts.append(ProcessHost(self.root))
        ports = {"blue": self.port, "green": self.standby_port}
        return Guardian(Place(self.root, ports, self._hosts[-1], router), Patience())

    def close(self) -> None:
        self.green.stop()
        super().close()
        self.router.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[RoutedTrial]:
    made = RoutedTrial(tmp_path)
    yield made
    made.close()


def test_clients_reach_the_version_that_a_guardian_has_brought_back(device: RoutedTrial, tmp_path: Path) -> None:
    guardian = start_guardian(device.config, log=tmp_path / "log")
    try:
        until(lambda: device.router.version() == "1.0.0")
    finally:
        guardian.kill()
        guardian.wait()

    assert (device.slots.active(), device.running()) == ("blue", ["blue"])


def test_router_that_does_not_reload_is_told_again_with_each_look(device: RoutedTrial) -> None:
    tried = device.root / "state" / "tried"
    guardian = device.guardian_with(("sh", "-c", f"test -e {tried} && kill -HUP $(cat {device.root}/../router.pid)"))

    with pytest.raises(OSError, match="reload: sh ended with 1"):
        guardian.look()
    assert device.slots.active() == "blue"
    tried.touch()

    assert guardian.look() == Start("blue")
    assert until(device.router.version) == "1.0.0"
    assert guardian.look() == Wait()


def test_return_whose_agent_died_before_clients_were_led_over_is_ended_by_a_guardian(device: RoutedTrial) -> None:
    guardian = device.guardian_with(("false",))
    with pytest.raises(OSError, match="reload"):
        assert isinstance(guardian.look(), Restore)
    restarted = device.guardian_with(("sh", "-c", f"kill -HUP $(cat {device.root}/../router.pid)"))

    assert restarted.look() == Start("blue")

    assert until(device.router.version) == "1.0.0"
