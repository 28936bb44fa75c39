"""An outside system is asked whether a rollout goes on: what its answers, and its silence, lead to."""

import json

import pytest

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.destinations import Destination
from orchestrator.adapters.outbox import Outbox
from orchestrator.adapters.webhook import Webhook
from orchestrator.cli.exits import NoAnswerError
from orchestrator.cli.notifying import Notifier
from orchestrator.notifications.confirming import Decision
from orchestrator.notifications.notification import Notification, Trigger
from orchestrator.notifications.routing import Interest
from schemas.documents import Reply, ReplyError
from tests.notifications.delivery_bench import NOW, World, question
from tests.notifications.receiver import Receiver


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
