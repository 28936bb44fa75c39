"""The agent is killed at every point of an install, of a rollback, and again while it recovers.

Real files, real processes, and the product's own wiring; only the bus is local. Afterwards there is always one active
and verified slot, exactly one application process, and the order is carried out.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device_client.adapters.processes import find
from device_client.adapters.slots import Slots
from schemas.codec import encode
from schemas.messages import Desired, HealthCheck
from tests.device.device_driver import KILLED
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
PARTS = 6


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


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with made_bench(tmp_path_factory.mktemp("kill")) as made:
        yield made


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


@pytest.mark.parametrize("part", range(PARTS))
def test_install_survives_a_kill_at_every_point(bench: Bench, part: int) -> None:
    check_every_point(bench, "first", "install", "1.1.0", part)


@pytest.mark.parametrize("part", range(PARTS))
def test_rollback_survives_a_kill_at_every_point(bench: Bench, part: int) -> None:
    check_every_point(bench, "installed", "rollback", "1.0.0", part)


def check_every_point(bench: Bench, state: str, order: str, version: str, part: int) -> None:
    points = count_points(bench, state, order)
    assert points > 20
    for kill_at in range(part, points, PARTS):
        device = bench.copy_of(state)
        try:
            codes = [bench.run(device.config, order, at)["code"] for at in (kill_at, kill_at // 3, None)]
            assert codes[0] == KILLED or kill_at > points - 5, "the last ones race with the end"
            assert codes[1] in (0, KILLED), "killed again, or done sooner than that"
            assert codes[2] == 0
            assert_sound(device, version)
        except AssertionError as error:
            raise AssertionError(f"killed at point {kill_at} of {points}: {error}") from error
        finally:
            end_leftovers(device.root)
            shutil.rmtree(device.root)


def count_points(bench: Bench, state: str, order: str) -> int:
    device = bench.copy_of(state)
    answer = bench.run(device.config, order, None)
    end_leftovers(device.root)
    assert answer["code"] == 0
    points: int = answer["points"]
    return points


def assert_sound(device: AgentProcess, version: str) -> None:
    slots = Slots(device.root)
    active = slots.active()
    assert active is not None, "one slot is active"
    assert slots.check(active).version == version, "and it is verified"
    processes = find(device.root)
    assert [(slot, role) for _, slot, role in processes] == [(active, "serving")], "exactly one application runs"
    assert until(lambda: ask(device.port)) == {"status": "ok", "version": version}
