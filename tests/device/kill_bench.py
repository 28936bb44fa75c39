"""A device that can be killed at any point, again and again, from the same state."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_client.adapters.processes import find
from device_client.adapters.slots import Slots
from schemas.codec import encode
from schemas.messages import Desired, HealthCheck
from tests.device.device_world import (
    QUICK_APPLICATION,
    AgentProcess,
    ask,
    end_leftovers,
    make_release,
    order_for,
    put,
    registry,
    until,
)

CHECK = HealthCheck(interval_seconds=0.06, timeout_seconds=2.0, success_threshold=2)


@dataclass
class Bench:
    """A driver, a registry, and a device that has 1.0.0 committed."""

    driver: "subprocess.Popen[str]"
    folder: Path
    orders: dict[str, Path]
    count: int = 0

    def run(
        self,
        config: Path,
        order: str,
        kill_at: int | None,
        *,
        may_fail: bool = False,
        traced: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        phases = ["rolled_back" if order == "rollback" else "idle"]
        phases = ["idle", "rolled_back", "failed"] if may_fail else phases
        request = {
            "config": str(config), "desired": str(self.orders[order]), "kill_at": kill_at, "phases": phases,
            "traced": traced,
        }  # fmt: skip
        self.driver.stdin.write(json.dumps(request) + "\n")
        self.driver.stdin.flush()
        answer: dict[str, Any] = json.loads(self.driver.stdout.readline())
        return answer

    def copy_of(self, state: str) -> AgentProcess:
        """Return a device in an earlier state, on ports of its own; nothing of it runs."""
        self.count += 1
        folder = self.folder / f"device-{self.count}"
        folder.mkdir()
        agent = AgentProcess(folder, "mqtt://127.0.0.1:1")
        shutil.copytree(self.folder / state / "root", agent.root, symlinks=True)
        return agent


@contextmanager
def made_bench(folder: Path) -> Iterator[Bench]:
    """Make everything in a folder, and a device in each of the states that a story begins in."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"}
    with registry(folder / "registry") as url:
        changes: dict[str, Any] = {"health_check": CHECK, "min_ready_seconds": 0.05}
        old, new = (make_release(folder, v, application=QUICK_APPLICATION) for v in ("1.0.0", "1.1.0"))
        put(folder / "registry", old)
        put(folder / "registry", new)
        orders = {
            "first": order_for(old, 1, url, **changes),
            "install": order_for(new, 2, url, **changes, commit_on="round_trip"),
            "rollback": order_for(old, 3, url, **changes, action="rollback"),
        }
        with subprocess.Popen(
            [sys.executable, str(here / "device_driver.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        ) as driver:  # fmt: skip
            made = Bench(driver, folder, {name: write(folder, name, order) for name, order in orders.items()})
            for state, before, order in (("first", None, "first"), ("installed", "first", "install")):
                device = made.copy_of(before) if before else empty(folder)
                assert made.run(device.config, order, None)["code"] == 0
                end_leftovers(device.root)
                (folder / state).mkdir()
                shutil.copytree(device.root, folder / state / "root", symlinks=True)
            yield made
            assert driver.stdin is not None
            driver.stdin.close()
            driver.wait(10)


def write(folder: Path, name: str, order: Desired) -> Path:
    path = folder / f"{name}.json"
    path.write_bytes(encode(order))
    return path


def empty(folder: Path) -> AgentProcess:
    (folder / "empty").mkdir()
    return AgentProcess(folder / "empty", "mqtt://127.0.0.1:1")


def unsound(device: AgentProcess, versions: Collection[str]) -> str:
    """Say what is wrong with a device that has come to rest and may serve one of ``versions``; empty if nothing is."""
    slots = Slots(device.root)
    active = slots.active()
    if active is None:
        return "no slot is active"
    version = slots.check(active).version
    if version not in versions:
        return f"slot {active} holds {version}, verified; it may be {sorted(versions)}"
    running = [(slot, role) for _, slot, role in find(device.root)]
    if running != [(active, "serving")]:
        return f"running: {running}, while {active} is active"
    answer = until(lambda: ask(device.port))
    return "" if answer == {"status": "ok", "version": version} else f"it answers {answer}"
