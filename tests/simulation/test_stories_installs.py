"""Single devices on their way: when they may, what is tried again, and what takes too long."""

from dataclasses import replace

from schemas.windows import MaintenanceWindow
from simulator import Behavior, World, make_scenario
from simulator.materials import NEW_VERSION, OLD_VERSION, make_fleet
from simulator.scenario import ROLLOUT
from tests.simulation.story import bodies, canaries, facts, granted, hour, places, policy_with, run, running, wave, when


def test_device_is_updated_in_the_maintenance_window_of_its_own_night() -> None:
    night = {"Asia/Tokyo": {17, 18, 19}, "America/New_York": {6, 7, 8}, None: {1, 2, 3}}  # in UTC, in March
    fleet = tuple(replace(spec, time_zone=zone) for spec, zone in zip(make_fleet(3), night, strict=True))
    window = MaintenanceWindow(start="02:00", end="05:00", time_zone="Europe/Berlin")
    world = World(make_scenario(devices=fleet, policy=policy_with(maintenance_window=window)))
    when(world, lambda: world.phase() == "completed", lambda: None)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    for spec in fleet:
        assert {hour(at) for at in granted(world, spec.id)} <= night[spec.time_zone], spec.time_zone
    assert result.virtual_seconds > 12 * 3600


def test_download_that_fails_is_tried_again_and_a_bad_release_is_not() -> None:
    update = {"max_unavailable": 50.0, "min_available": 50.0}
    policy = policy_with(waves={"failure_threshold_percent": 60.0}, update=update)
    world = World(make_scenario(devices=24, policy=policy))
    names: list[str] = []

    def spoil() -> None:
        names.extend(wave(world, 2)[:2])
        world.devices[names[0]].plant.step_failure = 1.0
        world.devices[names[1]].plant.spoil(NEW_VERSION, Behavior(starts=False))

    def repair() -> None:
        world.devices[names[0]].plant.step_failure = 0.0

    when(world, lambda: world.phase() == "awaiting_approval", spoil)
    when(world, lambda: bool(world.witness.ledger.rollouts and world.witness.ledger.rollouts[ROLLOUT].attempts), repair)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert [(fact["device"], fact["attempt"]) for fact in bodies(world, "device_retried")] == [(names[0], 1)]
    (failed,) = bodies(world, "device_failed")
    assert (failed["device"], failed["code"]) == (names[1], "smoke_test_failed")
    assert places(world)["failed"] == [names[1]]
    assert running(world, names[0]) == {NEW_VERSION}
    assert running(world, names[1]) == {OLD_VERSION}


def test_device_that_dies_in_its_trial_has_failed_after_the_deploy_timeout() -> None:
    world = World(make_scenario(devices=12))
    dead: list[str] = []

    def die() -> None:
        dead.append(min(_on_trial(world)))
        world.devices[dead[0]].vanish()

    when(world, lambda: bool(_on_trial(world)), die)
    result = run(world)

    ((failed_at, failed),) = facts(world, "device_failed")
    assert (failed["device"], failed["code"], failed["version"]) == (dead[0], "deploy_timeout", None)
    assert 600 < failed_at - granted(world, dead[0])[0] <= 660
    assert set(dead) < set(canaries(world))
    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert bodies(world, "rollback_verified")[-1]["not_back"] == dead


def _on_trial(world: World) -> set[str]:
    return {name for name, device in world.devices.items() if device.disk.record.trial is not None}
