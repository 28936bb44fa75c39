from dataclasses import replace
from typing import Any

import pytest

from device_client.core.asking import PATIENCE_SECONDS
from device_client.core.effects import DrawNonce, LogRefusal, Persist, PublishReady, StopApplication, SwitchSlot
from device_client.core.events import Connected, Disconnected, GrantReceived, HoldCleared, HoldReceived
from device_client.core.grant import GrantRefusal
from device_client.core.machine import Phase
from tests.device.device_bench import Bench


def test_go_is_durable_before_anything_is_stopped() -> None:
    bench = Bench().ready()

    effects = bench.grant(seq=41)

    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(StopApplication) < kinds.index(SwitchSlot)
    first = next(effect for effect in effects if isinstance(effect, Persist))
    assert (first.record.marks.seq, first.record.marks.epoch) == (41, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "pi-2"}, GrantRefusal.WRONG_DEVICE),
        ({"nonce": "f" * 32}, GrantRefusal.WRONG_NONCE),
        ({"step": "commit"}, GrantRefusal.WRONG_STEP),
        ({"epoch": 0}, GrantRefusal.STALE_EPOCH),
        ({"seq": 0}, GrantRefusal.REPEATED_SEQ),
        ({"generation": 2}, GrantRefusal.WRONG_GENERATION),
        ({"desired_sha256": "0" * 64}, GrantRefusal.OTHER_ORDER),
    ],
)
def test_grant_changes_nothing_when_one_field_is_wrong(changes: dict[str, Any], reason: GrantRefusal) -> None:
    bench = Bench().ready()
    bench.grant("wait")
    bench.wait(60)
    before = bench.device

    effects = bench.grant(**changes)

    assert effects == [LogRefusal(reason)]
    assert bench.device == before


def test_grant_is_refused_when_its_nonce_is_older_than_it_lives() -> None:
    bench = Bench().ready()
    grant = bench.make_grant(bench.question, ttl_seconds=5)
    bench.now += 5.1

    assert bench.send(GrantReceived(grant)) == [LogRefusal(GrantRefusal.TOO_OLD)]


def test_grant_is_good_until_the_end_of_its_life() -> None:
    bench = Bench().ready()
    grant = bench.make_grant(bench.question, ttl_seconds=5)
    bench.now += 5

    bench.send(GrantReceived(grant))

    assert bench.phase() is Phase.TRIAL


def test_grant_works_once() -> None:
    bench = Bench().ready()
    grant = bench.make_grant(bench.question)
    bench.send(GrantReceived(grant))

    assert bench.send(GrantReceived(grant)) == [LogRefusal(GrantRefusal.NOT_ASKED)]
    assert len(bench.all(SwitchSlot)) == 1


def test_sequence_number_that_was_accepted_is_never_accepted_again() -> None:
    bench = Bench().ready()
    bench.grant("wait", seq=500)
    bench.wait(60)

    assert bench.grant(seq=500) == [LogRefusal(GrantRefusal.REPEATED_SEQ)]


def test_only_the_last_question_can_be_answered() -> None:
    bench = Bench().ready()
    first = bench.make_grant(bench.question)
    bench.wait(60)

    assert bench.send(GrantReceived(first)) == [LogRefusal(GrantRefusal.WRONG_NONCE)]


def test_grant_of_an_earlier_session_is_refused() -> None:
    bench = Bench().ready()
    grant = bench.make_grant(bench.question)
    bench.start()

    assert bench.send(GrantReceived(grant)) == [LogRefusal(GrantRefusal.WRONG_NONCE)]


def test_sequence_starts_again_under_a_higher_epoch() -> None:
    bench = Bench().ready()
    bench.grant("wait", seq=500)
    bench.wait(60)

    bench.grant(epoch=2, seq=1)

    assert bench.phase() is Phase.TRIAL
    assert (bench.record.marks.epoch, bench.record.marks.seq) == (2, 1)


def test_wait_is_obeyed_and_asked_again_with_a_new_nonce() -> None:
    bench = Bench().ready()
    first = bench.question
    bench.grant("wait", retry_after_seconds=30.0)
    assert bench.phase() is Phase.WAITING

    assert bench.wait(29) == []
    bench.wait(5)

    assert bench.question.nonce != first.nonce
    bench.grant()
    assert bench.phase() is Phase.TRIAL


def test_unanswered_question_is_asked_again_ever_more_slowly() -> None:
    bench = Bench().ready()
    pauses = []
    for _ in range(8):
        assert bench.device.ask_at is not None
        pauses.append(bench.device.ask_at - bench.now)
        bench.wait(pauses[-1])

    assert len({ready.ready.nonce for ready in bench.all(PublishReady)}) == 9
    assert pauses[0] < 20
    assert pauses[-1] > 200
    assert max(pauses) <= 375


def test_devices_whose_answers_were_lost_together_ask_again_at_moments_of_their_own() -> None:
    moments = []
    for number in range(200):
        bench = Bench().started()
        bench.device = replace(bench.device, id=f"d-{number:04d}")
        bench.order(1)
        assert bench.device.ask_at is not None
        moments.append(bench.device.ask_at - bench.now)

    assert len(set(moments)) == 200
    assert max(moments) - min(moments) > PATIENCE_SECONDS / 3


def test_question_is_asked_again_after_a_reconnect() -> None:
    bench = Bench().ready()
    bench.send(Disconnected())
    assert bench.wait(1000) == [], "nobody is asked while nobody listens"

    effects = bench.send(Connected())

    assert any(isinstance(effect, PublishReady) for effect in effects)


def test_hold_keeps_an_install_waiting_until_it_is_lifted() -> None:
    bench = Bench().ready()
    grant = bench.make_grant(bench.question)

    bench.send(HoldReceived())
    assert bench.phase() is Phase.WAITING
    assert bench.send(GrantReceived(grant)) == [LogRefusal(GrantRefusal.NOT_ASKED)]
    assert bench.wait(10_000) == []
    bench.send(HoldCleared())
    bench.wait(5)
    bench.grant()

    assert bench.phase() is Phase.TRIAL


def test_hold_that_was_lifted_while_nobody_heard_it_does_not_last() -> None:
    bench = Bench().ready()
    bench.send(HoldReceived())

    bench.send(Disconnected(), Connected())
    bench.grant()

    assert bench.phase() is Phase.TRIAL


def test_wait_of_no_time_is_not_asked_about_at_once() -> None:
    bench = Bench().ready()

    effects = bench.grant("wait", retry_after_seconds=0.0)

    assert not any(isinstance(effect, DrawNonce) for effect in effects)


def test_install_that_gets_ready_under_hold_does_not_ask() -> None:
    bench = Bench().started()
    bench.send(HoldReceived())

    bench.order(1)

    assert bench.phase() is Phase.READY
    assert bench.all(DrawNonce) == []


def test_rollback_is_allowed_under_hold() -> None:
    bench = Bench().committed()
    bench.send(HoldReceived())

    bench.order(2, "1.0.0", action="rollback")
    bench.grant()
    bench.probe_for(30)

    assert bench.version == "1.0.0"


def test_install_waits_for_its_window_by_the_clock_of_the_grant() -> None:
    bench = Bench().ready(not_before="2026-11-23T10:10:00Z")

    bench.grant(server_time="2026-11-23T10:00:00Z")
    assert bench.phase() is Phase.WAITING
    assert bench.wait(599) == []
    bench.wait(100)
    bench.grant(server_time="2026-11-23T10:12:00Z")

    assert bench.phase() is Phase.TRIAL


def test_install_is_given_up_after_its_window() -> None:
    bench = Bench().ready(not_after="2026-11-23T10:00:00Z")

    bench.grant(server_time="2026-11-23T10:00:01Z")

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "expired", "1.0.0")


def test_rollback_has_no_window() -> None:
    bench = Bench().committed()
    bench.order(2, "1.0.0", action="rollback", not_after="2026-11-23T10:00:00Z")

    bench.grant(server_time="2026-11-23T12:00:00Z")

    assert bench.phase() is Phase.ROLLING_BACK
