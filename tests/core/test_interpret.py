from copy import deepcopy
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.inputs import (
    Announced,
    CommandReceived,
    CommandRefused,
    DeviceReady,
    DeviceReported,
    HoldSeen,
    PresenceSeen,
    SampleReceived,
)
from orchestrator.core.interpret import Received, Refused, interpret
from schemas.codec import encode, encode_msgpack
from schemas.commands import VERBS, ListCommand, RolloutCommand
from schemas.ids import shard_of
from schemas.messages import HealthSample, Ready, Reported
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_info

SAMPLE = HealthSample(seq=1, boot_id="b")
READY = Ready(generation=1, step="activate", nonce="ab" * 16)
REPORTED = Reported(observed_generation=1, seq=1, state="idle", boot_id="b")
HEALTH_TOPIC = f"fleet/v1/health/{shard_of('pi-1')}/pi-1"


def received(topic: str, payload: bytes = b"", **how: Any) -> object:  # noqa: ANN401 - any field of Received
    return interpret(TREE, Received(topic if topic.startswith("/") else f"fleet/v1/{topic}", payload, **how))


def command(verb: str, payload: bytes, **how: Any) -> object:  # noqa: ANN401 - any field of Received
    return received(f"ops/alice/cmd/{verb}", payload, **how)


def refused(verb: str, payload: bytes, **how: Any) -> CommandRefused:  # noqa: ANN401 - any field of Received
    given_input = command(verb, payload, **how)
    assert isinstance(given_input, CommandRefused)
    return given_input


def test_what_devices_say_becomes_an_input_of_that_device() -> None:
    assert received("device/pi-1/info", encode(make_info())) == Announced("pi-1", make_info())
    assert received("device/pi-1/reported", encode(REPORTED)) == DeviceReported("pi-1", REPORTED)
    assert received("device/pi-1/ready", encode(READY)) == DeviceReady("pi-1", READY)
    assert received("device/pi-1/availability", b"online") == PresenceSeen("pi-1", is_online=True)
    assert received("device/pi-1/availability", b"offline") == PresenceSeen("pi-1", is_online=False)
    for payload in (encode(SAMPLE), encode_msgpack(SAMPLE)):
        assert interpret(TREE, Received(HEALTH_TOPIC, payload)) == SampleReceived(
            "pi-1", int(shard_of("pi-1")), payload
        )


@pytest.mark.parametrize(
    ("topic", "payload", "how", "reason"),
    [
        ("/elsewhere", b"{}", {}, "foreign_topic"),
        ("device/pi.1/info", b"{}", {}, "foreign_topic"),
        ("device/pi-1/info", b"nonsense", {}, "undecodable"),
        ("device/pi-1/info", b"{}", {}, "undecodable"),
        ("device/pi-1/reported", b" " * 16_385, {}, "undecodable"),
        ("device/pi-1/availability", b"ONLINE", {}, "unexpected_kind"),
        ("device/pi-1/availability", b"online\n", {}, "unexpected_kind"),
        ("device/pi-1/ready", encode(READY), {"retained": True}, "retained_event"),
        (HEALTH_TOPIC.removeprefix("fleet/v1/"), encode(SAMPLE), {"retained": True}, "retained_event"),
        ("health/64/pi-1", encode(SAMPLE), {}, "foreign_shard"),
        ("health/xx/pi-1", encode(SAMPLE), {}, "foreign_shard"),
        ("device/pi-1/desired", b"{}", {}, "unexpected_kind"),
        ("audit", b"{}", {}, "unexpected_kind"),
    ],
)
def test_what_says_nothing_is_refused_with_a_word_to_count(
    topic: str, payload: bytes, how: dict[str, Any], reason: str
) -> None:
    given_input = received(topic, payload, **how)

    assert isinstance(given_input, Refused)
    assert given_input.reason == reason
    assert len(given_input.detail) <= 200


@pytest.mark.parametrize("kind", ["availability", "info", "reported", "ready", "desired"])
def test_a_document_that_was_cleared_says_nothing(kind: str) -> None:
    assert received(f"device/pi-1/{kind}", b"", retained=True) is None


@pytest.mark.parametrize("payload", [b"{}", b"nonsense", b"\xff" * 100_000, b"0", b"false"])
def test_any_hold_counts_also_one_that_nobody_can_read(payload: bytes) -> None:
    assert received("all/hold", payload, retained=True) == HoldSeen(is_held=True)


def test_a_hold_ends_when_it_is_cleared() -> None:
    assert received("all/hold", b"", retained=True) == HoldSeen(is_held=False)


def test_a_command_comes_from_the_actor_in_its_topic() -> None:
    answer_to = {"response_topic": "me/here", "correlation": b"7"}

    assert command("approve", b"r-1", **answer_to) == CommandReceived(
        "alice", "approve", RolloutCommand(rollout="r-1"), "me/here", b"7"
    )
    assert command("approve", b'{"rollout":"r-1","actor":"bob"}') == CommandReceived(
        "alice", "approve", RolloutCommand(rollout="r-1")
    )
    assert command("list", b"") == CommandReceived("alice", "list", ListCommand())


def test_a_retained_command_is_refused_and_says_how_it_is_sent() -> None:
    error = refused("start", b'{"release":"a"}', retained=True, response_topic="me").error

    assert error.code == "retained_command"
    assert "cleared from fleet/v1/ops/alice/cmd/start: send it without -r" in error.message


def test_a_retained_command_that_was_cleared_says_nothing() -> None:
    assert command("start", b"", retained=True) is None


@pytest.mark.parametrize(("verb", "near"), [("aprove", ("approve",)), ("explode", ()), ("undo", ())])
def test_an_unknown_verb_lists_what_there_is(verb: str, near: tuple[str, ...]) -> None:
    error = refused(verb, b"r-1").error

    assert (error.code, error.allowed, error.did_you_mean) == ("unknown_command", tuple(VERBS), near)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"r 1", "rollout"),
        (b'{"rollout":1}', "rollout"),
        (b'{"rollout":"r-1","wave":1}', "wave"),
        (b'{"rollout":', "payload"),
        (b"x" * 70_000, "rollout"),
        (msgpack.packb({"rollout": "r-1"}), "rollout"),
    ],
)
def test_a_command_that_cannot_be_read_is_answered_with_the_field(payload: bytes, field: str) -> None:
    error = refused("approve", payload).error

    assert (error.code, error.field) == ("invalid_payload", field)
    assert len(error.message) <= 1024


@given(
    st.sampled_from([TREE.filter(kind).replace("+", "pi-1") for kind in Kind]), st.binary(max_size=80), st.booleans()
)
def test_no_message_breaks_the_engine_or_changes_a_rollout(
    topic: str,
    payload: bytes,
    retained: bool,  # noqa: FBT001 - a case
) -> None:
    bench = _SHARED
    rollouts = deepcopy(bench.state.rollouts)

    bench.hear(topic, payload, retained=retained)

    assert bench.state.rollouts == rollouts


_SHARED = Bench(warm_up_seconds=0)


def test_messages_are_counted_by_what_was_wrong() -> None:
    bench = Bench(warm_up_seconds=0)

    bench.hear("fleet/v1/device/pi-1/info", b"nonsense")
    bench.hear("fleet/v2/audit", b"x")
    bench.hear("fleet/v2/audit", b"x")
    bench.hear(HEALTH_TOPIC, encode(SAMPLE))

    assert bench.engine.tally.refused_by_reason == {"undecodable": 1, "foreign_topic": 2, "unknown_device": 1}
