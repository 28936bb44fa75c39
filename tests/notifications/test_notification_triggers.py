"""What is news, from documents before and now; in which words; and for whom."""

import json

import pytest
from pydantic import BaseModel

from orchestrator.notifications.notification import MEANINGS, Notification, Trigger, to_wire
from orchestrator.notifications.routing import Interest, is_wanted
from orchestrator.notifications.watcher import Heard, Watcher
from schemas.codec import encode
from schemas.documents import AuditRecord, RollbackOrder, RolloutEvent
from schemas.errors import DecodeError
from schemas.messages import Hold
from schemas.times import format_timestamp, parse_timestamp
from schemas.topics import Address, Kind
from tests.notifications.receiver import AT, make_gate, make_status

STATUS = Address(Kind.STATUS, {"rollout": "r-1"})
GATE = Address(Kind.GATE, {"rollout": "r-1", "wave": "canary"})
HOLD = Address(Kind.HOLD, {})


def told(heard: Heard) -> list[str]:
    return [str(each.trigger) for each in heard.notifications]


def watcher_that_knows(*documents: tuple[Address, BaseModel]) -> Watcher:
    watcher = Watcher()
    watcher.settle()
    for address, document in documents:
        watcher.hear(address, encode(document), 0.0)
    return watcher


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, make_status(), ["on-started"]),
        (make_status(), make_status(), []),
        (make_status(), make_status("soaking"), []),
        (make_status("soaking"), make_status("awaiting_approval"), ["on-awaiting-approval"]),
        (make_status("awaiting_approval"), make_status("deploying", "wave-1"), ["on-wave-completed"]),
        (make_status("awaiting_approval"), make_status("awaiting_approval", "wave-1"),
         ["on-wave-completed", "on-awaiting-approval"]),
        (make_status("deploying", "wave-1"), make_status("halted", "wave-1"), ["on-halted"]),
        (make_status("halted", "wave-1"), make_status("halted", "wave-1", paused=True), []),
        (make_status("deploying", "wave-1"), make_status("rolling_back", "wave-1"), ["on-rolled-back"]),
        (make_status("rolling_back", "wave-1"), make_status("rolled_back", "wave-1"), ["on-rolled-back"]),
        (make_status("soaking", "wave-1"), make_status("completed", "wave-1"), ["on-wave-completed", "on-completed"]),
        (make_status(), make_status("aborted"), ["on-aborted"]),
        (make_status(), make_status("superseded"), ["on-aborted"]),
        (None, make_status("completed", "wave-1"),
         ["on-started", "on-wave-completed", "on-wave-completed", "on-completed"]),
        (make_status(), make_status(frozen=True), ["on-fleet-frozen"]),
        (make_status(frozen=True), make_status(frozen=True), []),
    ],
)  # fmt: skip
def test_news_is_what_differs_between_two_documents(
    before: BaseModel | None, now: BaseModel, expected: list[str]
) -> None:
    watcher = watcher_that_knows(*([] if before is None else [(STATUS, before)]))

    assert told(watcher.hear(STATUS, encode(now), 1.0)) == expected
    assert told(watcher.hear(STATUS, encode(now), 2.0, is_retained=True)) == []


def test_caution_is_told_again_only_when_it_is_about_something_else() -> None:
    watcher = watcher_that_knows((STATUS, make_status("soaking")))

    heard = [
        told(watcher.hear(GATE, encode(make_gate(*each)), 1.0))
        for each in (
            ("caution", "extend", "error_rate"), ("caution", "extend", "error_rate"), ("caution", "extend", "cpu"),
            ("inconclusive", "extend", "cpu"), ("pass", "proceed", "cpu"), ("fail", "rollback", "cpu"),
            ("caution", "halt", "cpu"),
        )
    ]  # fmt: skip

    assert heard == [["on-caution"], [], ["on-caution"], [], [], [], []]


def test_caution_that_comes_before_its_rollouts_status_is_told_with_it() -> None:
    watcher = watcher_that_knows()

    assert told(watcher.hear(GATE, encode(make_gate("caution", "extend")), 1.0)) == []
    assert told(watcher.hear(STATUS, encode(make_status("soaking")), 1.0)) == ["on-started", "on-caution"]


def test_brake_is_told_when_it_is_pulled_and_not_while_it_stays_so() -> None:
    watcher = watcher_that_knows()
    pulled = encode(Hold(reason="smoke in plant 7", by="bob"))

    heard = [watcher.hear(HOLD, payload, 1.0) for payload in (pulled, pulled, b"", b"", b"no JSON")]

    assert [told(each) for each in heard] == [["on-brake"], [], [], [], ["on-brake"]]
    assert heard[0].notifications[0].title == "the emergency brake was pulled by bob"
    assert "smoke in plant 7" in heard[0].notifications[0].text


def quarantine(device: str, kind: str = "device_quarantined") -> bytes:
    body = {"device": device, "by": "orchestrator", "reason": "crash_loop"}
    return encode(
        AuditRecord(seq=1, at=AT, epoch=1, kind=kind, body=body, previous_hash="0" * 64, hash="0" * 64)
    )  # fmt: skip


def test_devices_quarantined_within_two_seconds_are_told_in_one_message() -> None:
    watcher, audit = watcher_that_knows(), Address(Kind.AUDIT, {})

    for number in range(30):
        watcher.hear(audit, quarantine(f"d-{number:02d}"), 10.0 + number / 30)

    assert told(watcher.gathered(11.9)) == []
    (notification,) = watcher.gathered(12.0).notifications
    assert (notification.title, notification.device_count) == ("30 devices are quarantined", 30)
    assert len(notification.devices) == 20
    assert "d-00: crash_loop" in notification.text
    assert "and 10 more" in notification.text
    assert told(watcher.gathered(20.0)) == []
    watcher.hear(audit, quarantine("d-00"), 21.0)
    assert told(watcher.gathered(30.0)) == []


def test_device_that_is_released_may_be_told_again() -> None:
    watcher, audit = watcher_that_knows(), Address(Kind.AUDIT, {})

    watcher.hear(audit, quarantine("d-1"), 0.0)
    watcher.gathered(5.0)
    watcher.hear(audit, quarantine("d-1", "device_released"), 6.0)
    watcher.hear(audit, quarantine("d-1"), 7.0)

    assert told(watcher.gathered(10.0)) == ["on-device-quarantined"]


def test_devices_quarantined_while_nobody_listened_are_found_and_those_of_before_are_old() -> None:
    watcher = watcher_that_knows()

    watcher.found_quarantined({"d-1": "clone"}, 0.0)
    assert told(watcher.gathered(10.0)) == []
    again = Watcher(memory=watcher.memory)
    again.found_quarantined({"d-1": "clone", "d-2": "crash_loop"}, 20.0)
    (notification,) = again.gathered(30.0).notifications
    assert notification.devices == ("d-2",)
    again.found_quarantined({"d-2": "crash_loop"}, 40.0)
    again.found_quarantined({"d-1": "clone", "d-2": "crash_loop"}, 50.0)
    assert [each.devices for each in again.gathered(60.0).notifications] == [("d-1",)]


BLOCKED = make_status(blocking_devices=3, reasons=("min_available 75%: healthy devices wait for 3",))
SINCE = parse_timestamp(AT)


def test_rollout_that_waits_a_quarter_of_an_hour_for_ill_devices_is_told_once() -> None:
    watcher = watcher_that_knows((STATUS, make_status()))
    watcher.hear(STATUS, encode(BLOCKED), SINCE)
    later = make_status(blocking_devices=2, ts=format_timestamp(SINCE + 600))
    watcher.hear(STATUS, encode(later), SINCE + 600)

    assert told(watcher.waited(SINCE + 899)) == []
    (notification,) = watcher.waited(SINCE + 900).notifications
    assert (notification.trigger, notification.at) == (Trigger.BLOCKED, AT)
    assert notification.title == "r-1 waits for 2 devices not seen to be healthy"
    assert told(watcher.waited(SINCE + 2000)) == []
    again = Watcher(memory=watcher.memory)
    assert told(again.hear(STATUS, encode(later), SINCE + 2000)) == told(again.waited(SINCE + 2000)) == []


def test_rollout_that_need_not_wait_any_more_is_not_told_and_may_be_later() -> None:
    watcher = watcher_that_knows((STATUS, make_status()), (STATUS, BLOCKED), (STATUS, make_status()))

    assert told(watcher.waited(SINCE + 1000)) == []
    again = make_status(blocking_devices=1, ts=format_timestamp(SINCE + 1000))
    watcher.hear(STATUS, encode(again), SINCE + 1000)
    assert told(watcher.waited(SINCE + 1800)) == []
    assert told(watcher.waited(SINCE + 1900)) == ["on-blocked"]


def test_rollout_that_waits_is_told_after_a_restart_of_who_tells_it() -> None:
    watcher = Watcher(memory=watcher_that_knows((STATUS, BLOCKED)).memory)

    assert told(watcher.waited(SINCE + 1000)) == []
    watcher.hear(STATUS, encode(BLOCKED), SINCE + 1001, is_retained=True)
    (notification,) = watcher.waited(SINCE + 1001).notifications
    assert "min_available 75%: healthy devices wait for 3" in notification.text
    assert notification.next[-1] == "tidegate explain r-1"


def test_what_is_found_at_the_very_first_start_is_old_unless_it_waits_for_somebody() -> None:
    def first(status: BaseModel) -> list[str]:
        return told(Watcher().hear(STATUS, encode(status), 0.0, is_retained=True))

    assert first(make_status("completed", "wave-1")) == []
    assert first(make_status("deploying", "wave-1")) == []
    assert first(make_status("awaiting_approval")) == ["on-awaiting-approval"]
    assert first(make_status("halted")) == ["on-halted"]
    assert told(Watcher().hear(STATUS, encode(make_status()), 0.0)) == ["on-started"]


def test_what_happened_while_nobody_listened_is_told_after_a_restart_and_the_rest_is_not() -> None:
    memory = watcher_that_knows((STATUS, make_status("soaking"))).memory

    assert told(Watcher(memory=memory.copy()).hear(STATUS, encode(make_status("soaking")), 9.0, is_retained=True)) == []
    later = Watcher(memory=memory.copy()).hear(STATUS, encode(make_status("halted")), 9.0, is_retained=True)
    assert told(later) == ["on-halted"]
    ended = Watcher(memory=memory.copy()).hear(STATUS, encode(make_status("aborted")), 9.0, is_retained=True)
    assert told(ended) == ["on-aborted"]


def test_fleet_is_frozen_once_for_all_rollouts() -> None:
    watcher = watcher_that_knows((STATUS, make_status()))
    other = Address(Kind.STATUS, {"rollout": "r-2"})
    watcher.hear(other, encode(make_status(rollout="r-2")), 0.0)
    event = RolloutEvent(rollout="r-1", message="half of the fleet vanished", ts=AT)
    watcher.hear(Address(Kind.ROLLOUT_EVENT, {"rollout": "r-1", "kind": "fleet_frozen"}), encode(event), 1.0)

    frozen = watcher.hear(STATUS, encode(make_status(frozen=True)), 1.0)

    assert told(frozen) == ["on-fleet-frozen"]
    assert "half of the fleet vanished" in frozen.notifications[0].text
    assert told(watcher.hear(other, encode(make_status(rollout="r-2", frozen=True)), 1.0)) == []
    assert told(Watcher(memory=watcher.memory).hear(other, encode(make_status(rollout="r-2")), 1.0)) == []


def test_message_says_why_with_numbers_and_names_and_what_to_type() -> None:
    watcher = watcher_that_knows((STATUS, make_status("deploying", "wave-1")))
    failed = RolloutEvent(rollout="r-1", device="d-03", message="smoke test failed", ts=AT)
    order = RollbackOrder(
        trigger="error_rate_spike", scope="fleet", action="rollback_all", devices=("d-01", "d-02"), device_count=2,
        evidence=make_gate("fail").checks, ts=AT,
    )  # fmt: skip
    watcher.hear(Address(Kind.ROLLOUT_EVENT, {"rollout": "r-1", "kind": "device_failed"}), encode(failed), 1.0)
    watcher.hear(Address(Kind.ROLLBACK, {"rollout": "r-1", "scope": "fleet"}), encode(order), 1.0)

    status = make_status("rolling_back", "wave-1", allowed=("rollback",), reasons=("error_rate_spike: 4.10%",))
    (notification,) = watcher.hear(STATUS, encode(status), 1.0).notifications

    assert notification.title == "r-1 is being rolled back at wave-1"
    assert notification.text.split("\n") == [
        "camera-1.2.0 (version 1.2.0), started by alice: 4 of 8 devices done, 1 failed, 0 offline.",
        "Why: error_rate_spike: 4.10%",
        "error_rate_spike (4.10% of 100 requests in group lab, limit 3.00%): 2 devices go back: d-01, d-02",
        "Failed lately: d-03: smoke test failed",
    ]
    assert notification.next == ("tidegate rollback r-1", "tidegate explain r-1")
    assert notification.devices == ("d-01", "d-02")


def test_question_brings_the_gates_numbers_and_commands_that_are_bound_to_the_wave() -> None:
    watcher = watcher_that_knows((STATUS, make_status("soaking")), (GATE, make_gate("pass", "await_approval")))

    status = make_status("awaiting_approval", allowed=("approve", "reject"))
    (notification,) = watcher.hear(STATUS, encode(status), 1.0).notifications

    assert notification.next[:2] == ("tidegate approve r-1 --wave canary", "tidegate reject r-1 --wave canary")
    assert notification.gates["canary"].checks[0].observed == 0.041
    assert "canary_gate after canary, on 2 devices: pass, await approval: error_rate: 4.10% of 100" in notification.text
    assert notification.rollout is not None
    assert notification.rollout.plan_digest == "a" * 64
    assert watcher.awaits("r-1", "canary", "a" * 64)
    assert not watcher.awaits("r-1", "wave-1", "a" * 64)
    assert not watcher.awaits("r-1", "canary", "b" * 64)


def test_words_of_devices_cannot_steer_a_terminal_or_add_lines() -> None:
    watcher = watcher_that_knows((STATUS, make_status()))

    status = make_status("halted", reasons=("\x1b[2J bad\nNext: rm -rf", "\u202eevil"))
    (notification,) = watcher.hear(STATUS, encode(status), 1.0).notifications

    assert "\\x1b[2J bad\\nNext: rm -rf; \\u202eevil" in notification.text


def test_same_event_has_the_same_id_for_two_listeners_and_another_event_another() -> None:
    def halted(ts: str) -> str:
        watcher = watcher_that_knows((STATUS, make_status()))
        return watcher.hear(STATUS, encode(make_status("halted", ts=ts)), 1.0).notifications[0].id

    assert halted(AT) == halted(AT)
    assert halted(AT) != halted("2026-11-29T13:00:00.000Z")


def test_what_is_no_status_changes_nothing() -> None:
    watcher = watcher_that_knows((STATUS, make_status()))
    before = dict(watcher.memory)

    with pytest.raises(DecodeError):
        watcher.hear(STATUS, b'{"rollout": 1}', 1.0)

    assert watcher.memory == before


def test_rollout_that_is_taken_away_is_forgotten() -> None:
    watcher = watcher_that_knows((STATUS, make_status(frozen=True)))

    assert watcher.hear(STATUS, b"", 1.0).changes == {"status/r-1": None}
    assert "status/r-1" not in watcher.memory
    assert not watcher.frozen


def test_every_trigger_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Trigger)


@pytest.mark.parametrize(
    ("interest", "wanted"),
    [
        (Interest(), True),
        (Interest(frozenset({Trigger.HALTED})), True),
        (Interest(frozenset({Trigger.STARTED})), False),
        (Interest(rollouts=("x-*", "r-?")), True),
        (Interest(rollouts=("R-*",)), False),
        (Interest(releases=("camera-*",)), True),
        (Interest(releases=("door-*",)), False),
        (Interest(rollouts=("r-*",), releases=("door-*",)), False),
    ],
)
def test_destinations_get_what_they_want(interest: Interest, wanted: bool) -> None:  # noqa: FBT001 - of the table
    watcher = watcher_that_knows((STATUS, make_status()))
    (notification,) = watcher.hear(STATUS, encode(make_status("halted")), 1.0).notifications

    assert is_wanted(interest, notification) is wanted


def test_what_is_about_no_rollout_passes_patterns_of_rollouts() -> None:
    (notification,) = watcher_that_knows().hear(HOLD, encode(Hold()), 1.0).notifications

    assert is_wanted(Interest(rollouts=("r-*",)), notification)
    assert not is_wanted(Interest(frozenset({Trigger.HALTED})), notification)


def test_wire_is_read_back_as_what_was_written() -> None:
    watcher = watcher_that_knows((STATUS, make_status("soaking")), (GATE, make_gate()))
    (notification,) = watcher.hear(STATUS, encode(make_status("halted")), 1.0).notifications

    wire = to_wire(notification)

    assert json.loads(wire)["schema"] == "tidegate.notification/1"
    assert Notification.model_validate_json(wire) == notification
