"""Keys that change and releases that are revoked while a rollout goes on."""

from functools import partial

from device_client.core.machine import Phase
from simulator import Faults, World, make_scenario
from simulator.materials import NEW_RELEASE, NEW_VERSION, OLD_VERSION
from simulator.scenario import ROLLOUT
from tests.simulation.story import bodies, facts, places, run, running, when

WITH_ROOTS = Faults(key_changes_per_hour=1e-9, stop_seconds=60.0)
"""Devices are given a trust root, and nothing happens by chance."""


def fleet_with_roots(devices: int = 6) -> World:
    return World(make_scenario(devices=devices, faults=WITH_ROOTS))


def some(world: World, phase: Phase) -> list[str]:
    return [name for name, device in world.devices.items() if device.disk.record.phase is phase]


def test_rollout_goes_on_when_the_command_key_changes_while_devices_wait_for_their_go() -> None:
    world = fleet_with_roots()
    keys = [world.authority.command_key]

    def change() -> None:
        world.authority.begin_change()
        world.at(world.seconds + 60.0, world.authority.take_over)
        world.at(world.seconds + 60.0, partial(world.orchestrator.kill, 5.0))
        world.at(world.seconds + 120.0, world.authority.end_change)

    when(world, lambda: bool(some(world, Phase.WAITING)), change)
    result = run(world)

    assert world.authority.command_key not in keys
    assert {device.disk.root.version for device in world.devices.values() if device.disk.root} == {3}
    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}


def test_nobody_obeys_an_orchestrator_that_goes_on_with_the_old_key() -> None:
    world = fleet_with_roots()

    def change() -> None:
        world.authority.begin_change()
        world.authority.take_over()
        world.authority.end_change()
        world.at(world.seconds + 300.0, partial(world.orchestrator.kill, 5.0))

    world.at(0.0, change)
    seen: list[set[str | None]] = []
    when(world, lambda: world.seconds > 290.0, lambda: seen.append(running(world)))
    run(world)

    assert facts(world, "grant_issued")[0][0] < 290.0, "it was let go, and did not believe it"
    assert seen == [{OLD_VERSION}]
    assert running(world) == {NEW_VERSION}


def test_release_that_is_revoked_on_trial_is_left_by_everybody_and_taken_by_nobody_else() -> None:
    world = fleet_with_roots()
    tried: list[str] = []

    def revoke() -> None:
        tried.extend(name for name, truth in world.witness.truths.items() if NEW_VERSION in truth.ran)
        world.authority.revoke(NEW_RELEASE)

    when(world, lambda: bool(some(world, Phase.TRIAL)), revoke)
    result = run(world)

    assert tried
    assert result.ran[NEW_VERSION] == tuple(tried)
    assert running(world) == {OLD_VERSION}
    assert {fact["code"] for fact in bodies(world, "device_failed")} == {"revoked"}
    assert places(world)["returned"] == tried
