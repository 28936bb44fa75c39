import json

import msgpack
import pytest

from schemas.commands import (
    VERBS,
    DeviceCommand,
    ListCommand,
    QueryCommand,
    RolloutCommand,
    StartCommand,
    parse_command,
)
from schemas.errors import DecodeError


@pytest.mark.parametrize("verb", ["approve", "reject", "pause", "resume", "abort", "rollback"])
def test_a_bare_id_is_enough_for_a_rollout(verb: str) -> None:
    assert parse_command(verb, b" r-042\n") == RolloutCommand(rollout="r-042")


@pytest.mark.parametrize("verb", ["quarantine", "release"])
def test_a_bare_id_is_enough_for_a_device(verb: str) -> None:
    assert parse_command(verb, b"pi-1") == DeviceCommand(device="pi-1")


def test_a_query_names_a_rollout_or_none() -> None:
    assert parse_command("get", b"r-1") == QueryCommand(rollout="r-1")
    assert parse_command("list", b"") == parse_command("list", b"{}") == ListCommand()


def test_an_object_says_more() -> None:
    body = {"rollout": "r-1", "wave": "canary", "plan": "ab" * 32, "reason": "looks good", "transaction": "t1"}

    assert parse_command("approve", json.dumps(body).encode()) == RolloutCommand.model_validate(body)


def test_a_start_takes_a_policy_by_name_or_by_content() -> None:
    by_name = parse_command("start", b'{"release":"app-2.4.0","policy":"careful"}')
    by_content = parse_command("start", b'{"release":"app-2.4.0","policy":{"rollout":{}},"time_scale":60}')

    assert by_name == StartCommand(release="app-2.4.0", policy="careful")
    assert by_content == StartCommand(release="app-2.4.0", policy={"rollout": {}}, time_scale=60)


@pytest.mark.parametrize(
    ("verb", "payload", "field"),
    [
        ("approve", b"", "rollout"),
        ("approve", b"r 1", "rollout"),
        ("approve", b"r/1", "rollout"),
        ("approve", b"\xff\xfe", "rollout"),
        ("approve", b"[1]", "rollout"),
        ("approve", b"x" * 70_000, "rollout"),
        ("approve", msgpack.packb({"rollout": "r-1"}), "rollout"),
        ("approve", b"{}", "rollout"),
        ("approve", b'{"rollout":7}', "rollout"),
        ("approve", b'{"rollout":"r-1","wave":"#"}', "wave"),
        ("approve", b'{"rollout":"r-1","plan":"ab"}', "plan"),
        ("approve", b'{"rollout":"r-1","reason":"%s"}' % (b"x" * 1025), "reason"),
        ("approve", b'{"rollout":', "payload"),
        ("approve", b'{"rollout":"r-1"' + b" " * 65_536 + b"}", "payload"),
        ("start", b"app-2.4.0", "payload"),
        ("start", b"", "payload"),
        ("start", b'{"policy":"careful"}', "release"),
        ("start", b'{"release":"a","policy":"careful","time_scale":0}', "time_scale"),
        ("start", b'{"release":"a","policy":"careful","time_scale":1e999}', "payload"),
        ("quarantine", b"*", "device"),
    ],
)
def test_a_command_that_cannot_be_read_names_the_field(verb: str, payload: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_command(verb, payload)

    assert caught.value.field == field
    assert len(str(caught.value)) < 300


def test_every_verb_has_a_form() -> None:
    assert set(VERBS) == {
        "plan", "start", "activate", "approve", "reject", "pause", "resume", "abort", "rollback", "finish", "retry",
        "skip", "quarantine", "release", "get", "list", "import",
    }  # fmt: skip
