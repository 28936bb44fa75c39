"""Delivery to a real HTTP server: signed, once, later, or never; the clock is what the test says."""

import hashlib
import hmac
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters import clock
from orchestrator.adapters.brokers import BrokerUrl
from orchestrator.adapters.certificates import Authority
from orchestrator.adapters.courier import Courier, Desk
from orchestrator.adapters.destinations import Destination
from orchestrator.adapters.outbox import PER_DESTINATION_MAX, Delivery, Outbox, OutboxError
from orchestrator.adapters.webhook import Webhook
from orchestrator.cli.exits import NoAnswerError
from orchestrator.cli.notifying import Notifier
from orchestrator.notifications.confirming import Decision
from orchestrator.notifications.notification import Notification, Trigger, to_wire
from orchestrator.notifications.retrying import Delivered, Later, outcome_of, wait_seconds
from orchestrator.notifications.routing import Interest
from orchestrator.notifications.signature import is_genuine, sign
from orchestrator.notifications.watcher import Watcher
from schemas.codec import encode
from schemas.messages import Reply, ReplyError
from schemas.topics import Address, Kind
from tests.notifications.receiver import Receiver, make_status, receiving

SECRET = b"whsec-0123456789abcdef"
NOW = 1_764_417_600.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "notify.db") as made:
        yield made


class World:
    """A destination, what it is asked about, and the orchestrator's side of a command."""

    def __init__(self, url: str, outbox: Outbox, **changes: object) -> None:
        self.outbox = outbox
        self.is_open = True
        self.replies: list[Reply | NoAnswerError] = []
        self.commands: list[Decision] = []
        self.unanswered: list[str] = []
        fields: dict[str, Any] = {
            "name": "ops", "interest": Interest(), "transport": Webhook(url, SECRET, 2.0), "patience_seconds": 3600.0,
        }  # fmt: skip
        desk = Desk(
            lambda _facts: self.is_open, self.command, lambda _question, _name, why: self.unanswered.append(why)
        )
        self.courier = Courier(Destination(**{**fields, **changes}), outbox, desk, lambda: 1.0)

    async def command(self, decision: Decision) -> Reply:
        self.commands.append(decision)
        reply = self.replies.pop(0) if self.replies else Reply(status="ok")
        if isinstance(reply, NoAnswerError):
            raise reply
        return reply

    def queue(self, notification: Notification, at: float = NOW) -> None:
        wire = to_wire(notification)
        self.outbox.record({}, [Delivery("ops", notification.id, notification.title, wire, at, at)])


def question(phase: str = "awaiting_approval", ts: str = "2026-11-29T12:00:00.000Z") -> Notification:
    watcher = Watcher()
    address = Address(Kind.STATUS, {"rollout": "r-1"})
    watcher.hear(address, encode(make_status()), 0.0)
    return watcher.hear(address, encode(make_status(phase, ts=ts)), 0.0).notifications[0]


def test_signature_is_the_documented_hmac() -> None:
    body = b'{"schema":"tidegate.notification/1"}'

    # printf '1764417600.{"schema":"tidegate.notification/1"}' | openssl dgst -sha256 -hmac key
    expected = "sha256=1606876627b3f4de5a86462a70a130500e32bbbc8a85fddbb897c65ea4bd8f60"
    assert sign(b"key", "1764417600", body) == expected


@pytest.mark.parametrize(
    ("timestamp", "body", "secret", "now", "genuine"),
    [
        ("1000", b"{}", b"key", 1000.0, True),
        ("1000", b"{}", b"key", 1300.0, True),
        ("1000", b"{}", b"key", 1301.0, False),
        ("1001", b"{}", b"key", 1001.0, False),
        ("1000", b"[]", b"key", 1000.0, False),
        ("1000", b"{}", b"other", 1000.0, False),
        ("soon", b"{}", b"key", 1000.0, False),
        ("", b"{}", b"key", 1000.0, False),
    ],
)
def test_receiver_refuses_what_is_changed_or_old(
    timestamp: str, body: bytes, secret: bytes, now: float, genuine: bool  # noqa: FBT001 - a parameter of the test
) -> None:  # fmt: skip
    assert is_genuine(secret, timestamp, body, sign(b"key", "1000", b"{}"), now) is genuine


async def test_delivery_is_signed_and_carries_its_id_and_leaves_the_queue(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox)
    notification = question("halted")
    world.queue(notification)

    assert await world.courier.step(NOW)
    assert not await world.courier.step(NOW)

    ((headers, body),) = receiver.requests
    assert body == to_wire(notification)
    assert headers["idempotency-key"] == notification.id == json.loads(body)["id"]
    assert headers["content-type"] == "application/json"
    assert headers["x-tidegate-timestamp"] == str(int(NOW))
    expected = hmac.new(SECRET, str(int(NOW)).encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-tidegate-signature"] == f"sha256={expected}"
    assert outbox.next_due("ops") is None


async def test_delivery_that_fails_is_tried_again_later_each_time_with_the_same_body_and_a_new_signature(
    receiver: Receiver, outbox: Outbox
) -> None:
    world = World(receiver.url, outbox)
    world.queue(question("halted"))
    receiver.answers = [(500, b""), (503, b""), (429, b""), (408, b"")]

    due = [NOW]
    for _ in range(4):
        assert await world.courier.step(due[-1])
        assert not await world.courier.step(due[-1])
        due.append(outbox.next_due("ops") or 0.0)
    assert await world.courier.step(due[-1])

    assert [after - before for before, after in pairwise(due)] == [2.0, 4.0, 8.0, 16.0]
    assert len({body for _, body in receiver.requests}) == 1
    assert len({headers["idempotency-key"] for headers, _ in receiver.requests}) == 1
    assert len({headers["x-tidegate-signature"] for headers, _ in receiver.requests}) == 5
    assert outbox.next_due("ops") is None


def test_waits_grow_to_ten_minutes_and_differ() -> None:
    assert [wait_seconds(attempt, 1.0) for attempt in (1, 2, 9, 10, 1000)] == [2.0, 4.0, 512.0, 600.0, 600.0]
    assert wait_seconds(3, 0.0) == 4.0
    assert wait_seconds(1, 0.0, 60.0) == 60.0
    assert wait_seconds(1, 0.0, 1e9) == 3600.0
    assert outcome_of(503, "120", b"") == Later("it answers 503", 120.0)
    assert outcome_of(503, "Wed, 21 Oct 2026 07:28:00 GMT", b"") == Later("it answers 503", None)


async def test_receiver_that_asks_for_time_is_given_it(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox)
    world.queue(question("halted"))
    receiver.answers, receiver.headers = [(429, b"")], {"Retry-After": "90"}

    await world.courier.step(NOW)

    assert outbox.next_due("ops") == NOW + 90


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 422])
async def test_what_repetition_does_not_mend_is_not_repeated_and_logged_once(
    status: int, receiver: Receiver, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(receiver.url, outbox)
    world.queue(question("halted"))
    receiver.answers = [(status, b"")]
    receiver.headers = {"Location": receiver.url}

    with caplog.at_level(logging.INFO):
        assert await world.courier.step(NOW)
        assert not await world.courier.step(NOW + 1e6)

    assert len(receiver.requests) == 1
    assert [str(status) in record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        True
    ]


async def test_notification_is_given_up_when_its_time_is_over(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox, patience_seconds=10.0)
    world.queue(question("halted"))
    receiver.usual = (500, b"")

    now = NOW
    while await world.courier.step(now):
        now = outbox.next_due("ops") or now

    assert len(receiver.requests) == 3  # after 0, 2 and 6 s; the next would be after 14 s
    assert outbox.next_due("ops") is None


async def test_nobody_there_is_tried_again_and_no_secret_is_logged(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    world = World("http://user:pass-secret@127.0.0.1:9/hooks/path-secret?token=query-secret", outbox)
    world.queue(question("halted"))

    with caplog.at_level(logging.DEBUG):
        await world.courier.step(NOW)

    assert outbox.next_due("ops") == NOW + 2.0
    assert "http://127.0.0.1:9" in caplog.text
    said = caplog.text + repr(world.courier.__dict__)
    assert [word for word in ("pass-secret", "path-secret", "query-secret", SECRET.decode()) if word in said] == []


async def test_receiver_is_known_by_its_certificate_or_gets_nothing(outbox: Outbox, tmp_path: Path) -> None:
    now = datetime.fromtimestamp(clock.now(), UTC)
    Authority.create(tmp_path, "ca", tmp_path / "secrets", now)
    authority = Authority(tmp_path, "ca", tmp_path / "secrets", now)
    authority.vouch_for("here", tmp_path / "here", hosts=["127.0.0.1"])
    authority.vouch_for("elsewhere", tmp_path / "elsewhere", hosts=["127.0.0.2"])
    arrived = []
    for name, ca_file in (("here", None), ("elsewhere", tmp_path / "ca.crt"), ("here", tmp_path / "ca.crt")):
        with receiving(tmp_path / f"{name}.crt") as receiver:
            delivery = Delivery("ops", "id", "t", b"{}", NOW, NOW)
            outcome = await Webhook(receiver.url, SECRET, 2.0, ca_file).deliver(delivery, NOW)
            arrived.append((isinstance(outcome, Delivered), len(receiver.requests)))

    assert arrived == [(False, 0), (False, 0), (True, 1)]


async def test_answer_without_end_is_not_read_to_its_end(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox)
    world.queue(question("halted"))
    receiver.answers = [(200, b"x" * 100_000)]

    await world.courier.step(NOW)

    assert outbox.next_due("ops") == NOW + 2.0


def test_queue_is_bounded_and_the_newest_stay(outbox: Outbox) -> None:
    made = [Delivery("ops", f"{number}", "t", b"", NOW + number, NOW) for number in range(PER_DESTINATION_MAX + 2)]

    assert [each.id for each in outbox.record({}, made)] == ["0", "1"]
    oldest = outbox.due("ops", NOW)
    assert oldest is not None
    assert oldest.id == "2"


def test_queue_and_memory_survive_and_the_same_notification_is_queued_once(tmp_path: Path) -> None:
    delivery = Delivery("ops", "id", "t", b"body", NOW, NOW)
    with Outbox(tmp_path / "notify.db") as first:
        first.record({"a": "1", "b": "2"}, [delivery, delivery])
        first.record({"a": None}, [])

    with Outbox(tmp_path / "notify.db") as second:
        assert second.seen() == {"b": "2"}
        assert second.due("ops", NOW) == delivery
        second.done(delivery)
        assert second.due("ops", NOW) is None
    assert (tmp_path / "notify.db").stat().st_mode & 0o077 == 0


def test_what_waits_for_a_destination_that_is_gone_is_forgotten(outbox: Outbox) -> None:
    outbox.record({}, [Delivery(name, "id", "t", b"", NOW, NOW) for name in ("ops", "old")])

    assert outbox.keep_only(["ops", "new"]) == 1
    assert outbox.next_due("old") is None
    assert outbox.next_due("ops") == NOW


def test_two_processes_never_send_from_one_queue(tmp_path: Path, outbox: Outbox) -> None:
    with pytest.raises(OutboxError, match="another process"):
        Outbox(tmp_path / "notify.db")


@pytest.mark.parametrize(("said", "verb"), [("go", "approve"), ("stop", "reject")])
async def test_answer_becomes_a_command_bound_to_wave_and_plan(
    said: str, verb: str, receiver: Receiver, outbox: Outbox
) -> None:
    world = World(receiver.url, outbox, approves=True)
    world.queue(question())
    receiver.answers = [(200, json.dumps({"decision": said, "reason": "ticket 7\n", "more": 1}).encode())]

    await world.courier.step(NOW)

    body = {"rollout": "r-1", "wave": "canary", "plan": "a" * 64, "reason": "ops: ticket 7\\n"}
    assert world.commands == [Decision(verb, body)]  # type: ignore[arg-type] # one of the two
    assert outbox.next_due("ops") is None
    assert world.unanswered == []


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"ok", b"true", b"[]", b'{"decision": "GO"}', b'{"decision": true}', b'{"go": true}',
        b'{"decision": "wait"}', b'{"decision": "go", "decision": "stop"}', b'{"decision": "go", "reason": 1}',
    ],
)  # fmt: skip
async def test_what_is_no_clear_answer_approves_nothing_and_is_asked_again_until_its_time_is_over(
    answer: bytes, receiver: Receiver, outbox: Outbox
) -> None:
    world = World(receiver.url, outbox, approves=True, patience_seconds=11.0, ask_again_seconds=3.0)
    world.queue(question())
    receiver.usual = (200, answer)

    now, asked = NOW, []
    while await world.courier.step(now):
        asked.append(now - NOW)
        now = outbox.next_due("ops") or now

    assert asked == [0.0, 3.0, 6.0, 9.0, 11.0]
    assert world.commands == []
    assert len(world.unanswered) == 1
    assert "not within 11 s" in world.unanswered[0]


async def test_nobody_is_asked_about_what_is_decided_already(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox, approves=True)
    world.queue(question())
    world.is_open = False

    await world.courier.step(NOW)

    assert receiver.requests == []
    assert outbox.next_due("ops") is None
    assert world.unanswered == []


async def test_answer_that_comes_when_a_person_has_decided_is_dropped(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox, approves=True)
    world.queue(question())
    receiver.answers = [(200, b'{"decision": "stop"}')]
    receiver.before = lambda: setattr(world, "is_open", False)

    await world.courier.step(NOW)

    assert len(receiver.requests) == 1
    assert world.commands == []
    assert outbox.next_due("ops") is None


def refusal(code: str) -> Reply:
    return Reply(status="error", error=ReplyError.model_validate({"code": code, "message": f"because of {code}"}))


def test_everybody_else_hears_of_a_question_without_an_answer(outbox: Outbox) -> None:
    names = {"ops": frozenset({Trigger.AWAITING_APPROVAL}), "quiet": frozenset({Trigger.HALTED})}
    others = [Destination(name, Interest(wanted), Webhook("", None, 1.0), 60.0) for name, wanted in names.items()]
    gate = Destination(
        "gate", Interest(frozenset({Trigger.AWAITING_APPROVAL})), Webhook("", None, 1.0), 60.0, approves=True
    )
    notifier = Notifier(BrokerUrl.parse("mqtt://127.0.0.1"), [*others, gate], outbox, lambda: NOW)

    notifier._unanswered(question().model_copy(update={"confirm": True}), "gate", "not within 60 s")
    notifier._unanswered(question().model_copy(update={"confirm": True}), "gate", "not within 60 s")

    told = outbox.due("ops", NOW)
    assert told is not None
    notification = Notification.model_validate_json(told.body)
    assert notification.title == "r-1 awaits approval after canary; gate does not decide it"
    assert notification.text.startswith("gate gave no answer that counts: not within 60 s. A person must decide.")
    assert (notification.confirm, notification.id == question().id) == (False, False)
    outbox.done(told)
    assert [outbox.due(name, NOW) for name in ("ops", "quiet", "gate")] == [None, None, None]


async def test_orchestrator_that_is_silent_or_sees_the_gate_fail_just_now_is_asked_again_with_a_new_answer(
    receiver: Receiver, outbox: Outbox
) -> None:
    world = World(receiver.url, outbox, approves=True)
    world.queue(question())
    receiver.usual = (200, b'{"decision": "go"}')
    world.replies = [NoAnswerError("no answer"), refusal("conflict")]

    for number in range(3):
        assert await world.courier.step(NOW + 30 * number)
        assert not await world.courier.step(NOW + 30 * number)

    assert len(receiver.requests) == len(world.commands) == 3
    assert outbox.next_due("ops") is None


async def test_refusal_for_good_ends_the_question_and_people_are_told(receiver: Receiver, outbox: Outbox) -> None:
    world = World(receiver.url, outbox, approves=True)
    world.queue(question())
    receiver.usual = (200, b'{"decision": "go"}')
    world.replies = [refusal("four_eyes")]

    await world.courier.step(NOW)

    assert outbox.next_due("ops") is None
    assert world.unanswered == ["it says go, and the orchestrator refuses: because of four_eyes"]


def test_killed_while_it_records_the_queue_and_the_memory_agree(tmp_path: Path) -> None:
    """Kill a writer over and over: whatever is remembered is queued, and nothing else."""
    program = """
import sys
from pathlib import Path
from orchestrator.adapters.outbox import Delivery, Outbox
with Outbox(Path(sys.argv[1])) as outbox:
    for number in range(len(outbox.seen()), 900):
        print(number, flush=True)
        outbox.record({f"k{number}": "x"}, [Delivery("ops", f"k{number}", "t", b"", float(number), 0.0)])
"""
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "q.db")], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        with Outbox(tmp_path / "q.db") as outbox:
            keys = set(outbox.seen())
            waiting = set()
            while (each := outbox.due("ops", NOW)) is not None:
                waiting.add(each.id)
                outbox.postpone(each, NOW + 1)
            for each_id in waiting:  # as they were
                outbox.postpone(Delivery("ops", each_id, "t", b"", 0.0, 0.0), 0.0)
            assert waiting == keys
            assert len(keys) >= 19
