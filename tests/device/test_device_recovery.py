from typing import NoReturn

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import Fetch, StartApplication, StopApplication, SwitchSlot
from device_client.core.events import Connected, Restoration, StepSucceeded
from device_client.core.installing import ATTEMPTS_MAX
from device_client.core.machine import Phase
from device_client.core.record import Record
from tests.device.device_bench import Bench, make_content


def test_fresh_device_serves_what_its_slot_holds() -> None:
    bench = Bench().started()

    assert (bench.version, bench.phase()) == ("1.0.0", Phase.IDLE)


def test_empty_device_serves_nothing_and_waits_for_an_order() -> None:
    bench = Bench(link=None, disk={}).started()

    assert (bench.running, bench.phase()) == (None, Phase.IDLE)


def test_lost_record_is_rebuilt_from_link_and_markers() -> None:
    bench = Bench().committed()
    bench.record = Record()

    bench.reboot()

    assert (bench.version, bench.phase(), bench.record.active) == ("1.1.0", Phase.IDLE, "green")


def test_sessions_and_report_numbers_grow_over_restarts() -> None:
    bench = Bench().committed()
    session, seq = bench.record.session, bench.reported.seq

    bench.reboot()

    assert bench.record.session == session + 1
    assert bench.reported.seq > seq


def test_download_goes_on_after_a_power_cut() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)

    bench.answers = True
    bench.reboot()

    assert bench.phase() is Phase.READY


def test_finished_install_is_found_and_not_fetched_again() -> None:
    bench = Bench().ready()
    bench.log.clear()

    bench.reboot()

    assert bench.all(Fetch) == []
    assert bench.phase() is Phase.READY


def test_install_that_kills_the_agent_every_time_is_given_up() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)
    for _ in range(2):
        bench.send(StepSucceeded(bench.device.step or _fail(), bench.device.ticket))
    assert bench.phase() is Phase.INSTALLING
    for _ in range(ATTEMPTS_MAX):
        bench.start()
        while bench.phase() in (Phase.DOWNLOADING, Phase.VERIFYING):
            bench.send(StepSucceeded(bench.device.step or _fail(), bench.device.ticket))

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "interrupted")


def test_permission_that_was_not_used_is_asked_for_again() -> None:
    bench = Bench().ready()
    bench.answers = False
    bench.grant()
    assert bench.record.phase is Phase.DRAINING

    bench.answers = True
    bench.reboot()

    assert (bench.phase(), bench.version, bench.record.trial) == (Phase.READY, "1.0.0", None)


def test_switch_that_was_not_done_is_not_done_later() -> None:
    bench = at_switch()

    bench.reboot()

    assert (bench.phase(), bench.version, bench.link) == (Phase.READY, "1.0.0", "blue")


def test_switch_that_was_done_is_a_trial() -> None:
    bench = at_switch()
    bench.link = "green"

    bench.reboot()
    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")
    bench.probe_for(90)

    assert bench.phase() is Phase.IDLE


def test_trial_goes_on_after_a_restart_of_the_agent_with_the_same_deadline() -> None:
    bench = Bench().on_trial()
    bench.wait(200)

    bench.start(connected=False)
    assert bench.phase() is Phase.TRIAL
    bench.wait(100)

    assert bench.phase() is Phase.ROLLING_BACK


def test_trial_whose_deadline_passed_while_the_agent_was_away_turns_back() -> None:
    bench = Bench().on_trial()
    bench.now += 301
    bench.running = None

    effects = bench.start(connected=False)
    assert [e.slot for e in effects if isinstance(e, StartApplication)] == ["blue"], "it is not even started again"
    bench.probe_for(30)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")


def test_trial_survives_two_reboots_and_not_three() -> None:
    bench = Bench().on_trial()
    for _ in range(2):
        bench.reboot()
        assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")

    bench.reboot()
    bench.probe_for(30)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")


def test_health_of_a_trial_is_proven_again_after_a_restart() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.probe_for(90)
    bench.start()

    bench.probe_for(310, ok=False)

    assert bench.phase() is Phase.ROLLING_BACK


def test_damaged_trial_turns_back_at_once() -> None:
    bench = Bench().on_trial()
    del bench.disk["green"]

    bench.reboot()
    bench.probe_for(30)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "integrity_failed")


def restore(bench: Bench, generation: int = 1) -> None:
    """Do what a guardian does while there is no agent."""
    bench.link = bench.running = "blue"
    manifest = bench.disk["green"].manifest_sha256
    bench.restoration = Restoration(generation, manifest, "blue", ErrorCode.AGENT_SILENT, "no sign for 120 s")


@pytest.mark.parametrize("is_recorded", [True, False])
def test_trial_that_a_guardian_ended_is_reported_and_not_tried_again(is_recorded: bool) -> None:  # noqa: FBT001 - a case
    bench = Bench().on_trial() if is_recorded else at_switch()
    restore(bench)
    bench.answers = True
    bench.log.clear()

    bench.start()
    assert (bench.reported.state, bench.all(StopApplication), bench.all(SwitchSlot)) == ("rolling_back", [], [])
    bench.probe_for(30)

    error = bench.reported.error
    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    assert error is not None
    assert (error.code, error.step, error.message) == ("agent_silent", "guardian", "no sign for 120 s")
    assert bench.record.is_refused(1, bench.disk["green"].manifest_sha256)
    assert bench.events()[-1] == "rolled_back"


def test_old_version_that_a_guardian_let_serve_has_to_prove_itself() -> None:
    bench = Bench().on_trial()
    restore(bench)

    bench.start()
    bench.probe_for(310, ok=False)

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "rollback_failed")


def test_word_of_a_guardian_about_another_trial_does_not_count() -> None:
    bench = Bench().on_trial()
    restore(bench, generation=7)

    bench.start()
    bench.probe_for(30)

    assert (bench.phase(), bench.error_code) == (Phase.ROLLED_BACK, "integrity_failed")


def test_word_of_a_guardian_that_was_cut_off_before_it_switched_does_not_count() -> None:
    bench = Bench().on_trial()
    restore(bench)
    bench.link = bench.running = "green"

    bench.start()

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")


def test_return_goes_on_after_a_power_cut() -> None:
    bench = Bench().on_trial()
    bench.answers = False
    bench.wait(300)
    assert bench.link == "green"

    bench.answers = True
    bench.reboot()
    bench.probe_for(30)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "deadline_exceeded")


def test_return_that_was_done_only_has_to_prove_itself() -> None:
    bench = Bench().on_trial()
    bench.wait(300)
    bench.log.clear()

    bench.reboot()
    bench.probe_for(30)

    assert bench.phase() is Phase.ROLLED_BACK
    assert bench.all(SwitchSlot) == []


def test_damaged_active_slot_is_replaced_by_the_other_one() -> None:
    bench = Bench().committed()
    del bench.disk["green"]

    bench.reboot()

    assert (bench.version, bench.link, bench.phase()) == ("1.0.0", "blue", Phase.FAILED)
    assert bench.error_code == "integrity_failed"


def with_a_damaged_slot_and_the_order_in_standby() -> Bench:
    bench = Bench(alive={"blue"}).ready()
    del bench.disk["blue"]
    return bench


def test_what_serves_only_because_the_active_slot_is_damaged_is_no_success_of_the_order() -> None:
    bench = with_a_damaged_slot_and_the_order_in_standby()

    bench.start()

    assert (bench.version, bench.link, bench.phase()) == ("1.1.0", "green", Phase.FAILED)
    assert bench.error_code == "integrity_failed"


def test_link_that_cannot_be_led_away_from_a_damaged_slot_ends_the_agent_before_what_runs_is_stopped() -> None:
    bench = with_a_damaged_slot_and_the_order_in_standby()

    effects = bench.start()

    (switch,) = (each for each in effects if isinstance(each, SwitchSlot))
    (stop,) = (each for each in effects if isinstance(each, StopApplication))
    assert (switch.slot, switch.must_succeed) == ("green", True)
    assert effects.index(switch) < effects.index(stop)


def test_device_without_any_verified_slot_runs_nothing() -> None:
    bench = Bench(alive={"blue"}).committed()
    bench.disk.clear()

    bench.start()

    assert (bench.running, bench.phase(), bench.error_code) == (None, Phase.FAILED, "integrity_failed")
    bench.disk["blue"] = make_content("1.0.0")
    bench.order(2, "1.2.0")
    bench.grant()
    assert bench.version == "1.2.0", "it can still be repaired"


def test_device_without_any_verified_slot_is_repaired_beside_the_slot_that_the_link_leads_to() -> None:
    bench = Bench().started()
    assert bench.link == "blue"
    bench.disk.clear()
    bench.reboot()

    bench.order(1, "1.1.0")
    bench.grant()

    assert (bench.version, bench.link) == ("1.1.0", "green"), "what the link leads to is never written"
    assert bench.record == Record.model_validate_json(bench.record.model_dump_json())


def test_first_install_does_not_serve_after_a_power_cut_before_it_was_permitted() -> None:
    bench = Bench(link=None, disk={}).ready()

    bench.reboot()

    assert (bench.phase(), bench.running, bench.link) == (Phase.READY, None, None)


def test_lost_record_and_lost_link_leave_what_is_verified() -> None:
    bench = Bench(link=None)

    bench.start()

    assert (bench.version, bench.link) == ("1.0.0", "blue")


def test_application_of_the_wrong_slot_is_stopped_before_the_right_one_starts() -> None:
    bench = at_switch()
    bench.running = "green"

    effects = bench.start(connected=False)

    kinds = [type(effect) for effect in effects]
    assert kinds.index(StopApplication) < kinds.index(StartApplication)
    assert bench.version == "1.0.0"


def test_ordered_rollback_asks_again_after_a_power_cut() -> None:
    bench = Bench().committed()
    bench.order(2, "1.0.0", action="rollback")

    bench.reboot(connected=False)
    bench.send(Connected())
    bench.grant()
    bench.probe_for(30)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")


def at_switch() -> Bench:
    """A device whose power is cut between the permission's record and the link."""
    bench = Bench().ready()
    bench.answers = False
    bench.grant()
    for _ in range(2):
        bench.send(StepSucceeded(bench.device.step or _fail(), bench.device.ticket))
    assert bench.record.phase is Phase.SWITCHING
    bench.answers = True
    return bench


def _fail() -> NoReturn:
    raise AssertionError("no step is under way")
