"""The agent is killed at every point of an install, of a rollback, and again while it recovers.

Real files, real processes, and the product's own wiring; only the bus is local. Afterwards there is always one active
and verified slot, exactly one application process, and the order is carried out.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device_client.adapters.layout import ROUTER
from tests.device.device_driver import KILLED
from tests.device.device_world import AgentProcess, end_leftovers
from tests.device.kill_bench import Bench, made_bench, unsound
from tests.device.router_world import RouterWorld

PARTS = 6


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with made_bench(tmp_path_factory.mktemp("kill")) as made:
        yield made


@pytest.mark.parametrize("part", range(PARTS))
def test_install_survives_a_kill_at_every_point(bench: Bench, part: int) -> None:
    check_every_point(bench, "first", "install", "1.1.0", part)


def test_install_from_chunks_survives_a_kill_at_every_point(bench: Bench) -> None:
    check_every_point(bench, "first", "install_chunks", "1.1.0", 0)


@pytest.mark.parametrize("part", range(PARTS))
def test_rollback_survives_a_kill_at_every_point(bench: Bench, part: int) -> None:
    check_every_point(bench, "installed", "rollback", "1.0.0", part)


def check_every_point(bench: Bench, state: str, order: str, version: str, part: int) -> None:
    points = count_points(bench, state, order)
    assert points > 20
    for kill_at in range(2 * part, points, 2 * PARTS):  # a point after an effect is the point before the next
        device = bench.copy_of(state)
        try:
            codes = [bench.run(device.config, order, at)["code"] for at in (kill_at, kill_at // 3, None)]
            assert codes[0] == KILLED or kill_at > points - 5, "the last ones race with the end"
            assert codes[1] in (0, KILLED), "killed again, or done sooner than that"
            assert codes[2] == 0
            assert unsound(device, {version}) == ""
        except AssertionError as error:
            raise AssertionError(f"killed at point {kill_at} of {points}: {error}") from error
        finally:
            end_leftovers(device.root)
            shutil.rmtree(device.root)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("state", "order", "version"), [("first", "install", "1.1.0"), ("installed", "rollback", "1.0.0")]
)
def test_change_behind_a_router_survives_a_kill_at_every_point(
    bench: Bench, state: str, order: str, version: str, part: int
) -> None:
    change = "switching" if order == "install" else "rolling_back"
    with routed_copy(bench, state) as (device, _):
        begins = bench.run(device.config, order, None, until=change)["points"]
    kill_at = begins - 6 + part * 2  # a point after an effect is the point before the next
    while True:
        with routed_copy(bench, state) as (device, router):
            first = bench.run(device.config, order, kill_at)
            assert first["code"] in (0, KILLED)
            assert bench.run(device.config, order, None)["code"] == 0, f"killed at point {kill_at}"
            assert unsound(device, {version}, router.port) == "", f"killed at point {kill_at}"
        if first["code"] == 0:
            break
        kill_at += PARTS * 2
    assert kill_at > begins + 20


@contextmanager
def routed_copy(bench: Bench, state: str) -> Iterator[tuple[AgentProcess, RouterWorld]]:
    """Give a device in an earlier state and a router before it, which leads nowhere yet."""
    device = bench.copy_of(state)
    router = RouterWorld(device.root.parent)
    device.config.write_text(device.config.read_text() + router.table())
    (device.root / ROUTER).write_text("upstream=1")
    router.start(device.root)
    try:
        yield device, router
    finally:
        router.close()
        end_leftovers(device.root)
        shutil.rmtree(device.root)


def count_points(bench: Bench, state: str, order: str) -> int:
    device = bench.copy_of(state)
    answer = bench.run(device.config, order, None)
    end_leftovers(device.root)
    assert answer["code"] == 0
    points: int = answer["points"]
    return points
