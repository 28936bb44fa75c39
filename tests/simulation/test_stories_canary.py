"""Canaries that turn bad: at once, after a while, slowly; and one that turns bad when the fleet has followed."""

from schemas.policy import Gate
from simulator import GOOD, Behavior, World, failing, make_scenario
from simulator.materials import NEW_VERSION, OLD_VERSION, brisk_policy
from simulator.scenario import ROLLOUT
from tests.simulation.story import (
    bodies,
    canaries,
    facts,
    gates,
    places,
    policy_with,
    run,
    running,
    told,
    wave,
)

DRIFT = Gate.model_validate(
    {"checks": [{"type": "memory_trend", "threshold": "growth < 1% per 10m", "window": "20m", "min_samples": 20}]}
)
PHASES = {
    "immediate_minutes": 2.0,
    "short_term_minutes": 8.0,
    "soak_minutes": 20.0,
    "phases": brisk_policy().rollout.canary.phases.model_copy(update={"soak": DRIFT}),
}


def watched(release: Behavior) -> World:
    """Return a world in which two canaries of twelve devices are watched for 2, 6 and 20 minutes."""
    return World(make_scenario(devices=12, release=release, policy=policy_with(canary=PHASES)))


def test_canary_goes_back_at_once_when_it_is_sick_from_the_start() -> None:
    world = watched(Behavior(sick_after_seconds=230.0))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert set(result.ran[NEW_VERSION]) <= set(canaries(world))
    assert running(world) == {OLD_VERSION}
    assert gates(world) == [("immediate", "fail", "rollback")]
    (order,) = bodies(world, "rollback_ordered")
    assert (order["scope"], order["trigger"]) == ("wave", "canary_gate")
    assert [check["check"] for check in order["evidence"]] == ["application_health"]


def test_canary_goes_back_and_is_watched_longer_when_it_turns_bad_in_the_short_term() -> None:
    world = watched(failing(0.5, after_seconds=420.0))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert running(world) == {OLD_VERSION}
    assert [fact["phase"] for fact in bodies(world, "canary_phase_started")] == ["short_term"]
    assert gates(world) == [("short_term", "fail", "rollback")]
    (order,) = bodies(world, "rollback_ordered")
    assert [check["check"] for check in order["evidence"]] == ["error_rate"]
    assert order["monitor_seconds"] == 6 * 60
    ((back_at, _), *_) = reversed(facts(world, "device_returned"))
    ((verified_at, verified),) = facts(world, "rollback_verified")
    assert verified_at - back_at >= 6 * 60
    assert (verified["verdict"], verified["not_back"]) == ("pass", [])


def test_canary_is_halted_for_a_person_after_extensions_when_its_memory_drifts_in_the_soak() -> None:
    world = watched(Behavior(leak_bytes_per_second=20_000.0))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "halted"}
    assert places(world)["committed"] == sorted(canaries(world))
    assert set(result.ran[NEW_VERSION]) == set(canaries(world))
    assert gates(world) == [("soak", "caution", "extend")] * 3 + [("soak", "caution", "halt")]
    assert [fact["extension"] for fact in bodies(world, "soak_extended")] == [1, 2, 3]
    last = bodies(world, "gate_judged")[-1]
    assert [check["check"] for check in last["checks"] if check["verdict"] == "caution"] == ["memory_trend"]
    (halted,) = bodies(world, "rollout_halted")
    assert "memory_trend" in halted["reason"]


def test_whole_fleet_goes_back_when_the_canaries_turn_bad_during_a_later_wave() -> None:
    world = watched(GOOD)

    def spoil() -> None:
        for name in canaries(world):
            app = world.devices[name].plant.application
            assert app is not None
            world.devices[name].plant.spoil(NEW_VERSION, failing(0.9))

    world.at(2700.0, spoil)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert set(canaries(world)) < set(result.ran[NEW_VERSION])
    assert running(world) == {OLD_VERSION}
    (order,) = bodies(world, "rollback_ordered")
    assert (order["scope"], order["trigger"], order["action"]) == ("fleet", "error_rate_spike", "rollback_all")
    assert set(order["devices"]) > set(wave(world, 0))
    assert told(world, "rollback_ordered", "rollback_verified", "rollout_ended") == [
        "rollback_ordered", "rollback_verified", "rollout_ended",
    ]  # fmt: skip
    assert set(places(world)["returned"]) == set(order["devices"])
