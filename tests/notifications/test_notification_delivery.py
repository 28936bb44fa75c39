"""Delivery to a real HTTP server: signed, once, later, or never; the clock is what the test says."""

import hashlib
import hmac
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.adapters import clock
from orchestrator.adapters.certificates import Authority
from orchestrator.adapters.outbox import PER_DESTINATION_MAX, Delivery, Outbox, OutboxError
from orchestrator.adapters.webhook import Webhook
from orchestrator.notifications.notification import to_wire
from orchestrator.notifications.retrying import Delivered, Later, outcome_of, wait_seconds
from orchestrator.notifications.signature import is_genuine, sign
from tests.notifications.delivery_bench import NOW, SECRET, World, question
from tests.notifications.receiver import Receiver, receiving


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
