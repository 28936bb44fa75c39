import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import (
    CancelStep,
    ClearStaging,
    Fetch,
    Install,
    Persist,
    PublishAvailability,
    PublishInfo,
    PublishReported,
    SmokeTest,
    StopApplication,
    SwitchSlot,
)
from device_client.core.events import (
    AvailabilityEchoed,
    Connected,
    DesiredReceived,
    Disconnected,
    Progressed,
    Step,
    StepSucceeded,
    SyncReceived,
)
from device_client.core.machine import Phase
from device_client.core.record import Record, Refusal
from tests.device.device_bench import Bench, digest, make_desired


def test_install_ends_idle_on_the_new_version_when_all_goes_well() -> None:
    bench = Bench().committed()

    assert bench.version == "1.1.0"
    assert (bench.reported.state, bench.reported.observed_generation, bench.reported.error) == ("idle", 1, None)
    assert (bench.reported.installed_version, bench.reported.previous_version) == ("1.1.0", "1.0.0")


def test_first_install_fills_an_empty_device() -> None:
    bench = Bench(link=None, disk={}).committed()

    assert (bench.version, bench.link) == ("1.1.0", "blue")


def test_every_phase_of_an_install_is_reported_in_order() -> None:
    bench = Bench().committed()

    states = [effect.reported.state for effect in bench.all(PublishReported)]
    assert states == [
        "idle", "downloading", "verifying", "installing", "ready", "draining", "switching", "trial", "idle",
    ]  # fmt: skip


def test_report_numbers_only_grow_when_something_changes() -> None:
    bench = Bench().committed()

    numbers = [effect.reported.seq for effect in bench.all(PublishReported)]
    assert numbers == sorted(set(numbers))


def test_order_changes_nothing_when_its_generation_is_lower() -> None:
    bench = Bench().ready(generation=7)

    before = bench.device
    assert bench.order(6, "1.2.0") == []
    assert bench.device == before


def test_order_changes_nothing_when_its_epoch_is_older() -> None:
    bench = Bench().ready(generation=7, epoch=3)

    assert bench.order(8, "1.2.0", epoch=2) == []


def test_epoch_of_a_grant_fences_older_orders() -> None:
    bench = Bench().ready()
    bench.grant("wait", epoch=5)

    assert bench.order(2, "1.2.0", epoch=4) == []


def test_same_order_again_only_reports_again() -> None:
    bench = Bench().ready(generation=7)

    effects = bench.order(7)

    assert [type(effect) for effect in effects] == [PublishReported]


def test_same_generation_takes_new_addresses_but_no_new_target() -> None:
    bench = Bench().ready(generation=7)
    asked = bench.question

    bench.order(7, epoch=2)
    assert bench.device.record.desired is not None
    assert bench.device.record.desired.epoch == 2
    assert bench.question.nonce != asked.nonce, "a grant must name the order as it is now"
    assert bench.order(7, "1.2.0", epoch=2) == []


def test_order_is_durable_before_anything_is_fetched() -> None:
    effects = Bench().started().order(1)

    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(PublishReported) < kinds.index(Fetch)
    assert next(e for e in effects if isinstance(e, Persist)).record.desired_sha256 is not None


def test_standby_is_given_up_durably_before_its_first_byte_changes() -> None:
    bench = Bench().committed()

    effects = bench.order(2, "1.2.0")

    install = next(i for i, effect in enumerate(effects) if isinstance(effect, Install))
    before = [effect.record for effect in effects[:install] if isinstance(effect, Persist)][-1]
    assert (before.blue, before.previous) == (None, None)
    assert before.green is not None


def test_refused_release_is_not_even_prepared_under_the_same_generation() -> None:
    bench = Bench(record=Record(refused=(Refusal(generation=1, manifest_sha256=digest("manifest 1.1.0")),))).started()

    effects = bench.order(1)

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "refused_release")
    assert not any(isinstance(effect, Fetch) for effect in effects)


def test_release_that_serves_already_is_observed_without_work() -> None:
    bench = Bench().committed()

    effects = bench.order(2)

    assert not any(isinstance(effect, Fetch) for effect in effects)
    assert (bench.reported.state, bench.reported.observed_generation) == ("idle", 2)


def test_newer_order_replaces_a_download() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)
    late = bench.last(Fetch)

    effects = bench.order(2, "1.2.0")
    assert CancelStep() in effects
    assert bench.last(Fetch).source.version == "1.2.0"
    assert bench.send(StepSucceeded(Step.FETCH, late.ticket)) == [], "a late answer means nothing"


def test_hold_drops_an_install_that_is_not_activated() -> None:
    bench = Bench().ready()

    effects = bench.order(2, action="hold")

    assert ClearStaging() in effects
    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.0.0")


def test_hold_lets_a_trial_end_by_the_local_rule() -> None:
    bench = Bench().on_trial(commit_on="gate")

    bench.order(2, action="hold")
    assert bench.phase() is Phase.TRIAL
    bench.probe_for(90)

    assert (bench.phase(), bench.version, bench.reported.observed_generation) == (Phase.IDLE, "1.1.0", 2)


def test_newer_install_waits_for_the_end_of_a_trial() -> None:
    bench = Bench().on_trial(commit_on="gate")

    bench.order(2, "1.2.0")
    assert bench.phase() is Phase.TRIAL
    bench.probe_for(90)

    assert bench.phase() is Phase.READY
    assert bench.last(Install).source.version == "1.2.0"


def test_order_that_arrives_during_a_switch_is_followed_after_it() -> None:
    bench = Bench().ready()
    bench.answers = False
    bench.grant()
    bench.order(2, "1.0.0", action="rollback")
    assert bench.phase() is Phase.DRAINING

    bench.answers = True
    bench.send(StepSucceeded(Step.CHECK, bench.device.ticket))
    assert (bench.phase(), bench.link) == (Phase.READY, "green")
    bench.grant()
    bench.probe_for(30)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")


def test_ordered_rollback_asks_and_then_switches_without_a_download() -> None:
    bench = Bench().committed()
    bench.log.clear()

    bench.order(2, "1.0.0", action="rollback")
    assert (bench.phase(), bench.version, bench.question.step) == (Phase.READY, "1.1.0", "activate")
    bench.grant()
    bench.probe_for(30)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    assert bench.all(Fetch) == []
    assert bench.reported.error is None
    assert bench.events() == ["slot_switched", "rolled_back"]


def test_rollback_twice_is_rollback_once() -> None:
    bench = Bench().committed()
    bench.order(2, "1.0.0", action="rollback")
    bench.grant()
    bench.probe_for(30)
    bench.log.clear()

    bench.order(2, "1.0.0", action="rollback")
    bench.order(3, "1.0.0", action="rollback")

    assert (bench.phase(), bench.version, bench.reported.observed_generation) == (Phase.ROLLED_BACK, "1.0.0", 3)
    assert bench.all(SwitchSlot) == []


def test_rollback_to_what_serves_drops_the_install_under_way() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)

    effects = bench.order(2, "1.0.0", action="rollback")

    assert CancelStep() in effects
    assert (bench.reported.state, bench.reported.observed_generation) == ("idle", 2)


def test_rollback_fails_and_stays_when_no_slot_holds_the_version() -> None:
    bench = Bench().committed()

    bench.order(2, "0.9.0", action="rollback")

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "no_safe_rollback", "1.1.0")


def test_rollback_during_a_trial_keeps_the_fallback_armed_while_it_asks() -> None:
    bench = Bench().on_trial()
    bench.order(2, "1.0.0", action="rollback")
    assert bench.phase() is Phase.READY
    bench.probe_for(90)
    assert bench.phase() is Phase.READY, "an uncommitted version is not committed against an order"

    bench.wait(300)
    bench.probe_for(30)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "deadline_exceeded")


def test_failed_step_is_tried_again_with_growing_pauses_and_then_given_up() -> None:
    bench = Bench().started()
    bench.fail(Step.FETCH, ErrorCode.DOWNLOAD_FAILED, retryable=True)
    bench.order(1)
    pauses = []
    while bench.phase() is Phase.DOWNLOADING:
        assert bench.device.retry_at is not None
        assert bench.reported.error is not None
        assert bench.reported.error.retryable
        pauses.append(bench.device.retry_at - bench.now)
        bench.wait(pauses[-1] + 0.1)

    assert len(bench.all(Fetch)) == 5
    assert pauses == sorted(pauses)
    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "download_failed", "1.0.0")


@pytest.mark.parametrize("step", [Step.FETCH, Step.VERIFY, Step.INSTALL, Step.SMOKE_TEST])
def test_install_fails_and_keeps_what_serves_when_a_step_fails_for_good(step: Step) -> None:
    bench = Bench().started()
    bench.fail(step, ErrorCode.SIGNATURE_INVALID)

    bench.order(1)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "signature_invalid", "1.0.0")
    assert bench.all(StopApplication) == []


def test_failed_device_takes_the_next_order() -> None:
    bench = Bench().started()
    bench.fail(Step.FETCH, ErrorCode.SIGNATURE_INVALID)
    bench.order(1)
    bench.failures.clear()

    bench.order(2, "1.2.0")

    assert (bench.phase(), bench.error_code) == (Phase.READY, None)


def test_retry_goes_back_to_the_download_whatever_failed() -> None:
    bench = Bench().started()
    bench.fail(Step.VERIFY, ErrorCode.CHECKSUM_MISMATCH, retryable=True)
    bench.order(1)
    bench.failures.clear()

    bench.wait(60)

    assert len(bench.all(Fetch)) == 2
    assert bench.phase() is Phase.READY


def test_install_that_stands_in_standby_is_not_fetched_again() -> None:
    bench = Bench().ready()
    bench.order(2, action="hold")
    bench.log.clear()

    bench.order(3)

    assert bench.all(Fetch) == []
    assert len(bench.all(SmokeTest)) == 1
    assert bench.phase() is Phase.READY


def test_older_release_in_standby_is_a_downgrade_unless_it_ran_before() -> None:
    bench = Bench().committed()
    bench.order(2, "1.0.0")
    assert bench.phase() is Phase.READY, "the version that ran before may be installed again"

    other = Bench().ready(version="1.1.0")
    other.disk["blue"] = other.disk["blue"].model_copy(update={"release_counter": 999})
    other.start()
    assert (other.phase(), other.error_code) == (Phase.FAILED, "downgrade")


def test_order_without_manifest_is_invalid() -> None:
    bench = Bench().started()

    bench.order(1, manifest=None)

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "invalid_order")


def test_order_with_an_impossible_time_is_invalid() -> None:
    bench = Bench().started()

    bench.order(1, not_after="2026-02-31T00:00:00Z")

    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "invalid_order")


def test_connect_says_hello_and_reports_again() -> None:
    bench = Bench().started()
    bench.send(Disconnected())

    effects = bench.send(Connected())

    assert [type(effect) for effect in effects] == [PublishAvailability, PublishInfo, PublishReported]


def test_sync_is_answered_within_its_spread() -> None:
    bench = Bench().started()

    assert bench.send(SyncReceived(10.0)) == []
    effects = bench.wait(10.0)

    assert [type(effect) for effect in effects] == [PublishInfo, PublishReported]


def test_late_will_is_corrected_only_while_connected() -> None:
    bench = Bench().started()

    assert bench.send(AvailabilityEchoed("offline")) == [PublishAvailability("online")]
    assert bench.send(AvailabilityEchoed("online")) == []
    bench.send(Disconnected())
    assert bench.send(AvailabilityEchoed("offline")) == []


def test_download_is_reported_in_steps_of_ten() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)

    effects = [effect for percentage in range(0, 101, 3) for effect in bench.send(Progressed(percentage))]

    shown = [e.reported.update_percentage for e in effects if isinstance(e, PublishReported)]
    assert shown == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_order_digest_is_that_of_the_bytes_received() -> None:
    bench = Bench().started()

    bench.send(DesiredReceived(make_desired(1), digest("as received")))

    assert bench.record.desired_sha256 == digest("as received")


def test_rollback_that_cannot_be_followed_leaves_the_trial_to_the_local_rule() -> None:
    bench = Bench().on_trial(commit_on="gate")
    bench.order(2, "0.9.0", action="rollback")

    bench.probe_for(90)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "no_safe_rollback", "1.1.0")


@pytest.mark.parametrize(
    "said", ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "cc-what-comes-one-day", ""]
)
def test_trace_of_an_order_is_said_again_and_costs_no_order_whatever_is_in_it(said: str) -> None:
    bench = Bench()

    bench.start()
    bench.order(1, traceparent=said)

    assert bench.phase() is not Phase.FAILED
    assert (bench.reported.observed_generation, bench.reported.traceparent) == (1, said)


def test_report_names_no_trace_where_the_order_names_none() -> None:
    assert "traceparent" not in Bench().committed().reported.model_dump_json()
