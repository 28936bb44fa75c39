"""docs/notifications.md and the example: the table is the triggers, the body is one, and what is shown works."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from orchestrator.__main__ import app
from orchestrator.adapters import clock
from orchestrator.adapters.destinations import Destination, make_destinations
from orchestrator.adapters.notify_config import DestinationBlock, read_config
from orchestrator.adapters.outbox import Delivery
from orchestrator.notifications.confirming import Answer, read_answer
from orchestrator.notifications.notification import MEANINGS, Notification, to_wire
from orchestrator.notifications.retrying import Delivered, Refused
from orchestrator.notifications.signature import sign

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "notifications"
SECRET = "whsec-0123456789abcdef"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_table_has_every_trigger_with_its_meaning() -> None:
    shown = re.findall(r"^\| `(on-[a-z-]+)` \| (.*) \|$", GUIDE, flags=re.MULTILINE)

    assert shown == [(str(trigger), meaning) for trigger, meaning in MEANINGS.items()]


def test_body_that_is_shown_is_one_whole_and_nothing_else() -> None:
    shown = json.loads(blocks("json")[0])

    assert json.loads(to_wire(Notification.model_validate_json(json.dumps(shown)))) == shown


def test_answer_that_is_shown_is_one() -> None:
    assert read_answer(blocks("json")[1].encode()) == Answer(
        decision="go", reason="all 12 tests of the site passed"
    )  # fmt: skip


def test_every_key_of_a_destination_is_explained_and_its_default_is_right() -> None:
    explained = set(re.findall(r"`(\w+)[:`]", "\n".join(re.findall(r"^\| `[a-z_]+`.*$", GUIDE, flags=re.MULTILINE))))

    assert DestinationBlock.model_fields.keys() - explained == set()
    assert "timeout` | how long an answer may take; `10s`" in GUIDE
    assert DestinationBlock.model_fields["timeout"].default == 10.0
    assert DestinationBlock.model_fields["give_up_after"].default == 24 * 3600.0


def test_configurations_that_are_shown_can_be_read(tmp_path: Path) -> None:
    whole, part = blocks("yaml")
    for text in (whole, f"destinations:\n{part}"):
        path = tmp_path / "notify.yaml"
        path.write_text(text)
        assert read_config(path).destinations
    assert set(YAML(typ="safe").load(whole)["destinations"]) == {"operations", "on-call"}


def test_commands_that_are_shown_exist() -> None:
    command = typer.main.get_command(app).commands["notify"]  # type: ignore[attr-defined] # a group
    options = {name for parameter in command.params for name in parameter.opts}
    typed = re.findall(r"^\$ tidegate notify (.*?)(?:#.*)?$", blocks("console")[0], flags=re.MULTILINE)

    assert len(typed) == 3
    assert {word for line in typed for word in shlex.split(line) if word.startswith("--")} <= options


@pytest.mark.parametrize(("body", "genuine"), [(b'{"a": 1}', True), (b'{"a": 2}', False)])
def test_signature_is_verified_as_shown_in_python_and_in_a_shell(
    body: bytes, genuine: bool, tmp_path: Path  # noqa: FBT001 - of the table
) -> None:  # fmt: skip
    timestamp = str(int(clock.now()))
    signature = sign(SECRET.encode(), timestamp, b'{"a": 1}')
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)
    function = names["is_genuine"]
    assert callable(function)

    assert function(SECRET.encode(), timestamp, body, signature) is genuine
    (tmp_path / "body.json").write_bytes(body)
    environment = {**os.environ, "SECRET": SECRET, "TIMESTAMP": timestamp, "SIGNATURE": signature}
    done = subprocess.run(["sh", "-c", blocks("sh")[0]], cwd=tmp_path, env=environment, check=False)
    assert (done.returncode == 0) is genuine


def test_example_receiver_takes_what_the_example_sends_once_and_answers_the_question() -> None:
    environment = {**os.environ, "TIDEGATE_WEBHOOK_SECRET": SECRET}
    process = subprocess.Popen(
        [sys.executable, EXAMPLE / "receiver.py", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().split()[-1]
        config = read_config(EXAMPLE / "notify.yaml")
        moved = {
            name: block.model_copy(update={"webhook": str(block.webhook).replace("8099", port)})
            for name, block in config.destinations.items()
        }
        config = config.model_copy(update={"destinations": moved})
        ops, _, gate = make_destinations(config, environment)
        stranger = make_destinations(config, {"TIDEGATE_WEBHOOK_SECRET": SECRET.upper()})[0]
        told = Notification.model_validate_json(blocks("json")[0])

        assert send(ops, told) == send(ops, told) == Delivered(b"{}")
        assert send(stranger, told) == Refused("it answers 401")
        answer = send(gate, told.model_copy(update={"confirm": True}))
        assert isinstance(answer, Delivered)
        assert read_answer(answer.answer) == Answer(decision="go", reason="1 checks pass")
    finally:
        process.kill()
        said, _ = process.communicate()
    assert said.count("on-awaiting-approval: r-1 awaits approval after canary") == 1


def send(destination: Destination, notification: Notification) -> object:
    delivery = Delivery(destination.name, notification.id, notification.title, to_wire(notification), 0.0, 0.0)
    return asyncio.run(destination.transport.deliver(delivery, clock.now()))
