"""Staged rollouts on real device cores: all fetch and install ahead, and only what is activated ever runs."""

from collections import Counter
from functools import partial

from schemas.policy import DistributionPolicy, Policy
from schemas.times import format_timestamp
from simulator import Result, World, make_scenario
from simulator.clock import START_SECONDS
from simulator.materials import NEW_RELEASE, NEW_VERSION, OLD_VERSION
from simulator.scenario import POLICY, ROLLOUT, WARM_UP_SECONDS
from tests.simulation.story import bodies, codes, facts, granted, policy_with, run, running, wave, when

HOUR = 3600.0
SECOND = "r-002"


def staged(activate: str = "manual", limit: int | None = None) -> Policy:
    return policy_with(distribution=DistributionPolicy(activate=activate, max_parallel_downloads=limit))


def are_all_staged(world: World) -> bool:
    return len({fact["device"] for fact in bodies(world, "device_staged")}) == len(world.devices)


def downloads(result: Result) -> Counter[str]:
    """Count how often each device began to download."""
    lines = (line.split(None, 2) for line in result.trace)
    return Counter(who for _, who, what in lines if what.split()[0] == "downloading")


def test_everybody_has_it_before_anybody_runs_it_and_nobody_fetches_twice() -> None:
    world = World(make_scenario(devices=12, policy=staged(), activate_after_seconds=2 * HOUR))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}
    ready = [at for at, _ in facts(world, "device_staged")]
    ((activated_at, activated),) = facts(world, "rollout_activated")
    assert len(ready) == 12
    assert activated["by"] == "alice"
    assert max(ready) < HOUR < activated_at < min(at for name in world.devices for at in granted(world, name))
    assert set(downloads(result).values()) == {1}
    assert max(granted(world, wave(world, 0)[0])) - activated_at < 120  # it was woken, and need not fetch


def test_so_many_fetch_at_once_as_the_policy_says() -> None:
    world = World(make_scenario(devices=12, policy=staged(limit=3)))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    fetching, most = 0, 0
    for _, fact in facts(world, "devices_ordered", "device_staged"):
        fetching += len(fact["devices"]) * fact.get("ahead", False) if "devices" in fact else -1
        most = max(most, fetching)
    assert most == 3


def test_who_sleeps_while_it_is_activated_goes_when_it_is_back() -> None:
    world = World(make_scenario(devices=12, policy=staged(), activate_after_seconds=None))
    sleepers: list[str] = []

    def sleep_and_activate() -> None:
        sleepers.extend(wave(world, 1)[:1])
        world.devices[sleepers[0]].sleep(4 * HOUR)
        world.at(world.seconds + 60.0, partial(world.colleague.activate, ROLLOUT))

    when(world, lambda: are_all_staged(world), sleep_and_activate)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    ((activated_at, _),) = facts(world, "rollout_activated")
    assert min(granted(world, sleepers[0])) > activated_at + 3 * HOUR
    assert downloads(result)[sleepers[0]] == 1


def test_what_was_staged_for_an_aborted_rollout_harms_nobody_and_is_found_by_the_next() -> None:
    world = World(make_scenario(devices=12, policy=staged(), activate_after_seconds=None))
    again = {"release": NEW_RELEASE, "policy": POLICY, "rollout": SECOND, "activate": "at_once"}
    seen: list[set[str | None]] = []

    def go_on() -> None:
        seen.append(running(world))
        world.colleague.command("start", **again)

    when(world, lambda: are_all_staged(world), partial(world.person.command, "abort", rollout=ROLLOUT))
    when(world, lambda: world.phase() == "aborted", lambda: world.at(world.seconds + 600.0, go_on))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "aborted", SECOND: "completed"}
    assert seen == [{OLD_VERSION}]
    assert set(downloads(result).values()) == {1}


def test_a_moment_activates_it_and_a_person_comes_too_late() -> None:
    begins = format_timestamp(START_SECONDS + WARM_UP_SECONDS + HOUR)
    world = World(make_scenario(devices=6, policy=staged(begins), activate_after_seconds=HOUR + 600.0))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    ((activated_at, activated),) = facts(world, "rollout_activated")
    assert activated["by"] == "orchestrator"
    assert HOUR <= activated_at <= HOUR + 60
    assert codes(world, "activate") == ["already_applied"]
