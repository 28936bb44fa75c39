"""How a change goes, step by step: one version at a time, or both behind a router."""

import json

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import (
    AwaitAnswer,
    CancelStep,
    CheckSlot,
    Drain,
    Effect,
    Persist,
    Route,
    SmokeTest,
    StartApplication,
    StopApplication,
    SwitchSlot,
)
from device_client.core.events import ApplicationExited, Step, StepSucceeded
from device_client.core.machine import Phase
from device_client.core.record import Record
from device_client.core.setup import Setup
from tests.device.device_bench import Bench

ROUTED = Setup(has_router=True)
DRAINING = Setup(drains=True)
WALK = (CheckSlot, StopApplication, StartApplication, AwaitAnswer, SwitchSlot, Route)


def walk_of(effects: list[Effect]) -> list[object]:
    """Return the steps among the effects, with the slot that they are about."""
    kept = [effect for effect in effects if isinstance(effect, WALK)]
    return [(type(effect), effect.keep if isinstance(effect, StopApplication) else effect.slot) for effect in kept]


def test_both_versions_run_until_clients_were_seen_at_the_new_one() -> None:
    bench = Bench(setup=ROUTED).ready()

    walk = walk_of(bench.grant())

    assert walk == [
        (CheckSlot, "green"), (StopApplication, "blue"), (StartApplication, "green"), (AwaitAnswer, "green"),
        (SwitchSlot, "green"), (Route, "green"), (StopApplication, "green"),
    ]  # fmt: skip
    assert (bench.phase(), bench.reached, bench.alive) == (Phase.TRIAL, "1.1.0", {"green"})


def test_way_back_behind_a_router_is_the_same_walk() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    bench.probe_for(30)

    walk = walk_of(bench.probe_for(30, ok=False))
    bench.probe_for(30)

    assert walk == [
        (CheckSlot, "blue"), (StopApplication, "green"), (StartApplication, "blue"), (AwaitAnswer, "blue"),
        (SwitchSlot, "blue"), (Route, "blue"), (StopApplication, "blue"),
    ]  # fmt: skip
    assert (bench.phase(), bench.reached, bench.alive) == (Phase.ROLLED_BACK, "1.0.0", {"blue"})


def test_rolling_never_runs_two_versions_though_there_is_a_router() -> None:
    bench = Bench(setup=ROUTED).ready(strategy="rolling")
    assert bench.all(SmokeTest) == []

    walk = walk_of(bench.grant())

    assert walk == [
        (CheckSlot, "green"), (StopApplication, None), (SwitchSlot, "green"), (StartApplication, "green"),
        (Route, "green"),
    ]  # fmt: skip
    bench.probe_for(90)
    assert (bench.phase(), bench.reached) == (Phase.IDLE, "1.1.0")


@pytest.mark.parametrize(
    ("step", "code"), [(Step.START, ErrorCode.START_FAILED), (Step.ANSWER, ErrorCode.START_FAILED),
                       (Step.SWITCH, ErrorCode.IO_ERROR), (Step.ROUTE, ErrorCode.ROUTER_FAILED)],
)  # fmt: skip
def test_step_that_fails_on_the_way_forwards_leaves_the_old_version_running(step: Step, code: ErrorCode) -> None:
    bench = Bench(setup=ROUTED).ready()
    bench.fail(step, code)
    steps = bench.grant()
    assert all(effect.keep == "blue" for effect in steps if isinstance(effect, StopApplication))
    bench.failures.clear()
    bench.send(*bench.answer(bench.last(Route)))

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, code)
    assert (bench.reached, bench.alive) == ("1.0.0", {"blue"})


def test_power_cut_while_a_failed_change_is_ended_leaves_the_old_version_active() -> None:
    bench = Bench(setup=ROUTED).ready()
    bench.fail(Step.ROUTE, ErrorCode.ROUTER_FAILED)

    effects = bench.grant()

    back = effects.index(next(e for e in effects if isinstance(e, SwitchSlot) and e.slot == "blue"))
    over = effects.index(next(e for e in effects if isinstance(e, Persist) and e.record.phase is Phase.FAILED))
    assert effects[back] == SwitchSlot(bench.all(SwitchSlot)[-1].ticket, "blue", must_succeed=True)
    assert back < over, "the link is the truth after a power cut, so it must be back before the record says so"


def test_first_version_of_a_device_is_on_trial_before_its_router_follows() -> None:
    bench = Bench(setup=ROUTED, link=None, disk={}).ready()
    bench.fail(Step.ROUTE, ErrorCode.ROUTER_FAILED)

    bench.grant()

    assert (bench.phase(), bench.link, bench.alive) == (Phase.TRIAL, "blue", {"blue"})


def test_version_that_does_not_answer_any_more_is_gone_back_to_all_the_same() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    bench.probe_for(30)
    bench.fail(Step.ANSWER, ErrorCode.START_FAILED)

    bench.probe_for(30, ok=False)

    assert (bench.phase(), bench.link, bench.routed) == (Phase.ROLLING_BACK, "blue", "blue")


def test_router_that_does_not_follow_on_the_way_back_is_waited_for() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    bench.probe_for(30)
    bench.fail(Step.ROUTE, ErrorCode.ROUTER_FAILED)
    bench.probe_for(30, ok=False)
    bench.probe_for(60)
    assert bench.phase() is Phase.ROLLING_BACK, "its health alone is not enough"

    bench.failures.clear()
    bench.send(*bench.answer(bench.last(Route)))
    bench.probe_for(30)

    assert (bench.phase(), bench.reached, bench.alive) == (Phase.ROLLED_BACK, "1.0.0", {"blue"})


def test_router_that_never_follows_on_the_way_back_is_reported() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    bench.probe_for(30)
    bench.fail(Step.ROUTE, ErrorCode.ROUTER_FAILED)
    bench.probe_for(30, ok=False)

    bench.probe_for(400)

    assert (bench.phase(), bench.error_code, bench.link) == (Phase.FAILED, "rollback_failed", "blue")
    error = bench.reported.error
    assert error is not None
    assert "router" in error.message


def test_version_that_ends_while_it_is_brought_up_does_not_count_against_what_serves() -> None:
    bench = Bench(setup=ROUTED).ready()
    bench.answers = False
    bench.grant()

    bench.send(ApplicationExited())

    assert bench.phase() is Phase.SWITCHING


@pytest.mark.parametrize("step", [Step.CHECK, Step.STOP, Step.START, Step.ANSWER, Step.SWITCH, Step.ROUTE])
@pytest.mark.parametrize("reboot", [True, False])
def test_power_cut_at_any_step_leaves_clients_at_what_is_active(step: Step, *, reboot: bool) -> None:
    bench = Bench(setup=ROUTED).ready()
    bench.answers = False
    bench.grant()
    while bench.device.step is not step:
        bench.send(*bench.answer(bench.log[-1]))

    bench.answers = True
    bench.reboot() if reboot else bench.start()

    expected = (Phase.TRIAL, "green", "1.1.0") if step is Step.ROUTE else (Phase.READY, "blue", "1.0.0")
    assert (bench.phase(), bench.link, bench.reached) == expected
    assert bench.alive == {bench.link}


def test_trial_is_not_committed_before_clients_reach_it() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    bench.fail(Step.ROUTE, ErrorCode.ROUTER_FAILED)
    bench.reboot()

    bench.probe_for(90)
    assert bench.phase() is Phase.TRIAL
    bench.probe_for(300)

    assert (bench.phase(), bench.error_code) == (Phase.ROLLING_BACK, "router_failed")


def test_what_was_left_in_standby_is_ended_before_standby_is_written() -> None:
    bench = Bench(setup=ROUTED).committed()
    bench.alive = {"blue", "green"}

    bench.order(2, "1.2.0")

    assert (bench.phase(), bench.alive) == (Phase.READY, {"green"})


def test_late_answer_of_a_walk_that_is_over_means_nothing() -> None:
    bench = Bench(setup=ROUTED).committed()

    bench.send(StepSucceeded(Step.STOP, bench.device.ticket - 1))

    assert (bench.phase(), bench.device.step) == (Phase.IDLE, None)


def test_record_of_an_agent_that_knew_no_strategy_is_read() -> None:
    bench = Bench(setup=ROUTED).on_trial()
    written = json.loads(bench.record.model_dump_json())
    del written["trial"]["strategy"]

    read = Record.model_validate_json(json.dumps(written))

    assert read == bench.record


def test_what_serves_is_drained_before_it_is_stopped_and_the_device_says_so() -> None:
    bench = Bench(setup=DRAINING).ready(strategy="rolling")
    bench.answers = False

    bench.grant()
    assert (bench.reported.state, bench.device.step) == ("draining", Step.CHECK)
    bench.send(*bench.answer(bench.log[-1]))
    assert (bench.last(Drain).slot, bench.alive, bench.reported.state) == ("blue", {"blue"}, "draining")
    bench.answers = True
    bench.send(*bench.answer(bench.last(Drain)))

    assert (bench.phase(), bench.alive) == (Phase.TRIAL, {"green"})


def test_drain_that_fails_delays_nothing() -> None:
    bench = Bench(setup=DRAINING).ready()
    bench.fail(Step.DRAIN, ErrorCode.IO_ERROR)

    bench.grant()

    assert (bench.phase(), bench.alive) == (Phase.TRIAL, {"green"})


def test_old_version_is_drained_after_clients_have_left_it() -> None:
    bench = Bench(setup=Setup(has_router=True, drains=True)).ready()

    effects = bench.grant()

    order = [type(effect) for effect in effects if isinstance(effect, Route | Drain | StopApplication)]
    assert order == [StopApplication, Route, Drain, StopApplication]
    assert (bench.last(Drain).slot, bench.alive) == ("blue", {"green"})


def test_trial_is_not_committed_before_the_old_version_is_stopped() -> None:
    bench = Bench(setup=Setup(has_router=True, drains=True)).ready()
    bench.answers = False
    bench.grant()
    while bench.device.step is not Step.DRAIN:
        bench.send(*bench.answer(next(e for e in reversed(bench.log) if hasattr(e, "ticket"))))
    bench.probe_for(90)
    assert (bench.phase(), bench.alive) == (Phase.TRIAL, {"blue", "green"})

    bench.answers = True
    bench.send(*bench.answer(bench.last(Drain)))
    bench.probe()

    assert (bench.phase(), bench.alive) == (Phase.IDLE, {"green"})


def test_way_back_does_not_wait_for_the_old_version_to_drain() -> None:
    bench = Bench(setup=Setup(has_router=True, drains=True)).ready()
    bench.answers = False
    bench.grant()
    while bench.device.step is not Step.DRAIN:
        bench.send(*bench.answer(next(e for e in reversed(bench.log) if hasattr(e, "ticket"))))

    effects = bench.probe(version="0.0.1")

    assert bench.phase() is Phase.ROLLING_BACK
    assert next(kind for kind in map(type, effects) if kind in (CancelStep, CheckSlot)) is CancelStep


def test_half_drained_version_is_started_anew_when_it_is_gone_back_to() -> None:
    bench = Bench(setup=Setup(has_router=True, drains=True)).on_trial(min_ready_seconds=600.0)
    bench.probe_for(30)
    bench.alive = {"blue", "green"}

    walk = walk_of(bench.probe_for(30, ok=False))

    assert walk[:3] == [(CheckSlot, "blue"), (StopApplication, "green"), (StartApplication, "blue")]
