from orchestrator.core.explain_device import explain_device
from orchestrator.core.targets import TROUBLE_SECONDS
from tests.core.core_bench import Bench, make_fleet

LOST = "d-0001"


def flap(bench: Bench, *names: str) -> None:
    bench.set_online(*names, is_online=False)
    bench.set_online(*names)
    bench.tick()


def canaries(bench: Bench) -> set[str]:
    bench.start()
    return set(bench.wave(0))


def test_a_device_that_lost_its_connection_is_no_canary_for_a_day_even_after_a_restart() -> None:
    bench = Bench(fleet=make_fleet(2))
    assert canaries(Bench(fleet=make_fleet(2))) == {LOST}, "it is the one that would be chosen"

    flap(bench, LOST)
    bench.boot()
    bench.speak()
    bench.advance(bench.warm_up_seconds)

    assert canaries(bench) == {"d-0002"}


def test_a_device_that_has_been_connected_for_a_day_can_be_a_canary_again() -> None:
    bench = Bench(fleet=make_fleet(2))
    flap(bench, LOST)
    bench.now += TROUBLE_SECONDS
    bench.advance(bench.warm_up_seconds)

    assert canaries(bench) == {LOST}


def test_a_flapping_device_is_written_down_once_an_hour() -> None:
    bench = Bench(fleet=make_fleet(2))
    for _ in range(10):
        flap(bench, LOST)
    assert bench.facts("connections_lost") == [{"kind": "connections_lost", "devices": [LOST]}]

    bench.now += 3600.0
    flap(bench, LOST)
    assert len(bench.facts("connections_lost")) == 2


def test_devices_that_are_lost_together_make_one_entry() -> None:
    bench = Bench(fleet=make_fleet(6))
    flap(bench, "d-0001", "d-0002")

    assert bench.facts("connections_lost") == [{"kind": "connections_lost", "devices": ["d-0001", "d-0002"]}]


def test_explaining_a_device_says_when_its_connection_was_lost() -> None:
    bench = Bench(fleet=make_fleet(2))
    flap(bench, LOST)

    facts = explain_device(bench.state, None, LOST, bench.now)["facts"]

    assert facts["connection"].startswith("online, last lost 2023-11-14T")
