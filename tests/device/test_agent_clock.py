"""A real agent whose wall clock says that it is 1970: nothing it decides asks that clock."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.messages import Desired
from tests.device.device_world import (
    QUICK_APPLICATION,
    AgentProcess,
    Orchestrator,
    broker,
    make_release,
    order_for,
    put,
    registry,
)

IN_1970 = """
import sys, time
real, begun = time.time, time.time()
time.time = lambda: real() - begun
from device_client.__main__ import main
sys.exit(main())
"""
"""The agent, with another wall clock."""


@dataclass
class World:
    folder: Path
    url: str
    agent: AgentProcess
    orchestrator: Orchestrator

    def order(self, generation: int, version: str, *, not_before: str | None, not_after: str | None) -> Desired:
        built = make_release(self.folder, version, application=QUICK_APPLICATION)
        put(self.folder / "registry", built)
        desired = order_for(built, generation, self.url, not_before=not_before, not_after=not_after)
        self.orchestrator.order(desired)
        return desired


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with broker() as port, registry(tmp_path / "registry") as url:
        made = World(tmp_path, url, AgentProcess(tmp_path, f"mqtt://127.0.0.1:{port}"), Orchestrator(port, "pi-1"))
        made.agent.command = [sys.executable, "-c", IN_1970]
        made.agent.start()
        try:
            yield made
        finally:
            made.orchestrator.close()
            made.agent.close()


def test_device_in_1970_keeps_the_windows_of_the_time_that_grants_tell(world: World) -> None:
    world.order(1, "1.0.0", not_before="2026-11-23T09:00:00Z", not_after="2026-11-23T11:00:00Z")
    installed = world.orchestrator.until_reported("idle", 1)
    assert installed.installed_version == "1.0.0"
    assert installed.ts is not None
    assert installed.ts.startswith("1970-01-01"), "for people it says what its clock says"

    world.order(2, "1.1.0", not_before="1970-01-01T00:00:00Z", not_after="2026-11-23T09:59:59Z")
    expired = world.orchestrator.until_reported("failed", 2)
    assert expired.error is not None
    assert (expired.error.code, expired.installed_version) == ("expired", "1.0.0")

    world.order(3, "1.2.0", not_before="2026-11-23T10:00:01Z", not_after=None)
    waiting = world.orchestrator.until_reported("waiting", 3)
    assert waiting.installed_version == "1.0.0"
    assert world.agent.ask()["version"] == "1.0.0"
