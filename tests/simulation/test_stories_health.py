"""Devices that are not healthy while others are updated: how many healthy ones must stay, and who waits for whom."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from orchestrator.core.explain import explain_device, explain_rollout
from simulator import Behavior, World, make_scenario
from simulator.application import GOOD
from simulator.materials import NEW_VERSION, OLD_VERSION
from simulator.scenario import ROLLOUT
from tests.simulation.story import facts, granted, policy_with, run, running, wave, when

ILL = Behavior(sick_after_seconds=0.0)
HOUR = 3600.0
UPDATE = {"max_unavailable": 20.0, "min_available": 80.0}
"""Of twenty devices four may be anything but healthy."""


def falls_ill(
    ill: int, *, of_wave: int = 3, mended_after_seconds: float | None = HOUR, update: Mapping[str, float] = UPDATE
) -> tuple[World, list[str]]:
    """Return a world in which some devices of a wave fall ill on the old version when the canary is proven."""
    world = World(make_scenario(devices=20, policy=policy_with(update=update)))
    names: list[str] = []

    def behave(behavior: Behavior) -> None:
        for name in names:
            world.devices[name].plant.spoil(OLD_VERSION, behavior)

    def fall_ill() -> None:
        names.extend(wave(world, of_wave)[:ill])
        behave(ILL)
        if mended_after_seconds is not None:
            world.at(world.seconds + mended_after_seconds, partial(behave, GOOD))

    when(world, lambda: world.phase() == "awaiting_approval", fall_ill)
    return world, names


def engine_of(world: World) -> Any:  # noqa: ANN401 - the product's engine
    assert world.orchestrator.engine is not None
    return world.orchestrator.engine


def activated(world: World) -> list[tuple[float, dict[str, Any]]]:
    """Return all that let a device begin, each with its second."""
    return [(at, each) for at, each in facts(world, "grant_issued") if each["step"] == "activate"]


def test_healthy_devices_wait_while_too_many_others_are_ill_and_go_on_when_they_are_well() -> None:
    world, ill = falls_ill(4)
    told: list[str] = []

    def ask() -> None:
        state, now = engine_of(world).state, world.clock.now
        rollout = state.rollouts[ROLLOUT]
        told.append(explain_rollout(state, rollout, now, allowed=())["awaited"]["text"])
        told.append(explain_device(state, rollout, wave(world, 1)[0], now)["awaited"]["text"])

    when(world, lambda: bool(ill), lambda: world.at(world.seconds + HOUR / 2, ask))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}
    opened = {fact["wave"]: at for at, fact in facts(world, "wave_started")}
    first = min(at for name in wave(world, 1) for at in granted(world, name))
    assert first > opened[1] + HOUR - 600
    assert all(
        "4 are not seen to be healthy" in text and ill[0] in text and "min_available 80%" in text for text in told
    )
    assert "too_few_healthy" in told[1]


def test_three_that_are_ill_leave_room_for_one_at_a_time() -> None:
    world, ill = falls_ill(3)
    run(world)

    opened = {fact["wave"]: at for at, fact in facts(world, "wave_started")}
    times = sorted(at for name in wave(world, 1) for at in granted(world, name))
    assert times[0] < opened[1] + 600
    assert len(ill) == 3
    assert {each["in_flight"] for at, each in activated(world) if opened[1] <= at < opened[3]} == {0}


def test_rollout_goes_on_when_a_person_takes_who_is_ill_out_of_service() -> None:
    world, ill = falls_ill(4, mended_after_seconds=None)

    def take_out() -> None:
        assert not any(granted(world, name) for name in wave(world, 1))
        for name in ill:
            world.person.command("quarantine", device=name, reason="waits for a new disk")

    when(world, lambda: bool(ill), lambda: world.at(world.seconds + HOUR, take_out))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world, *set(world.devices) - set(ill)) == {NEW_VERSION}
    assert not any(granted(world, name) for name in ill)


def test_devices_that_are_ill_go_first_when_it_is_their_turn_and_the_update_mends_them() -> None:
    world, ill = falls_ill(2, of_wave=1, mended_after_seconds=None, update={"max_unavailable": 10, "min_available": 90})
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    well = [name for name in wave(world, 1) if name not in ill]
    assert max(granted(world, name)[0] for name in ill) < min(granted(world, name)[0] for name in well)
    went = {each["device"]: each["was_healthy"] for _, each in activated(world)}
    assert [went[name] for name in (*ill, *well)] == [False] * 2 + [True] * len(well)
