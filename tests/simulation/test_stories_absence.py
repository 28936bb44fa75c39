"""Who is not there: a device for a month, the orchestrator for an hour, half the fleet at once, some for ever."""

from functools import partial

from device_client.core.machine import Phase
from schemas.policy import Gate
from simulator import World, failing, make_scenario
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
    when,
)

HOUR = 3600.0
MONTH = 30 * 24 * HOUR
COVERAGE = Gate.model_validate({"checks": [{"type": "fleet_coverage", "threshold": "deployed_percentage >= 95%"}]})


def close_for_a_month(world: World, sleeper: str) -> None:
    """Two hours from now turn everything off but the device that sleeps, and on again an hour before it wakes."""

    def close() -> None:
        world.orchestrator.kill(MONTH - 3 * HOUR)
        for name, device in world.devices.items():
            if name != sleeper:
                device.cut_power(MONTH - 3 * HOUR)

    world.at(world.seconds + 2 * HOUR, close)
    world.at(world.seconds + MONTH + 60, lambda: None)
    world.devices[sleeper].sleep(MONTH)


def after_waking(world: World, sleeper: str) -> list[str]:
    """Return what the sleeper did since it woke up, once."""
    lines = [line.split(maxsplit=2)[2] for line in world.trace.lines if line.split()[1] == sleeper]
    assert lines.count("wakes up") == 1
    return lines[lines.index("wakes up") + 1 :]


def test_device_installs_nothing_stale_when_it_waited_for_its_turn_and_wakes_after_a_month() -> None:
    world = World(make_scenario(devices=12, release=failing(0.5, after_seconds=1500.0)))
    slept: list[str] = []

    def waiting() -> list[str]:
        return [name for name, device in world.devices.items() if device.disk.record.phase is Phase.WAITING]

    def fall_asleep() -> None:
        slept.append(waiting()[0])
        close_for_a_month(world, slept[0])

    when(world, lambda: _wave_of(world) == 1 and bool(waiting()), fall_asleep)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert running(world) == {OLD_VERSION}
    assert slept[0] not in result.ran[NEW_VERSION]
    assert granted(world, slept[0]) == []
    order = world.witness.ledger.orders[slept[0]]
    assert order.action == "hold"
    assert after_waking(world, slept[0]) == [f"idle (generation {order.generation})"]


def test_device_goes_back_with_one_answer_when_it_slept_through_the_rollback_for_a_month() -> None:
    world = World(make_scenario(devices=12, release=failing(0.5, after_seconds=1500.0)))
    slept: list[str] = []

    def fall_asleep() -> None:
        slept.append(canaries(world)[0])
        close_for_a_month(world, slept[0])

    when(world, lambda: _wave_of(world) == 1, fall_asleep)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "rolled_back"}
    assert running(world) == {OLD_VERSION}
    (verified,) = bodies(world, "rollback_verified")
    assert verified["not_back"] == [slept[0]]
    first, second = granted(world, slept[0])
    assert first < HOUR
    assert second > MONTH
    back = [(at, fact["device"]) for at, fact in facts(world, "device_returned")]
    assert [name for at, name in back if at > MONTH] == [slept[0]]


def _wave_of(world: World) -> int:
    rollout = world.witness.ledger.rollouts.get(ROLLOUT)
    return -1 if rollout is None else rollout.wave


def test_soak_does_not_count_the_hour_for_which_the_orchestrator_was_down() -> None:
    policy = policy_with(canary={"soak_minutes": 20.0})
    calm, broken = (World(make_scenario(devices=12, policy=policy)) for _ in range(2))
    broken.at(600.0, partial(broken.orchestrator.kill, HOUR))
    first, second = run(calm), run(broken)

    assert first.outcomes == second.outcomes == {ROLLOUT: "completed"}
    tenth = 22 * 60 / 10
    waited, calmly = _gate_at(broken), _gate_at(calm)
    assert HOUR - 1 <= waited - calmly <= HOUR + tenth + 120  # a tenth again, and windows that fill again
    assert [fact["epoch"] for fact in bodies(broken, "epoch_opened")] == [1, 2]


def test_orchestrator_that_hung_ends_when_another_has_taken_over_and_the_rollout_goes_on() -> None:
    world = World(make_scenario(devices=12))
    for moment in (100.0, 500.0, 1200.0, 4000.0):  # deploying, soaking, deploying the next wave, all over
        world.at(moment, partial(world.orchestrator.hang, 300.0))
        world.at(moment + 360.0, lambda: None)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}
    assert [fact["epoch"] for fact in bodies(world, "epoch_opened")] == [1, 2, 3, 4, 5]
    ended = [line for line in world.trace.lines if "took over" in line]
    assert [line.split("of epoch ")[1] for line in ended] == [
        f"{epoch} ends: epoch {epoch + 1} took over" for epoch in range(1, 5)
    ]


def _gate_at(world: World) -> float:
    return next(at for at, fact in facts(world, "gate_judged") if fact["decision"] == "await_approval")


def fall_silent(world: World, names: list[str], *, for_seconds: float) -> None:
    for name in names:
        world.devices[name].sleep(for_seconds)


def test_half_the_fleet_decides_nothing_by_falling_silent_until_it_is_heard_again() -> None:
    world = World(make_scenario(devices=20))
    half = [f"d-{number:04d}" for number in range(10)]
    world.at(900.0, partial(fall_silent, world, half, for_seconds=HOUR))
    world.at(900.0 + HOUR / 2, world.orchestrator.cut)
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    ((frozen_at, frozen),), ((thawed_at, thawed),) = facts(world, "fleet_frozen"), facts(world, "fleet_thawed")
    assert 900 < frozen_at < 900 + 240
    assert thawed_at >= 900 + HOUR
    assert frozen["silent"] >= 4
    assert thawed["by"] == "orchestrator"
    assert told(world, "device_failed", "rollback_ordered", "rollout_halted") == []
    assert not [at for name in world.devices for at in granted(world, name) if frozen_at < at < thawed_at]


def test_person_who_resumes_takes_the_silence_of_half_the_fleet_for_what_it_is() -> None:
    world = World(make_scenario(devices=20))
    half = [f"d-{number:04d}" for number in range(10)]
    world.at(900.0, partial(fall_silent, world, half, for_seconds=5 * HOUR))
    world.at(900.0 + HOUR, partial(world.person.command, "resume", rollout=ROLLOUT, reason="the site has no power"))
    result = run(world)

    ((thawed_at, thawed),) = facts(world, "fleet_thawed")
    assert (thawed["by"], thawed["reason"]) == ("alice", "the site has no power")
    failed = [(at, fact["device"], fact["code"]) for at, fact in facts(world, "device_failed")]
    assert failed == [(thawed_at, name, "silent") for name in sorted(canaries(world))]
    (order,) = bodies(world, "rollback_ordered")
    assert (order["scope"], sorted(order["devices"])) == ("wave", sorted(canaries(world)))
    (verified,) = bodies(world, "rollback_verified")
    assert sorted(verified["not_back"]) == sorted(canaries(world))
    assert result.outcomes == {ROLLOUT: "halted"}  # what the next wave got stays for a person to decide
    assert running(world, *canaries(world)) == {OLD_VERSION}


def test_rollout_waits_for_a_person_to_finish_it_when_a_tenth_of_the_fleet_never_comes_back() -> None:
    gone = ["d-0017", "d-0018"]
    world = World(make_scenario(devices=20, policy=policy_with(gates={"completion_gate": COVERAGE})))
    for name in gone:
        world.at(-30.0, world.devices[name].vanish)
    world.at(6 * HOUR, partial(world.person.command, "finish", rollout=ROLLOUT, reason="written off"))
    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert codes(world, "finish") == ["ok"]
    assert len(result.ran[NEW_VERSION]) == 18
    assert places(world)["ordered"] == gone
