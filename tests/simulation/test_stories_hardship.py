"""Rollouts while clocks, disks, cables and copied cards do what they do outside: one thing goes wrong in each."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from device_client.core.codes import ErrorCode
from embedded_broker.packets import Publish
from schemas.messages import SlotName
from simulator import Faults, World, failing, make_scenario
from simulator.disk import DiskTrouble
from simulator.materials import NEW_VERSION, OLD_VERSION
from simulator.process import Process
from simulator.scenario import ROLLOUT
from tests.simulation.story import bodies, places, policy_with, run, running, wave, when


def rot(world: World, name: str, slot: SlotName) -> None:
    world.devices[name].disk.slots[slot].rotten_since = world.clock.now


def test_device_stays_where_it_is_when_what_it_would_go_back_to_is_damaged() -> None:
    world = World(make_scenario(devices=3, release=failing(0.6, after_seconds=600.0)))
    victims: list[str] = []

    def has_one() -> bool:
        victims[:] = [name for name, device in world.devices.items() if device.disk.record.trial is not None][:1]
        return bool(victims)

    when(world, has_one, lambda: rot(world, victims[0], "blue"))

    run(world)

    assert places(world)["stranded"] == victims
    assert running(world, *victims) == {NEW_VERSION}
    assert OLD_VERSION in running(world)


def test_device_of_which_nothing_is_whole_is_mended_by_the_next_release() -> None:
    update = {"max_unavailable": 50.0, "min_available": 30.0}  # or the others would wait until it is mended
    world = World(make_scenario(devices=3, policy=policy_with(update=update)))
    world.at(-60.0, partial(rot, world, "d-0001", "blue"))
    world.at(-59.0, partial(world.devices["d-0001"].cut_power, 3.0))

    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world, "d-0001") == {NEW_VERSION}


def test_wave_is_not_waited_for_when_all_its_members_are_in_quarantine() -> None:
    world = World(make_scenario(devices=12))

    def keep_out() -> None:
        for name in wave(world, 1):
            world.person.command("quarantine", device=name, reason="under repair")

    world.at(60.0, keep_out)

    result = run(world)

    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world, *wave(world, 1)) == {OLD_VERSION}
    assert running(world, *wave(world, 2)) == {NEW_VERSION}


@pytest.mark.parametrize("seed", range(3))
def test_wrong_clocks_keep_nobody_from_the_release(seed: int) -> None:
    world = World(make_scenario(seed=seed, devices=12, faults=Faults(wrong_clocks=1.0)))
    assert run(world).outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}


def test_flood_costs_its_device_the_release_and_nobody_else() -> None:
    world = World(make_scenario(devices=12))
    liar, flooder = world.hardship.liar, world.devices["d-0007"]
    liar._anybody = lambda: flooder  # type: ignore[method-assign]
    liar._rng.choice = max  # type: ignore[method-assign, assignment] # the longest
    world.at(30.0, liar.flood)

    result = run(world)

    assert [each["device"] for each in bodies(world, "device_quarantined")] == ["d-0007"]
    assert result.outcomes == {ROLLOUT: "completed"}
    assert set(result.ran[NEW_VERSION]) == set(world.devices) - {"d-0007"}


def test_lies_are_refused_and_change_nothing() -> None:
    world = World(make_scenario(devices=12, faults=Faults(lies_per_hour=120.0)))

    assert run(world).outcomes[ROLLOUT] in {"completed", "halted"}  # Who lies is no evidence, and it may be missing.

    assert len(world.hardship.liar.told) == 7
    assert world.orchestrator.engine is not None
    assert {"foreign_shard", "unknown_device", "undecodable"} <= set(world.orchestrator.engine.tally.refused_by_reason)


def test_copied_disk_keeps_its_name_out_and_the_others_go_on() -> None:
    world = World(make_scenario(devices=12))
    victim = world.devices["d-0007"]

    def copy() -> None:
        clone = world.make_clone(victim)
        clone.boot()
        world.at(world.seconds + 900.0, clone.vanish)

    world.at(10.0, copy)

    result = run(world)

    assert [each["device"] for each in bodies(world, "device_quarantined")] == ["d-0007"]
    assert result.outcomes == {ROLLOUT: "completed"}


def test_second_orchestrator_takes_over_from_one_that_works() -> None:
    world = World(make_scenario(devices=12))
    for moment in (100.0, 600.0, 1000.0):
        world.at(moment, world.orchestrator.double)

    result = run(world)

    assert sum("ends: epoch" in line for line in result.trace) == 3
    assert result.outcomes == {ROLLOUT: "completed"}


def test_earlier_copy_of_the_journal_pauses_and_a_person_goes_on() -> None:
    world = World(make_scenario(devices=12))
    copies = []
    world.at(300.0, lambda: copies.append(world.orchestrator.back_up()))
    world.at(1200.0, lambda: world.orchestrator.restore(copies[0]))
    seen: list[bool] = []
    world.at(1500.0, lambda: seen.append(world.person.statuses[ROLLOUT].paused))
    world.at(1501.0, partial(world.person.command, "resume", rollout=ROLLOUT))

    result = run(world)

    assert seen == [True]
    assert result.outcomes == {ROLLOUT: "completed"}
    assert running(world) == {NEW_VERSION}


def test_orchestrator_whose_disk_refuses_to_write_begins_again() -> None:
    world = World(make_scenario(devices=12, faults=Faults(journal_failure=0.2)))
    result = run(world)
    assert sum("cannot write its journal" in line for line in result.trace) > 3
    assert result.outcomes == {ROLLOUT: "completed"}


def test_devices_whose_disks_refuse_to_write_end_on_a_whole_version() -> None:
    world = World(make_scenario(devices=12, faults=Faults(disk_failure=0.2)))
    result = run(world)
    assert sum("cannot remember" in line for line in result.trace) > 3
    assert None not in running(world)


def full_queues(world: World) -> None:
    world.at(300.0, world.orchestrator.cut)
    for name in world.devices:
        world.at(400.0, partial(world.devices[name].sleep, 300.0))
    for moment in range(410, 700, 10):
        world.at(moment, partial(world.person.brake, on=moment % 20 == 0))


def deaf_and_dumb(world: World) -> None:
    for number, name in enumerate(world.devices):
        stall = partial(world.devices[name].client.stall, upwards=number % 2 == 0, seconds=200.0)
        for moment in range(50, 1500, 300):
            world.at(moment, stall)


@pytest.mark.parametrize(
    ("faults", "trouble"), [(Faults(queued_max=0), full_queues), (Faults(queued_max=None), deaf_and_dumb)]
)
def test_messages_that_are_dropped_or_late_keep_nobody_from_the_release(
    faults: Faults, trouble: Callable[[World], None]
) -> None:
    world = World(make_scenario(devices=12, faults=faults))
    trouble(world)
    result = run(world)
    assert result.outcomes == {ROLLOUT: "completed"}
    assert bool(world.network.dropped_count) == (trouble is full_queues)


class RefusesTheLink(DiskTrouble):
    """A disk that leads the link over, says that it has not, and then does not lead it back."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(0.0, Random(1))
        self.rng.random = iter((0.0, 0.9)).__next__  # type: ignore[method-assign]
        self._disk = world.devices[name].disk
        self._left = [ErrorCode.IO_ERROR, ErrorCode.IO_ERROR]

    def strike(self) -> ErrorCode | None:
        return self._left.pop() if self._left and self._disk.record.phase == "switching" else None


def test_link_is_where_the_record_says_when_the_disk_refuses_it_twice() -> None:
    world = World(make_scenario(devices=3))
    for name in world.devices:
        world.devices[name].plant.trouble = RefusesTheLink(world, name)
        world.at(1800.0, partial(world.devices[name].cut_power, 3.0))
    run(world)


def test_rollout_ends_well_when_the_broker_drops_what_devices_say_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(make_scenario(devices=3))
    take, dropped = Process.on_message, set[str]()

    def on_message(process: Process, packet: Publish) -> None:
        ends = packet.topic.endswith("/reported") and b'"state":"idle"' in packet.payload and world.seconds > 0
        if ends and packet.topic not in dropped:
            dropped.add(packet.topic)
        else:
            take(process, packet)

    monkeypatch.setattr(Process, "on_message", on_message)
    result = run(world)

    assert len(dropped) == 3
    assert result.outcomes == {ROLLOUT: "completed"}
    assert len(places(world)["committed"]) == 3
