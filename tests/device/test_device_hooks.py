"""The operator's own commands: what they may hold up, for how long, and what they may not."""

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.device import next_wake
from device_client.core.effects import ClearStaging, Install, PublishReady, RunHook, StopApplication, SwitchSlot
from device_client.core.events import HOOKS, Connected, Disconnected, Step
from device_client.core.hooks import WAITS_MAX
from device_client.core.machine import Phase
from device_client.core.setup import Setup
from tests.device.device_bench import Bench, make_content

ALL = Setup(hooks=HOOKS)


def later(bench: Bench, hook: Step) -> None:
    bench.fail(hook, ErrorCode.HOOK_WAITS, retryable=True)


def test_hooks_are_run_at_their_steps_and_told_what_goes_on() -> None:
    bench = Bench(setup=ALL).committed()
    bench.order(2, "1.0.0", action="rollback")
    bench.grant()
    bench.probe_for(30)

    told = [(e.hook.value, e.slot, e.version, e.previous_slot, e.previous_version) for e in bench.all(RunHook)]
    assert told == [
        ("before_install", "green", "1.1.0", "blue", "1.0.0"),
        ("before_switch", "green", "1.1.0", "blue", "1.0.0"),
        ("after_switch", "green", "1.1.0", "blue", "1.0.0"),
        ("after_commit", "green", "1.1.0", "blue", "1.0.0"),
        ("before_rollback", "blue", "1.0.0", "green", "1.1.0"),
        ("after_switch", "blue", "1.0.0", "green", "1.1.0"),
    ]
    assert bench.phase() is Phase.ROLLED_BACK


def test_hook_before_an_install_that_says_later_is_asked_again_before_anything_is_written() -> None:
    bench = Bench(setup=ALL).started()
    later(bench, Step.BEFORE_INSTALL)

    bench.order(1)

    error = bench.reported.error
    assert error is not None
    assert (error.code, error.step, error.retryable) == ("hook_waits", "before_install", True)
    assert (bench.phase(), bench.all(Install)) == (Phase.WAITING, [])
    assert bench.all(PublishReady) == [], "nothing is there yet that could be activated"
    bench.failures.clear()
    bench.wait(60)
    assert (bench.phase(), bench.record.waits) == (Phase.READY, 0)


def test_hook_before_a_switch_that_says_later_keeps_the_device_from_asking() -> None:
    bench = Bench(setup=ALL).started()
    later(bench, Step.BEFORE_SWITCH)

    bench.order(1)

    assert (bench.phase(), bench.all(PublishReady), bench.error_code) == (Phase.WAITING, [], "hook_waits")
    wake = next_wake(bench.device)
    assert wake is not None
    assert bench.now + 30 <= wake <= bench.now + 60
    bench.failures.clear()
    bench.wait(60)
    assert (len(bench.all(PublishReady)), bench.error_code) == (1, None)
    bench.grant()
    assert bench.phase() is Phase.TRIAL


def test_hook_is_asked_before_each_question() -> None:
    bench = Bench(setup=Setup(hooks=frozenset({Step.BEFORE_SWITCH}))).ready()
    bench.grant("wait", retry_after_seconds=10.0)

    bench.wait(20)

    assert len(bench.all(PublishReady)) == len(bench.all(RunHook)) == 2


def test_hook_that_says_later_for_more_than_a_day_has_failed() -> None:
    bench = Bench(setup=ALL).started()
    later(bench, Step.BEFORE_SWITCH)
    bench.order(1)
    began = bench.now

    while bench.phase() is Phase.WAITING:
        bench.wait(10)

    assert 0.9 * 86400 < bench.now - began < 1.2 * 86400
    assert (bench.phase(), bench.error_code, bench.running) == (Phase.FAILED, "hook_failed", "blue")
    assert bench.all(ClearStaging)


def test_count_of_laters_survives_a_power_cut() -> None:
    bench = Bench(setup=ALL).started()
    later(bench, Step.BEFORE_INSTALL)
    bench.order(1)
    bench.record = bench.record.model_copy(update={"waits": WAITS_MAX})

    bench.reboot()

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "hook_failed")


@pytest.mark.parametrize("hook", [Step.BEFORE_INSTALL, Step.BEFORE_SWITCH])
def test_hook_that_says_no_before_the_switch_ends_the_install(hook: Step) -> None:
    bench = Bench(setup=ALL).started()
    bench.fail(hook, ErrorCode.HOOK_FAILED)

    bench.order(1)

    error = bench.reported.error
    assert error is not None
    assert (bench.phase(), error.code, error.step) == (Phase.FAILED, "hook_failed", hook.value)
    assert (bench.version, bench.all(StopApplication), bench.all(SwitchSlot)) == ("1.0.0", [], [])


def test_hook_after_the_switch_that_says_no_turns_back() -> None:
    bench = Bench(setup=ALL).ready()
    bench.fail(Step.AFTER_SWITCH, ErrorCode.HOOK_FAILED)

    bench.grant()
    bench.probe_for(30)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "hook_failed")
    assert "hook_failed" in bench.events(), "on the way back it is told and ignored"


def test_hook_after_the_switch_that_says_later_holds_up_the_commit_until_the_deadline() -> None:
    bench = Bench(setup=ALL).ready()
    later(bench, Step.AFTER_SWITCH)
    bench.grant()

    bench.probe_for(90)
    assert (bench.phase(), bench.error_code) == (Phase.TRIAL, "hook_waits")
    bench.probe_for(300)

    assert (bench.version, bench.error_code) == ("1.0.0", "hook_failed")


def test_hook_after_the_switch_that_says_later_and_then_yes_lets_it_commit() -> None:
    bench = Bench(setup=ALL).ready()
    later(bench, Step.AFTER_SWITCH)
    bench.grant()
    bench.probe_for(60)

    bench.failures.clear()
    bench.probe_for(60)

    assert (bench.phase(), bench.error_code) == (Phase.IDLE, None)


@pytest.mark.parametrize("code", [ErrorCode.HOOK_FAILED, ErrorCode.HOOK_WAITS])
def test_no_hook_keeps_a_device_on_a_bad_version(code: ErrorCode) -> None:
    bench = Bench(setup=ALL).on_trial()
    bench.probe_for(30)
    for hook in (Step.BEFORE_ROLLBACK, Step.AFTER_SWITCH):
        bench.fail(hook, code)

    bench.probe_for(30, ok=False)
    bench.probe_for(30)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "unhealthy")
    assert bench.events().count("hook_failed") == 2


def test_no_hook_is_asked_whether_an_ordered_rollback_may_be_activated() -> None:
    bench = Bench(setup=Setup(hooks=frozenset({Step.BEFORE_SWITCH}))).committed()
    later(bench, Step.BEFORE_SWITCH)

    bench.order(2, "1.0.0", action="rollback")
    bench.grant()

    assert bench.phase() is Phase.ROLLING_BACK


def test_hook_after_the_commit_changes_nothing() -> None:
    bench = Bench(setup=ALL).on_trial()
    bench.fail(Step.AFTER_COMMIT, ErrorCode.HOOK_FAILED)

    bench.probe_for(90)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.IDLE, "1.1.0", None)
    assert bench.events()[-1] == "hook_failed"


def test_answer_of_a_hook_that_comes_after_the_connection_is_lost_asks_nothing() -> None:
    bench = Bench(setup=ALL, answers=True).started()
    bench.order(1)
    bench.grant("wait", retry_after_seconds=10.0)
    bench.answers = False
    bench.wait(20)
    asked = len(bench.all(PublishReady))
    hook = bench.last(RunHook)

    bench.send(Disconnected())
    bench.send(*bench.answer(hook))
    assert len(bench.all(PublishReady)) == asked
    bench.answers = True
    bench.send(Connected())

    assert len(bench.all(PublishReady)) == asked + 1


def test_hook_after_the_switch_is_run_again_when_a_power_cut_may_have_kept_it_from_that() -> None:
    bench = Bench(setup=ALL).on_trial()
    bench.log.clear()

    bench.reboot()

    assert [effect.hook for effect in bench.all(RunHook)] == [Step.AFTER_SWITCH]
    assert bench.disk["blue"] == make_content("1.0.0")
