import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import Restart, StartApplication, SwitchSlot
from device_client.core.events import ApplicationExited, Disconnected, Probed, Step
from device_client.core.machine import Phase
from device_client.core.probe import Health, is_proven, observe
from device_client.core.record import Refusal
from device_client.core.switching import GATE_WAIT_SECONDS_MAX
from schemas.messages import HealthCheck
from tests.device.device_bench import CHECK, Bench, digest


def assert_turned_back(bench: Bench, code: str) -> None:
    bench.probe_for(30)
    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", code)
    assert bench.events()[-1] == "rolled_back"
    assert bench.record.is_refused(1, bench.disk["green"].manifest_sha256)


def test_health_needs_enough_successes_over_enough_time() -> None:
    health = Health()
    for now in (0, 10, 20, 30, 40, 50):
        health = observe(health, CHECK, now, ok=True)
    assert not is_proven(health, CHECK, 60)

    assert is_proven(observe(health, CHECK, 60, ok=True), CHECK, 60)


def test_one_failure_starts_the_row_again() -> None:
    health = Health()
    for now, ok in ((0, True), (30, True), (60, True), (65, False), (70, True), (80, True)):
        health = observe(health, CHECK, now, ok=ok)

    assert (health.successes, health.well_since) == (2, 70)


def test_health_that_nobody_saw_is_not_continuous() -> None:
    health = observe(observe(Health(), CHECK, 0, ok=True), CHECK, 500, ok=True)

    assert (health.successes, health.well_since) == (1, 500)


def test_enough_time_without_enough_successes_is_not_health() -> None:
    check = HealthCheck(interval_seconds=100, success_threshold=3)
    health = observe(observe(Health(), check, 0, ok=True), check, 100, ok=True)

    assert not is_proven(health, check, 60)


def test_trial_commits_by_local_health_alone_when_told_so() -> None:
    bench = Bench().on_trial()
    bench.probe_for(60)
    assert bench.phase() is Phase.TRIAL, "six probes span fifty seconds"

    bench.probe()

    assert bench.phase() is Phase.IDLE


def test_trial_by_round_trip_commits_only_with_an_answer() -> None:
    bench = Bench().on_trial(commit_on="round_trip")
    bench.probe_for(90)
    assert (bench.phase(), bench.question.step) == (Phase.TRIAL, "commit")

    bench.grant()

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


def test_trial_by_round_trip_turns_back_when_the_new_version_has_cut_it_off() -> None:
    bench = Bench().on_trial(commit_on="round_trip")
    bench.send(Disconnected())
    bench.probe_for(310)

    assert_turned_back(bench, "deadline_exceeded")


def test_permission_to_commit_is_void_once_health_is_lost() -> None:
    bench = Bench().on_trial(commit_on="round_trip")
    bench.probe_for(90)
    bench.probe(ok=False)

    bench.grant()

    assert bench.phase() is Phase.TRIAL


def test_trial_by_gate_outlives_its_deadline_once_it_is_healthy() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.probe_for(90)
    bench.grant("wait", retry_after_seconds=3000.0)
    bench.probe_for(4000)
    assert bench.phase() is Phase.TRIAL

    bench.grant()

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


def test_trial_by_gate_keeps_its_fallback_armed_while_it_waits() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.probe_for(1000)

    bench.probe_for(30, ok=False)

    assert_turned_back(bench, "unhealthy")


def test_trial_by_gate_does_not_wait_for_ever() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.probe_for(90)

    bench.wait(GATE_WAIT_SECONDS_MAX)

    assert_turned_back(bench, "deadline_exceeded")


def test_trial_by_gate_has_only_the_deadline_until_it_is_healthy() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.probe_for(310, ok=False)

    assert_turned_back(bench, "deadline_exceeded")


def test_trial_turns_back_at_its_deadline_without_any_network() -> None:
    bench = Bench().on_trial()
    bench.send(Disconnected())

    bench.wait(299)
    assert bench.phase() is Phase.TRIAL
    bench.wait(1)

    assert_turned_back(bench, "deadline_exceeded")


def test_health_that_comes_at_the_deadline_comes_too_late() -> None:
    bench = Bench().on_trial(progress_deadline_seconds=70.0)
    bench.probe_for(60)

    bench.probe()

    assert bench.phase() is Phase.ROLLING_BACK


def test_trial_turns_back_when_it_relapses() -> None:
    bench = Bench().on_trial()
    bench.probe_for(30)
    bench.probe_for(20, ok=False)
    assert bench.phase() is Phase.TRIAL

    bench.probe(ok=False)

    assert_turned_back(bench, "unhealthy")


def test_slow_start_is_not_a_relapse() -> None:
    bench = Bench().on_trial()
    bench.probe_for(100, ok=False)

    bench.probe_for(70)

    assert bench.phase() is Phase.IDLE


def test_trial_turns_back_when_it_says_it_is_another_version() -> None:
    bench = Bench().on_trial()

    bench.probe(version="1.0.0")

    assert_turned_back(bench, "wrong_version")


def test_answer_without_a_version_is_no_health() -> None:
    bench = Bench().on_trial()
    for _ in range(10):
        bench.now += 10
        bench.send(Probed(ok=True, version=None))

    assert bench.phase() is Phase.TRIAL
    assert bench.device.health.successes == 0


def test_trial_turns_back_at_the_fourth_exit() -> None:
    bench = Bench().on_trial()
    for _ in range(3):
        bench.now += 5
        bench.send(ApplicationExited())
    assert bench.phase() is Phase.TRIAL

    bench.send(ApplicationExited())

    assert_turned_back(bench, "crash_loop")
    assert bench.events().count("crash") == 4


def test_rare_exits_are_no_crash_loop() -> None:
    bench = Bench().on_trial(progress_deadline_seconds=10_000.0)
    for _ in range(8):
        bench.wait(60)
        bench.send(ApplicationExited())

    assert bench.phase() is Phase.TRIAL


def test_exit_ends_the_row_of_successes() -> None:
    bench = Bench().on_trial()
    bench.probe_for(60)
    bench.send(ApplicationExited())
    bench.probe_for(60)
    assert bench.phase() is Phase.TRIAL

    bench.probe()

    assert bench.phase() is Phase.IDLE


def test_trial_turns_back_when_the_application_cannot_be_started() -> None:
    bench = Bench().ready()
    bench.fail(Step.START, ErrorCode.START_FAILED)
    bench.answers = False
    bench.grant()
    while bench.phase() is not Phase.TRIAL:
        assert bench.device.step is not None
        effect = bench.log[-1]
        bench.send(*bench.answer(effect))
    failing = bench.last(StartApplication)
    bench.answers = True
    event = bench.answer(failing)[0]
    bench.failures.clear()

    bench.send(event)

    assert_turned_back(bench, "start_failed")


def test_committed_version_that_dies_later_is_left_for_the_one_before() -> None:
    bench = Bench().committed()

    bench.probe_for(50, ok=False)
    assert bench.phase() is Phase.IDLE, "two minutes at one probe in 30 s are 40 s at one in 10 s"
    bench.probe(ok=False)

    assert_turned_back(bench, "unhealthy")


def test_committed_version_in_a_crash_loop_is_left_for_the_one_before() -> None:
    bench = Bench().committed()
    for _ in range(4):
        bench.send(ApplicationExited())

    assert_turned_back(bench, "crash_loop")


def test_committed_version_is_kept_when_its_order_does_not_stand_any_more() -> None:
    bench = Bench().committed()
    bench.order(2, action="hold")

    bench.probe_for(600, ok=False)

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


def test_committed_version_is_kept_when_nothing_ran_before() -> None:
    bench = Bench(link=None, disk={}).committed()

    bench.probe_for(600, ok=False)

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


def test_first_version_ever_stays_and_says_so_when_its_trial_fails() -> None:
    bench = Bench(link=None, disk={}).on_trial()

    bench.wait(300)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.FAILED, "1.1.0", "no_safe_rollback")


def test_damaged_slot_is_never_gone_back_to() -> None:
    bench = Bench().on_trial()
    bench.fail(Step.CHECK, ErrorCode.INTEGRITY_FAILED)

    bench.wait(300)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.FAILED, "1.1.0", "no_safe_rollback")
    assert bench.events()[-1] == "integrity_failed"
    assert len(bench.all(SwitchSlot)) == 1


def test_slot_that_was_found_damaged_at_a_start_is_no_way_back_later() -> None:
    bench = Bench().on_trial()
    del bench.disk["blue"]
    bench.start()

    bench.wait(300)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.FAILED, "1.1.0", "no_safe_rollback")
    assert bench.link == "green"


def test_damaged_standby_is_not_activated() -> None:
    bench = Bench().ready()
    bench.fail(Step.CHECK, ErrorCode.INTEGRITY_FAILED)

    bench.grant()

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.FAILED, "1.0.0", "integrity_failed")
    assert bench.record.green is None, "nobody goes back to it later"
    assert bench.all(SwitchSlot) == []


@pytest.mark.parametrize("step", [Step.STOP, Step.SWITCH])
def test_old_version_serves_again_when_the_switch_fails(step: Step) -> None:
    bench = Bench().ready()
    bench.fail(step, ErrorCode.IO_ERROR)
    bench.grant()
    bench.failures.clear()

    bench.start()

    assert (bench.phase(), bench.version, bench.link) == (Phase.FAILED, "1.0.0", "blue")
    assert bench.error_code == "io_error"


@pytest.mark.parametrize("step", [Step.STOP, Step.SWITCH])
def test_what_was_stopped_is_read_again_before_it_is_started(step: Step) -> None:
    bench = Bench().ready()
    bench.fail(step, ErrorCode.IO_ERROR)

    effects = bench.grant()

    assert isinstance(effects[-1], Restart), "an agent that begins reads both slots"
    assert not any(isinstance(effect, StartApplication) for effect in effects)
    assert bench.record.phase is Phase.FAILED, "the next agent must not think that it is in the middle of a change"


def test_return_that_fails_for_good_has_what_was_stopped_read_again() -> None:
    bench = Bench().on_trial()
    bench.fail(Step.SWITCH, ErrorCode.IO_ERROR)
    bench.wait(300)

    effects = bench.wait(10)

    assert isinstance(effects[-1], Restart)
    assert (bench.record.phase, bench.error_code) == (Phase.FAILED, "rollback_failed")


def test_return_that_fails_is_tried_once_more() -> None:
    bench = Bench().on_trial()
    bench.fail(Step.SWITCH, ErrorCode.IO_ERROR)
    bench.wait(300)
    assert bench.phase() is Phase.ROLLING_BACK
    bench.failures.clear()

    bench.wait(10)

    assert_turned_back(bench, "io_error")


def test_return_ends_failed_when_the_old_version_does_not_get_well_either() -> None:
    bench = Bench().on_trial()
    bench.wait(300)

    bench.probe_for(300, ok=False)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "rollback_failed", "1.0.0")


def test_release_rolled_back_here_is_not_taken_again_under_the_same_generation() -> None:
    bench = Bench().on_trial()
    bench.wait(300)
    bench.probe_for(30)
    bench.log.clear()

    bench.order(1)
    bench.order(1, epoch=2)
    bench.reboot()
    bench.order(1)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    assert bench.all(SwitchSlot) == []


def test_release_that_failed_here_is_remembered_through_reboots() -> None:
    bench = Bench().on_trial()
    bench.wait(300)
    bench.probe_for(30)
    failed = (Refusal(generation=1, manifest_sha256=digest("manifest 1.1.0")),)
    assert bench.record.refused == failed

    bench.reboot()

    assert bench.record.refused == failed


def test_release_rolled_back_here_may_be_tried_under_a_newer_generation() -> None:
    bench = Bench().on_trial()
    bench.wait(300)
    bench.probe_for(30)

    bench.order(2)

    assert bench.phase() is Phase.READY


def test_rollback_is_watched_at_the_pace_of_its_order_and_asked_where_the_old_version_answers() -> None:
    bench = Bench()
    bench.disk["blue"] = bench.disk["blue"].model_copy(
        update={"health_check": HealthCheck(path="/old", interval_seconds=3600)}
    )
    bench.on_trial()
    bench.wait(300)

    serving = bench.device.record.serving
    assert serving is not None
    assert (serving.health_check.path, serving.health_check.interval_seconds) == ("/old", 10)
