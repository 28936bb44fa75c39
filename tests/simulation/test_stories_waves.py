"""Waves and their members: small fleets, members that are away, late, or new."""

import pytest

from simulator import Behavior, World, make_scenario
from simulator.materials import NEW_VERSION, OLD_VERSION
from simulator.scenario import ROLLOUT
from tests.simulation.story import (
    bodies,
    facts,
    gates,
    granted,
    places,
    run,
    running,
    wave,
    when,
)

HOUR = 3600.0


@pytest.mark.parametrize(("devices", "sizes"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 1, 1]), (5, [2, 1, 2])])
def test_small_fleet_is_reached_in_small_waves(devices: int, sizes: list[int]) -> None:
    world = World(make_scenario(devices=devices))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}
    assert [len(wave.members) for wave in world.witness.ledger.rollouts[ROLLOUT].plan.waves] == sizes
    assert [decision for _, _, decision in gates(world) if decision != "extend"] == [
        "await_approval", *["proceed"] * (len(sizes) - 2), "complete",
    ][-len(sizes):]  # fmt: skip
    assert bodies(world, "gate_judged")[-1]["devices"] == devices


def test_wave_waits_for_somebody_when_all_its_members_are_away() -> None:
    world = World(make_scenario(devices=20))

    def leave() -> None:
        for name in wave(world, 1):
            world.devices[name].sleep(2 * HOUR)

    when(world, lambda: world.phase() == "soaking", leave)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    opened = {fact["wave"]: at for at, fact in facts(world, "wave_started")}
    soaks = {fact["wave"]: at for at, fact in facts(world, "soak_started")}
    first = min(at for name in wave(world, 1) for at in granted(world, name))
    assert opened[1] + HOUR < first < soaks[1] < opened[2]
    assert running(world) == {NEW_VERSION}


def test_late_device_is_judged_with_its_own_wave_when_the_rollout_has_gone_on() -> None:
    world = World(make_scenario(devices=20))
    late: list[str] = []

    def leave() -> None:
        late.append(wave(world, 1)[0])
        world.devices[late[0]].sleep(1800.0)
        world.devices[late[0]].plant.spoil(NEW_VERSION, Behavior(starts=False))

    when(world, lambda: world.phase() == "awaiting_approval", leave)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "halted"}
    (failed,) = bodies(world, "device_failed")
    assert (failed["device"], failed["code"]) == (late[0], "smoke_test_failed")
    ((ordered_at, order),) = facts(world, "rollback_ordered")
    assert ordered_at > {fact["wave"]: at for at, fact in facts(world, "wave_started")}[2]
    assert (order["scope"], order["trigger"]) == ("wave", "failure_threshold")
    assert set(order["devices"]) == set(wave(world, 1)) - set(late)
    assert running(world, *wave(world, 1)) == {OLD_VERSION}
    assert "wave-1" in order["reason"]


def test_device_that_appears_during_a_rollout_follows_in_the_last_wave_and_skips_no_gate() -> None:
    newcomer = "d-0011"
    world = World(make_scenario(devices=12, absent=frozenset({newcomer})))
    world.at(700.0, world.devices[newcomer].boot)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    plan = world.witness.ledger.rollouts[ROLLOUT].plan
    assert newcomer not in plan.targets
    ((joined_at, joined),) = facts(world, "devices_joined")
    assert joined["devices"] == [newcomer]
    opened = {fact["wave"]: at for at, fact in facts(world, "wave_started")}
    assert joined_at < opened[2] < opened[3] < granted(world, newcomer)[0]
    assert newcomer in places(world)["committed"]
    assert bodies(world, "gate_judged")[-1]["devices"] == 12
