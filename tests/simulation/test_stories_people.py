"""People who decide: approvals that count once, commands that come at the wrong moment, rollbacks that meet."""

from functools import partial

from simulator import Behavior, World, failing, make_scenario
from simulator.materials import NEW_VERSION, OLD_VERSION
from simulator.scenario import ROLLOUT
from tests.simulation.story import (
    bodies,
    canaries,
    codes,
    facts,
    granted,
    places,
    policy_with,
    run,
    running,
    told,
    wave,
    when,
)

LATE = 1500.0
"""The canary has passed its gate and waits for a person."""


def unattended(*, four_eyes: bool = False) -> World:
    """Return a world in which nobody approves by himself."""
    return World(make_scenario(devices=12, approve_after_seconds=None, policy=policy_with(four_eyes=four_eyes)))


def test_approval_is_used_once_when_it_is_given_early_twice_and_for_other_waves() -> None:
    world = unattended()
    alice = world.person
    world.at(300.0, partial(alice.command, "approve", rollout=ROLLOUT, wave="wave-2"))
    world.at(LATE, partial(alice.command, "approve", rollout=ROLLOUT, wave="wave-2"))
    world.at(LATE + 1, partial(alice.approve, ROLLOUT, "canary"))
    world.at(LATE + 2, partial(world.colleague.approve, ROLLOUT, "canary"))
    world.at(LATE + 3, partial(alice.command, "approve", rollout=ROLLOUT, wave="nonesuch"))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert [(fact["wave"], fact["by"]) for fact in bodies(world, "rollout_approved")] == [(0, "alice")]
    answers = [(fact["actor"], fact["code"]) for fact in bodies(world, "command_answered") if fact["verb"] == "approve"]
    assert answers == [
        ("alice", "wrong_phase"),
        ("alice", "conflict"),
        ("alice", ""),
        ("bob", ""),
        ("alice", "not_found"),
    ]
    assert codes(world, "approve").count("already_applied") == 1


def test_approval_comes_too_late_when_the_rollout_was_rejected() -> None:
    world = unattended()
    world.at(LATE, partial(world.colleague.command, "reject", rollout=ROLLOUT, reason="looks odd"))
    world.at(LATE + 600, partial(world.person.command, "approve", rollout=ROLLOUT, wave="canary"))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert set(result.ran[NEW_VERSION]) == set(canaries(world))
    assert running(world) == {OLD_VERSION}
    assert codes(world, "approve") == ["wrong_phase"]
    (order,) = bodies(world, "rollback_ordered")
    assert (order["trigger"], order["by"], order["reason"]) == ("rejected", "bob", "looks odd")


def test_four_eyes_let_the_second_person_approve_and_not_the_one_who_started() -> None:
    world = unattended(four_eyes=True)
    world.at(LATE, partial(world.person.command, "approve", rollout=ROLLOUT, wave="canary"))
    world.at(LATE + 300, partial(world.colleague.approve, ROLLOUT, "canary"))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert codes(world, "approve") == ["four_eyes", "ok"]
    assert [fact["by"] for fact in bodies(world, "rollout_approved")] == ["bob"]
    ((opened_at, _),) = [(at, fact) for at, fact in facts(world, "wave_started") if fact["wave"] == 1]
    assert opened_at >= LATE + 300


def test_devices_in_trial_finish_by_themselves_and_nothing_new_is_granted_when_the_rollout_halts() -> None:
    update = {"max_unavailable": 50.0, "min_available": 50.0}
    policy = policy_with(waves={"auto_rollback": False}, update=update, limits={"max_parallel_deploys": 3})
    world = World(make_scenario(devices=20, policy=policy))
    on_trial: list[set[str]] = []

    def spoil_one() -> None:
        world.devices[wave(world, 2)[0]].plant.spoil(NEW_VERSION, Behavior(starts=False))

    when(world, lambda: world.phase() == "awaiting_approval", spoil_one)
    when(world, lambda: world.phase() == "halted", lambda: on_trial.append(_on_trial(world)))
    world.at(3 * 3600.0, partial(world.person.command, "resume", rollout=ROLLOUT, reason="known bad flash"))
    result = run(world)

    ((halted_at, _),), ((resumed_at, resumed),) = facts(world, "rollout_halted"), facts(world, "rollout_resumed")
    grants = [at for name in world.devices for at in granted(world, name)]
    assert not [at for at in grants if halted_at < at < resumed_at]
    committed = {fact["device"]: at for at, fact in facts(world, "device_committed")}
    assert on_trial[0]
    assert all(halted_at < committed[name] < resumed_at for name in on_trial[0])
    (held,) = [fact["devices"] for fact in bodies(world, "devices_ordered") if fact["action"] == "hold"]
    assert held
    assert on_trial[0].isdisjoint(held)
    assert resumed["excused"] == [wave(world, 2)[0]]
    assert result.outcomes == {ROLLOUT: "completed"}
    assert places(world)["failed"] == [wave(world, 2)[0]]
    assert running(world, *places(world)["committed"]) == {NEW_VERSION}


def _on_trial(world: World) -> set[str]:
    return {name for name, device in world.devices.items() if device.disk.record.trial is not None}


def test_fleet_goes_back_once_when_a_rollback_meets_the_rollback_of_a_wave() -> None:
    world = World(make_scenario(devices=20, policy=policy_with(waves={"soak_minutes": 12.0})))

    def press_twice() -> None:
        for pause in (0.0, 30.0):
            world.at(world.seconds + pause, partial(world.person.command, "rollback", rollout=ROLLOUT))

    when(world, lambda: _has_committed(world, 1), lambda: _spoil(world, [*canaries(world), *wave(world, 1)]))
    when(world, lambda: world.phase() == "rolling_back", press_twice)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert running(world) == {OLD_VERSION}
    orders = bodies(world, "rollback_ordered")
    assert [(order["scope"], order["by"]) for order in orders] == [("wave", "orchestrator"), ("fleet", "alice")]
    assert set(orders[0]["devices"]) == set(wave(world, 1))
    assert set(orders[1]["devices"]) == set(canaries(world))
    assert codes(world, "rollback") == ["ok", "already_applied"]
    ordered_back = [fact["devices"] for fact in bodies(world, "devices_ordered") if fact["action"] == "rollback"]
    assert [len(devices) for devices in ordered_back] == [len(wave(world, 1)), len(canaries(world))]
    assert len(told(world, "device_returned")) == len(told(world, "device_committed"))
    assert len(told(world, "rollout_ended")) == 1


def _has_committed(world: World, number: int) -> bool:
    rollout = world.witness.ledger.rollouts.get(ROLLOUT)
    return rollout is not None and all(rollout.progress[name] == "committed" for name in wave(world, number))


def _spoil(world: World, names: list[str]) -> None:
    for name in names:
        world.devices[name].plant.spoil(NEW_VERSION, failing(0.09))
