"""A broker turns hostile in the middle of a rollout. It can stop things; it cannot make anything run."""

from collections import Counter
from collections.abc import Sequence

import pytest

from simulator import World, failing, make_scenario
from simulator.materials import NEW_VERSION, OLD_VERSION
from simulator.scenario import ROLLOUT
from tests.simulation.hostile_broker import (
    HostileBroker,
    Trick,
    forges,
    misdelivers,
    reorders,
    repeats,
    replays,
    rewinds,
    withholds,
)
from tests.simulation.story import bodies, canaries, run, running

HOSTILE_SECONDS = 1800.0


@pytest.mark.parametrize("trick", [reorders, repeats, replays])
def test_rollout_goes_on_as_it_should_when_a_broker_repeats_reorders_or_replays(trick: Trick) -> None:
    world = World(make_scenario(devices=6))
    broker = HostileBroker(world, trick)

    result = run(world)

    assert broker.tampered > 10
    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}


def test_orders_of_others_are_prepared_for_but_never_activated() -> None:
    world = World(make_scenario(devices=6))
    broker = HostileBroker(world, misdelivers)

    result = world.run()

    assert broker.tampered > 10
    # That orders come from the journal is what such a broker breaks, and all that it breaks.
    assert accused(result.violations) == {"INV-16 journal first"}
    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}


def test_nothing_forged_ever_runs_and_what_it_costs_is_the_canary() -> None:
    world = World(make_scenario(devices=6))
    broker = HostileBroker(world, forges)
    world.at(HOSTILE_SECONDS, broker.stop)

    result = run(world)

    assert broker.tampered > 10
    assert set(result.ran) <= {OLD_VERSION, NEW_VERSION}
    assert set(result.ran.get(NEW_VERSION, ())) <= set(canaries(world))
    assert result.outcomes == {ROLLOUT: "rolled_back"}


def test_rollout_halts_for_a_person_when_grants_and_reports_are_withheld() -> None:
    world = World(make_scenario(devices=6))
    broker = HostileBroker(world, withholds)
    world.at(HOSTILE_SECONDS, broker.stop)

    result = run(world)

    assert broker.tampered > 10
    assert result.outcomes == {ROLLOUT: "halted"}


def test_devices_that_are_never_told_to_go_back_are_named_and_quarantined() -> None:
    world = World(make_scenario(devices=6, release=failing(0.6, after_seconds=600.0)))
    broker = HostileBroker(world, rewinds)

    result = world.run()

    assert broker.tampered > 0
    assert accused(result.violations) == {"INV-25 liveness"}
    deaf = {fact["device"] for fact in bodies(world, "device_quarantined")}
    assert deaf == set(result.ran[NEW_VERSION])
    assert all(activated == 1 for activated in Counter(granted_devices(world)).values())


def accused(violations: Sequence[str]) -> set[str]:
    """Return which invariants were broken."""
    return {each.split(maxsplit=1)[1].split(":")[0] for each in violations}


def granted_devices(world: World) -> list[str]:
    return [fact["device"] for fact in bodies(world, "grant_issued") if fact["step"] == "activate"]
