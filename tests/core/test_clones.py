import pytest

from orchestrator.core.clones import REASON, RETURNS_MAX
from schemas.topics import Kind
from tests.core.core_bench import Bench, make_fleet, make_info

NAME = "d-0001"


def announce(bench: Bench, boot_id: str, name: str = NAME) -> None:
    bench.say(Kind.INFO, make_info(boot_id=boot_id), device=name)


def quarantine(bench: Bench, name: str = NAME) -> str:
    return bench.state.devices[name].quarantine


def change_places(bench: Bench, times: int) -> None:
    for count in range(times):
        bench.now += 1.0
        announce(bench, "clone" if count % 2 == 0 else "original")


@pytest.fixture
def bench() -> Bench:
    made = Bench(fleet=make_fleet(2))
    announce(made, "original")
    return made


def test_a_name_that_two_devices_use_is_quarantined_and_it_is_said_why(bench: Bench) -> None:
    change_places(bench, RETURNS_MAX + 2)

    assert quarantine(bench) == REASON
    assert [fact["device"] for fact in bench.facts("device_quarantined")] == [NAME]
    assert quarantine(bench, "d-0002") == ""


def test_messages_that_come_late_are_no_clone(bench: Bench) -> None:
    change_places(bench, RETURNS_MAX)

    assert quarantine(bench) == ""


def test_a_device_that_starts_again_and_again_is_no_clone(bench: Bench) -> None:
    for count in range(50):
        announce(bench, f"start-{count}")
        announce(bench, f"start-{count}")

    assert quarantine(bench) == ""


def test_a_new_start_begins_the_count_again(bench: Bench) -> None:
    change_places(bench, RETURNS_MAX)
    announce(bench, "later")
    change_places(bench, RETURNS_MAX)

    assert quarantine(bench) == ""


def test_a_name_that_was_released_is_kept_out_again_only_if_both_still_use_it(bench: Bench) -> None:
    change_places(bench, RETURNS_MAX + 2)
    bench.command("release", device=NAME)

    announce(bench, "clone")
    assert quarantine(bench) == "", "the other one is gone"

    change_places(bench, 2)
    assert quarantine(bench) == REASON
