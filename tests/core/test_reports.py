from copy import deepcopy

import pytest

from orchestrator.core.members import Progress
from orchestrator.core.reports import decide_announced, decide_reported
from orchestrator.core.rollout import Phase
from schemas.messages import Reported
from schemas.topics import Kind
from tests.core.core_bench import Bench, make_fleet, make_info

CANARY = "d-0001"


def reported(state: str = "idle", version: str | None = "2.0.0", generation: int = 1) -> Reported:
    return Reported.model_validate(
        {"observed_generation": generation, "seq": 1, "state": state, "installed_version": version, "boot_id": "b"}
    )


def started() -> Bench:
    bench = Bench()
    bench.start()
    return bench


def kinds_of(bench: Bench, report: Reported, name: str = CANARY) -> list[str]:
    before = deepcopy(bench.state)
    kinds: list[str] = [event.kind for event in decide_reported(bench.state, name, report, bench.now)]
    assert bench.state == before
    return kinds


def test_a_device_is_registered_once() -> None:
    bench = Bench()

    assert [event.kind for event in decide_announced(bench.state, "new", make_info())] == ["device_announced"]
    assert decide_announced(bench.state, CANARY, make_info()) == []


@pytest.mark.parametrize(
    "change",
    [{"session": 9}, {"boot_id": "other"}, {"ts": "2026-11-23T10:57:04Z"}, {"version": "9"}, {"disk_free_bytes": 1}],
)
def test_what_changes_with_every_connect_is_no_fact(change: dict[str, object]) -> None:
    bench = Bench()

    assert decide_announced(bench.state, CANARY, make_info(**change)) == []


@pytest.mark.parametrize("change", [{"maintenance": True}, {"region": "south"}, {"arch": "x86"}, {"tags": ["a"]}])
def test_what_a_device_is_is_a_fact_when_it_changes(change: dict[str, object]) -> None:
    bench = Bench()

    assert len(decide_announced(bench.state, CANARY, make_info(**change))) == 1


@pytest.mark.parametrize(
    "state", ["waiting", "downloading", "verifying", "installing", "ready", "draining", "switching", "trial"]
)
def test_a_device_on_its_way_says_nothing_final(state: str) -> None:
    assert kinds_of(started(), reported(state)) == []


def test_the_new_version_at_rest_is_committed() -> None:
    assert kinds_of(started(), reported()) == ["device_committed"]


@pytest.mark.parametrize("version", ["1.0.0", None])
def test_another_version_at_rest_is_nothing_yet(version: str | None) -> None:
    assert kinds_of(started(), reported(version=version)) == []


@pytest.mark.parametrize("state", ["failed", "rolled_back"])
def test_a_device_that_did_not_get_there_failed_and_is_quarantined(state: str) -> None:
    assert kinds_of(started(), reported(state, "1.0.0")) == ["device_failed", "device_quarantined"]


@pytest.mark.parametrize("generation", [0, 2])
def test_a_report_on_another_generation_says_nothing(generation: int) -> None:
    assert kinds_of(started(), reported(generation=generation)) == []


def test_a_report_of_a_stranger_or_of_a_device_without_an_order_says_nothing() -> None:
    bench = started()

    assert kinds_of(bench, reported(), "stranger") == []
    assert kinds_of(bench, reported(generation=0), bench.wave(1)[0]) == []


def test_a_repeated_report_is_no_second_fact() -> None:
    bench = started()
    bench.install(CANARY)
    assert kinds_of(bench, reported()) == []

    bench.report(CANARY, "rolled_back", code="unhealthy")

    assert kinds_of(bench, reported("rolled_back", "1.0.0")) == []
    assert bench.kinds().count("device_failed") == 1


def test_a_failure_told_again_before_another_try_is_ordered_is_no_failure_of_that_try() -> None:
    bench = started()
    bench.fail(CANARY)
    bench.hold()
    assert bench.command("retry", rollout="r-001", devices=[CANARY]).status == "ok"

    bench.report(CANARY, "failed", code="smoke_test_failed")

    assert (bench.member(CANARY).progress, bench.state.devices[CANARY].quarantine) == (Progress.PENDING, "")
    assert bench.kinds().count("device_failed") == 1


def test_a_committed_device_that_goes_back_by_itself_has_failed() -> None:
    bench = started()
    bench.install(CANARY)

    bench.run(CANARY, "1.0.0")
    bench.report(CANARY, "rolled_back", code="unhealthy")

    member = bench.member(CANARY)
    assert (member.progress, member.failed, member.error) == (Progress.FAILED, True, "unhealthy")
    assert bench.state.devices[CANARY].quarantine == "unhealthy"


def returning() -> Bench:
    bench = started()
    bench.install(CANARY)
    bench.command("rollback", rollout="r-001")
    return bench


@pytest.mark.parametrize(
    ("state", "version", "kinds"),
    [
        ("idle", "1.0.0", ["device_returned"]),
        ("rolled_back", "1.0.0", ["device_returned"]),
        ("idle", "2.0.0", []),
        ("idle", None, []),
        ("rolled_back", None, []),
        ("rolling_back", "1.0.0", []),
        ("failed", "2.0.0", ["device_failed", "device_quarantined"]),
    ],
)
def test_a_device_is_back_when_it_says_that_it_runs_the_old_version(
    state: str, version: str | None, kinds: list[str]
) -> None:
    bench = returning()

    assert kinds_of(bench, reported(state, version, bench.state.generation)) == kinds


def test_a_device_that_ran_nothing_before_is_back_when_it_runs_nothing() -> None:
    bench = returning()
    bench.member(CANARY).from_version = None

    assert kinds_of(bench, reported("idle", None, bench.state.generation)) == ["device_returned"]


def test_a_device_that_could_not_go_back_and_then_did_is_stranded_no_more() -> None:
    bench = returning()
    bench.report(CANARY, "failed", code="slot_broken")
    assert bench.member(CANARY).progress is Progress.STRANDED
    bench.tick()
    assert bench.phase() is Phase.ROLLED_BACK

    bench.run(CANARY, "1.0.0")
    bench.report(CANARY)

    assert bench.member(CANARY).progress is Progress.RETURNED


def test_a_held_device_that_runs_the_new_version_all_the_same_is_deployed() -> None:
    bench = started()
    bench.command("abort", rollout="r-001")
    assert bench.member(CANARY).progress is Progress.HELD
    generation = bench.state.devices[CANARY].generation

    assert kinds_of(bench, reported("idle", "1.0.0", generation)) == []
    assert kinds_of(bench, reported("idle", "2.0.0", generation)) == ["device_committed"]


def test_presence_that_comes_before_the_birth_document_is_remembered() -> None:
    bench = Bench({}, warm_up_seconds=0)
    bench.devices = Bench(make_fleet(1), warm_up_seconds=0).devices

    bench.set_online(CANARY)
    bench.say(Kind.INFO, make_info(), device=CANARY)

    assert bench.state.devices[CANARY].is_online
    assert bench.state.early_presence == {}


@pytest.mark.parametrize(
    ("state", "generation", "is_asking"),
    [("ready", 1, True), ("waiting", 1, True), ("downloading", 1, False), ("ready", 0, False)],
)
def test_a_device_asks_while_it_is_ready_for_the_current_order(state: str, generation: int, *, is_asking: bool) -> None:
    bench = started()

    bench.report(CANARY, state, generation=generation)

    assert bench.state.devices[CANARY].is_asking is is_asking
