"""Which orders on media a device takes, refuses or lets wait, and how it follows one without asking anybody."""

from dataclasses import replace
from typing import Any

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import CancelStep, Fetch, LogMedia, Persist, PublishReady, SwitchSlot
from device_client.core.events import (
    Connected,
    ConsentGiven,
    Disconnected,
    HoldCleared,
    HoldReceived,
    MediaRejected,
    NonceDrawn,
    Step,
)
from device_client.core.machine import Phase
from device_client.core.media import MediaRefused, MediaWait, judge_media
from device_client.core.setup import Setup
from schemas.media import MediaOrder
from schemas.messages import MediaRefusal
from schemas.times import format_timestamp
from schemas.windows import MaintenanceWindow
from tests.core.trust_roots import make_root
from tests.device.device_bench import Bench, digest
from tests.device.media_bench import DAY_SECONDS, MADE_AT, alone, found, look, make_media_order, make_target


def judged(bench: Bench, order: MediaOrder, clock: float = MADE_AT + 60) -> Any:  # noqa: ANN401 - target, refusal or wait
    return judge_media(bench.device, found(order), clock, bench.now)


def refusals(bench: Bench) -> list[tuple[int | None, str]]:
    return [(each.order, each.code) for each in bench.all(LogMedia) if each.is_refused]


def waits(bench: Bench) -> list[str]:
    return [each.code for each in bench.all(LogMedia) if not each.is_refused]


def test_device_installs_commits_and_reports_what_a_medium_orders_without_ever_asking() -> None:
    bench = alone()

    look(bench, make_media_order())
    assert bench.phase() is Phase.TRIAL
    bench.probe_for(90)

    assert (bench.phase(), bench.version, bench.link) == (Phase.IDLE, "1.1.0", "green")
    assert bench.all(PublishReady) == []
    assert bench.reported.media is not None
    assert (bench.reported.media.order, bench.reported.observed_generation) == (10, 0)


def test_device_goes_back_by_itself_when_what_a_medium_brought_is_ill() -> None:
    bench = alone()
    look(bench, make_media_order())

    bench.probe_for(20)
    bench.probe_for(60, ok=False)
    bench.wait(400)
    bench.probe_for(60)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    look(bench, make_media_order())
    assert bench.phase() is Phase.ROLLED_BACK, "the same order is not followed twice"
    look(bench, make_media_order(11))
    assert bench.phase() is Phase.TRIAL, "a newer one is a new attempt"


def test_device_leaves_a_committed_version_of_a_medium_that_dies_later() -> None:
    bench = alone()
    look(bench, make_media_order())
    bench.probe_for(90)

    bench.probe_for(200, ok=False)

    assert (bench.phase(), bench.version) == (Phase.ROLLING_BACK, "1.0.0")


@pytest.mark.parametrize(
    ("changes", "clock", "code"),
    [
        ({"devices": ("pi-2",)}, MADE_AT, ErrorCode.WRONG_DEVICE),
        ({"devices": (), "groups": ("audio",)}, MADE_AT, ErrorCode.WRONG_DEVICE),
        ({"devices": ()}, MADE_AT, ErrorCode.WRONG_DEVICE),
        ({"number": 9}, MADE_AT, ErrorCode.MEDIA_STALE),
        ({"not_after": format_timestamp(MADE_AT + 60)}, MADE_AT + 61, ErrorCode.EXPIRED),
        ({"not_after": format_timestamp(MADE_AT - 60)}, 0.0, ErrorCode.EXPIRED),
        ({"made_at": "2026-02-30T00:00:00Z"}, MADE_AT, ErrorCode.INVALID_ORDER),
        ({"targets": (make_target(arch="riscv64"),)}, MADE_AT, ErrorCode.ARCH_MISMATCH),
    ],
)
def test_order_is_refused_with_its_code(changes: dict[str, Any], clock: float, code: ErrorCode) -> None:
    bench = alone(setup=Setup(group="vision", arch="aarch64"))
    look(bench, make_media_order(10, "1.1.0"))
    bench.probe_for(90)

    refused = judged(bench, make_media_order(**{"number": 11, "version": "1.2.0", **changes}), clock)

    assert isinstance(refused, MediaRefused)
    assert refused.code is code
    before = bench.device.record
    look(bench, make_media_order(**{"number": 11, "version": "1.2.0", **changes}), clock=clock)
    assert bench.phase() is Phase.IDLE
    assert bench.version == "1.1.0"
    assert replace_told(bench.device.record) == replace_told(before), "nothing else is remembered"


def replace_told(record: Any) -> Any:  # noqa: ANN401 - a record without what it has told
    return record.model_copy(update={"media_refused": (), "reported_seq": 0})


@pytest.mark.parametrize("clock", [0.0, MADE_AT - 400 * DAY_SECONDS, MADE_AT, MADE_AT + 29 * DAY_SECONDS])
def test_expiry_is_not_asked_of_a_clock_that_must_be_wrong(clock: float) -> None:
    order = make_media_order(not_after=format_timestamp(MADE_AT + 30 * DAY_SECONDS))

    assert judged(alone(), order, clock) == order.targets[0]


def test_expiry_is_judged_by_the_time_of_the_last_grant_where_there_was_one() -> None:
    bench = alone()
    bench.device = replace(bench.device, server_ahead_seconds=MADE_AT + 31 * DAY_SECONDS - bench.now)
    order = make_media_order(not_after=format_timestamp(MADE_AT + 30 * DAY_SECONDS))

    assert judged(bench, order, clock=0.0).code is ErrorCode.EXPIRED


def test_root_that_had_expired_when_the_order_was_made_activates_nothing() -> None:
    root = make_root(1, expires=format_timestamp(MADE_AT - 1))

    assert judged(alone(root=root), make_media_order(), clock=0.0).code is ErrorCode.ROOT_EXPIRED


def test_device_takes_the_target_of_its_architecture() -> None:
    order = make_media_order(targets=(make_target(), make_target("1.1.0", "aarch64")))

    assert judged(alone(setup=Setup(arch="aarch64")), order).arch == "aarch64"
    assert judged(alone(setup=Setup(arch="x86_64")), order).arch == "noarch"


def test_device_takes_the_newest_of_its_orders_whatever_else_lies_there() -> None:
    bench = alone(setup=Setup(group="vision"))
    others = make_media_order(99, devices=("pi-2",))
    ours = make_media_order(12, "1.2.0", devices=(), groups=("vision",))

    look(bench, make_media_order(11), others, ours)

    assert bench.device.record.media is not None
    assert (bench.device.record.media.number, bench.version) == (12, "1.2.0")
    assert refusals(bench) == []


def test_refusal_is_told_once_in_the_log_and_stays_in_the_report() -> None:
    bench = alone()
    foreign = make_media_order(devices=("pi-2",))

    for _ in range(3):
        look(bench, foreign)
        bench.send(MediaRejected(digest("forged"), ErrorCode.SIGNATURE_INVALID, "no signature of a trusted key"))
    bench.reboot(connected=False)
    look(bench, foreign)

    assert refusals(bench) == [(10, "wrong_device"), (None, "signature_invalid")]
    assert bench.start()  # connected: the report is sent
    assert bench.reported.media is not None
    assert bench.reported.media.order is None
    assert bench.reported.media.refused == MediaRefusal(
        order=None, code="signature_invalid", message="no signature of a trusted key"
    )


def test_number_is_remembered_through_everything_that_comes_after() -> None:
    bench = alone()
    look(bench, make_media_order(10))
    bench.probe_for(90)
    bench.start()
    bench.order(1, "1.2.0")
    bench.grant()
    bench.probe_for(90)
    bench.reboot(connected=False)

    assert judged(bench, make_media_order(10)) is MediaWait.TAKEN
    assert judged(bench, make_media_order(9)).code is ErrorCode.MEDIA_STALE
    assert bench.device.record.marks.media == 10


def test_nothing_older_than_what_serves_is_installed_by_another_rule_than_online() -> None:
    bench = alone()
    look(bench, make_media_order())

    assert bench.all(Fetch)[-1].source.release_counter_min == 100
    assert bench.all(Fetch)[-1].source.serving_version == "1.0.0"


def test_version_that_serves_already_only_raises_the_number() -> None:
    bench = alone()

    look(bench, make_media_order(10, "1.0.0"))

    assert (bench.phase(), bench.all(Fetch), bench.device.record.marks.media) == (Phase.IDLE, [], 10)


# Beside orders from the bus.


def test_order_on_a_medium_waits_while_another_from_the_bus_stands_and_says_so_once() -> None:
    bench = Bench().committed()

    for _ in range(3):
        look(bench, make_media_order(10, "1.2.0"))
        assert bench.phase() is Phase.IDLE

    assert waits(bench) == ["order_stands"]
    assert bench.device.record.marks.media == 0


def test_order_on_a_medium_is_taken_when_the_bus_has_been_away_for_long() -> None:
    bench = Bench().committed()
    bench.send(Disconnected())

    bench.probe_for(590)
    look(bench, make_media_order(10, "1.2.0"))
    assert bench.phase() is Phase.IDLE
    bench.probe_for(10)
    look(bench, make_media_order(10, "1.2.0"))

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.2.0")


def test_order_on_a_medium_that_wants_what_the_bus_wanted_is_taken_at_once() -> None:
    bench = Bench().committed()

    look(bench, make_media_order(10, "1.1.0"))

    assert bench.device.record.marks.media == 10
    assert bench.phase() is Phase.IDLE


@pytest.mark.parametrize("setup", ["trial", "changing"])
def test_order_on_a_medium_waits_for_what_is_under_way(setup: str) -> None:
    bench = Bench().ready()
    bench.answers = setup == "trial"
    bench.grant()
    bench.send(Disconnected())
    bench.now += 10_000 if setup == "changing" else 0

    assert judged(bench, make_media_order(10, "1.2.0")) is MediaWait.UNDER_WAY


def test_newer_order_from_the_bus_takes_the_place_of_one_from_a_medium() -> None:
    bench = alone()
    bench.answers = False
    look(bench, make_media_order(10, "1.1.0"))
    assert bench.phase() is Phase.DOWNLOADING

    bench.start()
    bench.answers = True
    effects = bench.order(7, "1.2.0")

    assert any(isinstance(effect, CancelStep) for effect in effects)
    assert bench.phase() is Phase.READY
    assert (bench.reported.observed_generation, bench.reported.media) == (7, None)
    bench.grant()
    assert bench.version == "1.2.0"


def test_order_from_the_bus_for_the_version_that_a_medium_brought_has_no_second_effect() -> None:
    bench = alone()
    look(bench, make_media_order())
    bench.probe_for(90)
    bench.start()
    fetched, switched = len(bench.all(Fetch)), len(bench.all(SwitchSlot))

    bench.order(7, "1.1.0")

    assert (bench.phase(), bench.reported.observed_generation) == (Phase.IDLE, 7)
    assert (len(bench.all(Fetch)), len(bench.all(SwitchSlot))) == (fetched, switched)


def test_order_from_the_bus_that_was_followed_does_not_come_back_after_a_medium() -> None:
    bench = Bench().committed()
    bench.send(Disconnected())
    bench.probe_for(600)
    look(bench, make_media_order(10, "1.2.0"))
    bench.probe_for(90)
    assert bench.phase() is Phase.IDLE

    bench.start()
    bench.order(1, "1.1.0")

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.2.0")
    assert bench.reported.observed_generation == 1


def test_order_from_the_bus_that_was_not_followed_is_when_it_comes_again() -> None:
    bench = Bench().ready(1, version="1.2.0")
    bench.send(Disconnected())
    bench.probe_for(600)
    look(bench, make_media_order(10, "1.1.0"))
    bench.probe_for(90)
    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")

    bench.start()
    bench.order(1, "1.2.0")

    assert (bench.phase(), bench.reported.media) == (Phase.READY, None)
    bench.grant()
    assert bench.version == "1.2.0"


def test_newer_medium_takes_the_place_of_one_that_was_pulled_out() -> None:
    bench = alone()
    bench.fail(Step.FETCH, ErrorCode.MEDIA_MISSING)
    look(bench, make_media_order(10))
    bench.failures.clear()

    look(bench, make_media_order(11, "1.2.0"))

    assert (bench.version, bench.phase()) == ("1.2.0", Phase.TRIAL)


# A medium that comes and goes.


def test_device_waits_without_end_for_a_medium_that_was_pulled_out_and_goes_on_when_it_is_back() -> None:
    bench = alone()
    bench.fail(Step.FETCH, ErrorCode.MEDIA_MISSING, retryable=True)
    look(bench, make_media_order())
    look(bench)  # it is gone
    writes = len(bench.all(Persist))

    bench.probe_for(90_000)
    assert (bench.phase(), bench.error_code, bench.version) == (Phase.DOWNLOADING, "media_missing", "1.0.0")
    assert len(bench.all(Persist)) - writes <= 2, "waiting wears nothing out"
    bench.failures.clear()
    look(bench, make_media_order())

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")


def test_device_reads_a_medium_again_that_is_not_copied_to_its_end() -> None:
    bench = alone()
    bench.fail(Step.FETCH, ErrorCode.MEDIA_MISSING, retryable=True)
    look(bench, make_media_order())
    fetches = len(bench.all(Fetch))
    bench.wait(120)
    assert len(bench.all(Fetch)) == fetches + 1
    bench.failures.clear()

    bench.wait(120)

    assert bench.phase() is Phase.TRIAL


def test_device_gives_up_a_damaged_medium_after_as_many_attempts_as_any_download() -> None:
    bench = alone()
    bench.fail(Step.FETCH, ErrorCode.CHECKSUM_MISMATCH, retryable=True)
    look(bench, make_media_order())

    bench.probe_for(2000)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "checksum_mismatch", "1.0.0")


def test_restart_goes_on_with_the_order_of_a_medium() -> None:
    bench = alone()
    bench.answers = False
    look(bench, make_media_order())
    bench.answers = True

    bench.reboot(connected=False)

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")


# What the device itself insists on.


def test_consent_holds_for_orders_on_media_and_one_for_another_order_does_not_count() -> None:
    bench = Bench(setup=Setup(needs_consent=True, media_wait_seconds=0.0)).started()
    bench.order(1, "1.1.0")
    bench.send(ConsentGiven(1))
    bench.grant()
    bench.probe_for(90)
    bench.start(connected=False)

    look(bench, make_media_order(10, "1.2.0"))
    assert (bench.phase(), bench.error_code) == (Phase.WAITING, "consent_missing")
    bench.send(ConsentGiven(1))
    assert bench.phase() is Phase.WAITING
    bench.send(ConsentGiven(10))

    assert bench.phase() is Phase.TRIAL


def test_window_is_judged_by_the_clock_of_the_device_as_there_is_no_other() -> None:
    window = MaintenanceWindow(start="02:00", end="05:00", time_zone="UTC")
    bench = alone(setup=Setup(window=window), clock=12 * 3600.0)

    look(bench, make_media_order())
    assert (bench.phase(), bench.error_code) == (Phase.WAITING, "outside_window")
    bench.clock = 3 * 3600.0
    bench.wait(3600)

    assert bench.phase() is Phase.TRIAL


def test_hook_before_the_switch_decides_about_orders_on_media_too() -> None:
    bench = alone(setup=Setup(hooks=frozenset({Step.BEFORE_SWITCH})))
    bench.fail(Step.BEFORE_SWITCH, ErrorCode.HOOK_FAILED)

    look(bench, make_media_order())

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "hook_failed", "1.0.0")


def test_brake_that_was_heard_holds_for_orders_on_media_until_somebody_says_that_it_is_off() -> None:
    bench = Bench().started()
    bench.send(HoldReceived())

    look(bench, make_media_order())
    assert (bench.phase(), bench.version) == (Phase.READY, "1.0.0")
    bench.send(Disconnected())
    bench.probe_for(100)
    assert (bench.phase(), bench.version) == (Phase.READY, "1.0.0")
    bench.send(Connected())
    assert bench.phase() is Phase.READY, "it may be heard in a moment"
    bench.probe_for(10)

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0")


def test_brake_that_was_heard_holds_for_orders_on_media_after_a_restart_without_a_network() -> None:
    bench = Bench().started()
    bench.send(HoldReceived())

    bench.reboot(connected=False)
    look(bench, make_media_order())
    bench.probe_for(1000)
    assert (bench.phase(), bench.version) == (Phase.READY, "1.0.0")
    bench.send(Connected())
    bench.reboot(connected=False)
    bench.probe_for(10)

    assert (bench.phase(), bench.version) == (Phase.TRIAL, "1.1.0"), "it was lifted: nobody said that it is on"


def test_brake_that_was_lifted_does_not_come_back_with_a_restart() -> None:
    bench = Bench().started()
    bench.send(HoldReceived(), HoldCleared())

    bench.reboot(connected=False)
    look(bench, make_media_order())
    bench.probe_for(100)

    assert bench.version == "1.1.0"


def test_nonce_that_comes_late_activates_nothing() -> None:
    bench = alone()
    look(bench, make_media_order())
    bench.probe_for(90)
    switched = len(bench.all(SwitchSlot))

    bench.send(NonceDrawn("0" * 32, "activate"))

    assert (bench.phase(), len(bench.all(SwitchSlot))) == (Phase.IDLE, switched)
