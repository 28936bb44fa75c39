"""Rollouts told as stories: one thing goes wrong, and the fleet ends where it should. The other modules have themes."""

from random import Random

import pytest

from orchestrator.core.members import Progress
from schemas.codec import encode
from schemas.messages import Reported
from schemas.topics import RULES, Kind, TopicTree
from simulator import Behavior, Faults, World, crashing, failing, make_scenario
from simulator.application import Counters, health_sample
from simulator.materials import NEW_VERSION, OLD_VERSION, careful_policy
from simulator.scenario import ROLLOUT
from tests.simulation.story import canaries, run, running


def test_good_release_reaches_all_devices_after_its_approval() -> None:
    world = World(make_scenario(devices=12))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "completed"}
    assert len(result.ran[NEW_VERSION]) == 12
    assert running(world) == {NEW_VERSION}


def test_good_release_reaches_a_hundred_devices_when_the_careful_policy_is_unscaled() -> None:
    world = World(make_scenario(devices=100, policy=careful_policy()))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "completed"}
    assert len(result.ran[NEW_VERSION]) == 100
    assert result.virtual_seconds > 3600 + 35 * 60


def test_bad_release_is_stopped_at_the_canary_when_it_crashes() -> None:
    world = World(make_scenario(devices=12, release=crashing(0.5)))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert set(result.ran[NEW_VERSION]) <= set(canaries(world))
    assert result.ran[NEW_VERSION]
    assert running(world) == {OLD_VERSION}


def test_rollout_waits_for_ever_when_nobody_approves() -> None:
    world = World(make_scenario(devices=12, approve_after_seconds=None))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "awaiting_approval"}
    assert set(result.ran[NEW_VERSION]) == set(canaries(world))


def test_silent_release_is_halted_when_there_is_no_evidence() -> None:
    result = run(World(make_scenario(devices=12, release=Behavior(silent_after_seconds=0.0))))
    assert result.outcomes == {ROLLOUT: "halted"}


def test_rollout_completes_when_the_orchestrator_dies_between_append_and_publish() -> None:
    world = World(make_scenario(devices=12))

    def die(chance: float) -> None:
        world.orchestrator.crash = chance

    for start in range(0, 1200, 200):
        world.at(start, lambda: die(1.0))
        world.at(start + 31, lambda: die(0.0))
    result = run(world)
    assert sum("is killed" in line for line in result.trace) > 3
    assert result.outcomes == {ROLLOUT: "completed"}


def test_all_devices_go_back_when_errors_spike_in_a_later_wave() -> None:
    world = World(make_scenario(devices=12, release=failing(0.6, after_seconds=1500.0)))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert set(result.ran[NEW_VERSION]) > set(canaries(world))
    assert running(world) == {OLD_VERSION}


def test_nothing_is_activated_while_the_brake_is_on() -> None:
    world = World(make_scenario(devices=12))
    world.at(0.0, lambda: world.person.brake(on=True))
    seen: list[set[str | None]] = []
    world.at(1800.0, lambda: seen.append(running(world)))
    world.at(1801.0, lambda: world.person.brake(on=False))
    result = run(world)
    assert seen == [{OLD_VERSION}]
    assert result.outcomes == {ROLLOUT: "completed"}


def test_rollout_goes_on_when_the_brake_is_released_while_the_orchestrator_is_away() -> None:
    world = World(make_scenario(devices=12))
    world.at(0.0, lambda: world.person.brake(on=True))
    world.at(300.0, world.orchestrator.cut)
    world.at(300.1, lambda: world.person.brake(on=False))
    assert run(world).outcomes == {ROLLOUT: "completed"}


def test_brake_holds_when_the_orchestrator_loses_its_connection_under_it() -> None:
    world = World(make_scenario(devices=12))
    world.at(0.0, lambda: world.person.brake(on=True))
    world.at(300.0, world.orchestrator.cut)
    world.at(1800.0, lambda: None)
    run(world)
    engine = world.orchestrator.engine
    assert engine is not None
    assert engine.state.is_held
    assert running(world) == {OLD_VERSION}


def test_power_cut_in_every_trial_leaves_the_fleet_whole() -> None:
    world = World(make_scenario(devices=12))
    for name in world.devices:
        world.at(140.0, lambda name=name: world.devices[name].cut_power(30.0))  # type: ignore[misc] # binds the name
    result = run(world)
    assert result.outcomes[ROLLOUT] in {"completed", "rolled_back"}
    assert None not in running(world)


@pytest.mark.parametrize(
    "faults", [Faults(broker_keeps_sessions=False, broker_keeps_retained=False), Faults(broker_rewinds=True)]
)
def test_fleet_is_told_again_when_the_broker_forgets_everything_or_the_last_minutes(faults: Faults) -> None:
    world = World(make_scenario(devices=12, faults=faults))
    for moment in (600.0, 870.0, 1200.0):  # soaking, and in the middle of two waves
        world.at(moment, lambda: world.network.restart_broker(20.0))
    result = run(world)
    assert result.outcomes == {ROLLOUT: "completed"}
    engine = world.orchestrator.engine
    assert engine is not None
    rollout = engine.state.rollouts[ROLLOUT]
    assert rollout.counts(Progress.COMMITTED) == 12


def test_device_that_speaks_for_others_changes_nothing() -> None:
    honest, forged = World(make_scenario(devices=12)), World(make_scenario(devices=12))
    forger, tree = forged.devices["d-0005"], TopicTree()

    def forge() -> None:
        for victim in ("d-0000", "d-0003"):
            report = Reported(observed_generation=1 + 1, seq=9, state="failed", boot_id="x", installed_version="0.0.1")
            sample = health_sample(
                None, Counters(), seq=99, boot_id="x", version=NEW_VERSION, now=forged.clock.now, rng=Random(1)
            )
            for kind, payload in ((Kind.REPORTED, encode(report)), (Kind.HEALTH, sample), (Kind.DESIRED, b"")):
                forger.client.publish(tree.build(kind, device=victim), payload, qos=1, retain=RULES[kind].retained)

    for moment in range(0, 1200, 100):
        forged.at(moment, forge)
    assert run(forged).outcomes == run(honest).outcomes == {ROLLOUT: "completed"}
    assert [line for line in forged.trace.lines if "d-0005" not in line] == [
        line for line in honest.trace.lines if "d-0005" not in line
    ]
