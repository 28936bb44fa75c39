"""A device that can be killed at any point, again and again, from the same state."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_client.adapters.processes import find
from device_client.adapters.slots import Slots
from schemas.codec import encode
from schemas.messages import Desired, HealthCheck
from tests.device.device_driver import PATIENCE_SECONDS
from tests.device.device_world import (
    QUICK_APPLICATION,
    AgentProcess,
    ask,
    end_leftovers,
    make_release,
    order_for,
    put,
    put_chunks,
    registry,
    until,
)

CHECK = HealthCheck(interval_seconds=0.06, timeout_seconds=2.0, success_threshold=2)
LOST = -1000
"""The code of a run that the driver did not answer for."""
_MARGIN_SECONDS = 30


@dataclass
class Bench:
    """A driver, a registry, and a device that has 1.0.0 committed.

    A driver that dies or does not answer is ended and another takes its place, so that every run has an answer.
    """

    folder: Path
    orders: dict[str, Path]
    driver: "subprocess.Popen[str]" = field(default_factory=lambda: start_driver())  # noqa: PLW0108 - it stands below
    count: int = 0

    def run(
        self,
        config: Path,
        order: str,
        kill_at: int | None,
        *,
        may_fail: bool = False,
        until: str | None = None,
        traced: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        phases = ["rolled_back" if order == "rollback" else "idle"]
        phases = ["idle", "rolled_back", "failed"] if may_fail else phases
        phases = phases if until is None else [until]
        request = {
            "config": str(config), "desired": str(self.orders[order]), "kill_at": kill_at, "phases": phases,
            "traced": traced,
        }  # fmt: skip
        answer: dict[str, Any] | None = self._answer(json.dumps(request))
        if answer is None:
            self.end()
            self.driver = start_driver()
        return answer or {"code": LOST, "points": 0}

    def _answer(self, request: str) -> Any:  # noqa: ANN401 - parsed JSON
        """Return what the driver says; None if it says nothing."""
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        with suppress(OSError, ValueError):
            self.driver.stdin.write(request + "\n")
            self.driver.stdin.flush()
            if select.select([self.driver.stdout], [], [], PATIENCE_SECONDS + _MARGIN_SECONDS)[0]:
                return json.loads(self.driver.stdout.readline())
        return None

    def end(self) -> None:
        """End the driver with all that it started, but for applications."""
        with suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        for stream in (self.driver.stdin, self.driver.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()

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
    with registry(folder / "registry") as url:
        changes: dict[str, Any] = {"health_check": CHECK, "min_ready_seconds": 0.05}
        old, new = (make_release(folder, v, application=QUICK_APPLICATION) for v in ("1.0.0", "1.1.0"))
        put(folder / "registry", old)
        put(folder / "registry", new)
        in_chunks = put_chunks(folder / "registry", new, url)
        orders = {
            "first": order_for(old, 1, url, **changes),
            "install": order_for(new, 2, url, **changes, commit_on="round_trip"),
            "install_chunks": order_for(new, 2, url, **changes, commit_on="round_trip", artifact=in_chunks),
            "rollback": order_for(old, 3, url, **changes, action="rollback"),
        }
        made = Bench(folder, {name: write(folder, name, order) for name, order in orders.items()})
        try:
            for state, before, order in (("first", None, "first"), ("installed", "first", "install")):
                device = made.copy_of(before) if before else empty(folder)
                assert made.run(device.config, order, None)["code"] == 0
                end_leftovers(device.root)
                shutil.copytree(device.root, folder / state / "root", symlinks=True)
            yield made
        finally:
            made.end()


def start_driver() -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"}
    return subprocess.Popen(
        [sys.executable, str(here / "device_driver.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, process_group=0,
    )  # fmt: skip


def write(folder: Path, name: str, order: Desired) -> Path:
    path = folder / f"{name}.json"
    path.write_bytes(encode(order))
    return path


def empty(folder: Path) -> AgentProcess:
    (folder / "empty").mkdir()
    return AgentProcess(folder / "empty", "mqtt://127.0.0.1:1")


def unsound(device: AgentProcess, versions: Collection[str], port: int | None = None) -> str:
    """Say what is wrong with a device that has come to rest and may serve one of ``versions``; empty if nothing is.

    Clients come to ``port``, to the application's own where there is no router.
    """
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
    answer = until(lambda: ask(port or device.port))
    return "" if answer == {"status": "ok", "version": version} else f"it answers {answer}"
