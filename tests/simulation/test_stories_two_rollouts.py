"""Two rollouts: they never share a device, and a newer one may take the place of an older."""

from functools import partial
from typing import Any

from simulator import World, make_scenario
from simulator.materials import NEW_VERSION, NEXT_RELEASE, NEXT_VERSION
from simulator.scenario import POLICY, ROLLOUT
from tests.simulation.story import bodies, codes, facts, policy_with, run, running, told, when

SECOND = "r-002"


def start_second(world: World, **fields: Any) -> None:  # noqa: ANN401 - the fields of the command
    chosen = {"release": NEXT_RELEASE, "policy": POLICY, **fields}
    world.colleague.command("start", rollout=SECOND, **chosen)


def test_second_rollout_begins_when_the_first_is_over_because_they_share_no_device() -> None:
    world = World(make_scenario(devices=12))
    world.at(600.0, partial(start_second, world))
    when(world, lambda: world.phase(SECOND) == "awaiting_approval", partial(world.person.approve, SECOND))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed", SECOND: "completed"}
    assert running(world) == {NEXT_VERSION}
    *refused, last = codes(world, "start")[1:]
    assert set(refused) == {"conflict"}
    assert last == "ok"
    order = [(fact["rollout"], fact["kind"]) for _, fact in facts(world, "rollout_started", "rollout_ended")]
    assert order == [(name, kind) for name in (ROLLOUT, SECOND) for kind in ("rollout_started", "rollout_ended")]


def test_two_rollouts_run_at_once_when_each_has_its_own_region() -> None:
    here, there = (policy_with(targets=f'region == "{region}"') for region in ("eu-north", "us-east"))
    world = World(make_scenario(devices=24, policy=here))
    world.at(60.0, partial(start_second, world, policy=there.model_dump(mode="json")))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed", SECOND: "completed"}
    first, second = (set(world.witness.ledger.rollouts[name].progress) for name in (ROLLOUT, SECOND))
    assert first.isdisjoint(second)
    assert first | second == set(world.devices)
    assert running(world, *first) == {NEW_VERSION}
    assert running(world, *second) == {NEXT_VERSION}
    started = [at for at, _ in facts(world, "rollout_started")]
    assert max(started) < min(at for at, _ in facts(world, "rollout_ended"))


def test_newer_rollout_takes_the_place_of_an_older_one_for_all_to_see() -> None:
    world = World(make_scenario(devices=12))
    when(world, lambda: _wave_of(world) == 2, partial(start_second, world, supersede=True))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "superseded", SECOND: "completed"}
    assert running(world) == {NEXT_VERSION}
    ended = bodies(world, "rollout_ended")[0]
    assert (ended["rollout"], ended["outcome"], ended["by"]) == (ROLLOUT, "superseded", "bob")
    assert ended["reason"] == f"superseded by {SECOND}"
    ((began_at, _),) = [(at, fact) for at, fact in facts(world, "rollout_started") if fact["rollout"] == SECOND]
    grants = [(at, fact) for at, fact in facts(world, "grant_issued") if fact["step"] == "activate"]
    assert not [at for at, fact in grants if fact["rollout"] == ROLLOUT and at > began_at]
    assert len(result.ran[NEW_VERSION]) < 12


def test_rollout_of_lower_priority_does_not_take_the_place_of_another() -> None:
    world = World(make_scenario(devices=12, policy=policy_with(priority=5)))
    weaker = policy_with(priority=4).model_dump(mode="json")
    world.at(600.0, partial(start_second, world, policy=weaker, supersede=True))
    result = run(world)

    assert result.outcomes[ROLLOUT] == "completed"
    assert "conflict" in codes(world, "start")
    assert told(world, "rollout_started", "rollout_ended")[:2] == ["rollout_started", "rollout_ended"]


def _wave_of(world: World) -> int:
    rollout = world.witness.ledger.rollouts.get(ROLLOUT)
    return -1 if rollout is None else rollout.wave
