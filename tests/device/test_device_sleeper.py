"""A device that was away for a month finds one order when it is back, and does the right thing, whatever it is.

Only the last order is retained, so this is all that it hears of what happened meanwhile.
"""

from collections.abc import Callable

import pytest

from device_client.core.effects import Fetch, Install, LogRefusal, PublishReported, SwitchSlot
from device_client.core.events import Connected, Disconnected, GrantReceived
from device_client.core.machine import Phase
from device_client.core.probe import UNREACHABLE_SECONDS
from tests.device.device_bench import Bench

MONTH_SECONDS = 30 * 86400.0
LATER = "2026-12-23T10:00:00Z"


def asleep(bench: Bench) -> None:
    """It sleeps: nothing runs, and the boot clock goes on."""
    bench.send(Disconnected())
    bench.now += MONTH_SECONDS
    bench.send(Connected())


def switched_off(bench: Bench) -> None:
    """It has no power: everything starts again, the boot clock too."""
    bench.reboot()


AWAY = pytest.mark.parametrize("away", [asleep, switched_off])
Away = Callable[[Bench], None]


def test_failed_probe_before_the_sleep_and_one_after_it_are_two_and_not_an_illness_of_a_month() -> None:
    bench = Bench().committed()
    bench.probe(ok=False, seconds=10)
    asleep(bench)

    bench.probe(ok=False, seconds=3)

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")
    bench.probe_for(UNREACHABLE_SECONDS, ok=False)
    assert (bench.phase(), bench.error_code) == (Phase.ROLLING_BACK, "unhealthy")


@AWAY
@pytest.mark.parametrize("generation", [1, 6])
def test_older_order_changes_nothing(away: Away, generation: int) -> None:
    bench = Bench().committed(generation=7)
    away(bench)

    assert bench.order(generation, "1.2.0") == []

    assert (bench.phase(), bench.version, bench.record.marks.generation) == (Phase.IDLE, "1.1.0", 7)


@AWAY
def test_order_of_an_orchestrator_that_was_replaced_meanwhile_changes_nothing(away: Away) -> None:
    bench = Bench().ready(generation=7, epoch=3)
    bench.grant(epoch=3)
    bench.probe_for(90)
    away(bench)

    assert bench.order(8, "1.2.0", epoch=2) == []

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


@AWAY
def test_order_that_was_followed_before_is_answered_and_nothing_else(away: Away) -> None:
    bench = Bench().committed(generation=7)
    away(bench)

    effects = bench.order(7)

    assert [type(effect) for effect in effects] == [PublishReported]
    assert (bench.reported.state, bench.reported.observed_generation) == ("idle", 7)


@AWAY
def test_same_generation_with_another_target_changes_nothing(away: Away) -> None:
    bench = Bench().committed(generation=7)
    away(bench)

    assert bench.order(7, "1.2.0") == []


@AWAY
def test_newest_order_is_followed_and_those_between_never_were(away: Away) -> None:
    bench = Bench().committed(generation=7)
    away(bench)

    bench.order(12, "1.2.0")
    assert bench.phase() is Phase.READY
    bench.grant(server_time=LATER)
    bench.probe_for(90)

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.2.0")
    assert [effect.source.version for effect in bench.all(Fetch)] == ["1.1.0", "1.2.0"]


@AWAY
@pytest.mark.parametrize("begin", [Bench.started, Bench.ready, Bench.committed])
def test_hold_that_a_revoked_rollout_has_left_lets_serve_what_serves(
    away: Away, begin: Callable[[Bench], Bench]
) -> None:
    bench = begin(Bench())
    served = bench.version
    away(bench)

    bench.order(8, "1.2.0", action="hold")

    assert (bench.phase(), bench.version) == (Phase.IDLE, served)
    assert (bench.reported.state, bench.reported.observed_generation) == ("idle", 8)
    assert bench.record.error is None


@AWAY
def test_install_that_was_revoked_before_its_grant_is_not_made_up_for(away: Away) -> None:
    bench = Bench().ready(generation=7)
    late = bench.make_grant(bench.question)
    away(bench)
    bench.order(8, "1.1.0", action="hold")

    effects = bench.send(GrantReceived(late))

    assert [type(effect) for effect in effects] == [LogRefusal]
    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.0.0")


@AWAY
def test_grant_from_before_is_void_and_the_device_asks_anew(away: Away) -> None:
    bench = Bench().ready(generation=7)
    asked = bench.question
    late = bench.make_grant(asked)
    away(bench)
    bench.order(7)

    effects = bench.send(GrantReceived(late))

    assert any(isinstance(effect, LogRefusal) for effect in effects)
    assert bench.phase() is Phase.READY
    assert bench.question.nonce != asked.nonce
    bench.grant(server_time=LATER)
    assert bench.phase() is Phase.TRIAL


@AWAY
def test_install_whose_time_is_over_is_given_up_with_the_first_answer(away: Away) -> None:
    bench = Bench().committed(generation=7)
    away(bench)

    bench.order(9, "1.2.0", not_after="2026-12-01T00:00:00Z")
    bench.grant(server_time=LATER)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "expired", "1.1.0")
    assert not any(effect.slot == "blue" for effect in bench.all(SwitchSlot)[1:])


@AWAY
def test_rollback_is_followed_from_what_the_device_still_has(away: Away) -> None:
    bench = Bench().committed(generation=7)
    away(bench)
    fetched = len(bench.all(Fetch))

    bench.order(8, "1.0.0", action="rollback")
    bench.grant(server_time=LATER)
    bench.probe_for(90)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    assert len(bench.all(Fetch)) == fetched


@AWAY
def test_rollback_to_what_the_device_never_left_is_nothing_to_do(away: Away) -> None:
    bench = Bench().ready(generation=7)
    away(bench)

    bench.order(8, "1.0.0", action="rollback")

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.0.0")
    assert bench.all(SwitchSlot) == []


@AWAY
def test_release_that_failed_here_is_not_tried_again_for_having_waited(away: Away) -> None:
    bench = Bench().on_trial(generation=7)
    bench.probe_for(400, ok=False)
    bench.probe_for(90)
    assert bench.phase() is Phase.ROLLED_BACK
    installs = len(bench.all(Install))
    away(bench)

    bench.order(7)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")
    assert len(bench.all(Install)) == installs


def test_trial_that_slept_past_its_deadline_is_left() -> None:
    bench = Bench().on_trial(generation=7)
    bench.probe_for(50)

    asleep(bench)
    bench.probe_for(90)

    assert (bench.phase(), bench.version, bench.error_code) == (Phase.ROLLED_BACK, "1.0.0", "deadline_exceeded")


def test_trial_that_was_switched_off_is_proven_from_its_beginning() -> None:
    bench = Bench().on_trial(generation=7)
    bench.probe_for(50)

    switched_off(bench)
    bench.order(7)
    bench.probe_for(50)
    assert bench.phase() is Phase.TRIAL, "what was seen before counts for nothing"

    bench.probe_for(40)
    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")


@AWAY
def test_broken_download_is_taken_up_again(away: Away) -> None:
    bench = Bench(answers=False).started()
    bench.order(7)
    assert bench.phase() is Phase.DOWNLOADING
    bench.answers = True

    away(bench)
    if bench.phase() is Phase.DOWNLOADING:  # the worker has gone on with it
        bench.send(*bench.answer(bench.last(Fetch)))

    assert bench.phase() is Phase.READY
