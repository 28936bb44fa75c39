"""notify.yaml: what may stand in it, and that no secret ever does or is told."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.adapters.apprise_sender import Apprise
from orchestrator.adapters.destinations import make_destinations
from orchestrator.adapters.notify_config import NotifyConfigError, read_config
from orchestrator.adapters.outbox import Delivery
from orchestrator.adapters.webhook import Webhook
from orchestrator.cli.notifying import trial
from orchestrator.notifications.notification import Trigger, to_wire
from orchestrator.notifications.retrying import Delivered, Later
from tests.notifications.receiver import receiving

SECRET = "whsec-0123456789abcdef"


def write(folder: Path, text: str) -> Path:
    path = folder / "notify.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, lines: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(NotifyConfigError) as caught:
        make_destinations(read_config(write(folder, f"destinations:\n  ops:\n{lines}")), environment or {})
    return str(caught.value)


def test_destination_is_made_of_what_is_written_and_of_secrets_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    text = """
destinations:
  ops:
    webhook: https://hooks.example/${TOKEN}
    secret_file: secret
    triggers: [on-halted, on-brake]
    rollouts: ["camera-*"]
    timeout: 5s
    give_up_after: 2h
  gate:
    webhook: http://127.0.0.1:8080/confirm
    secret: ${SECRET}
    approves: true
    answer_within: 10m
"""
    read = read_config(write(tmp_path, text))
    ops, gate = make_destinations(read, {"TOKEN": "t-1", "SECRET": SECRET})

    assert read.queue == tmp_path / "notify.db"
    assert ops.transport == Webhook("https://hooks.example/t-1", SECRET.encode(), 5.0)
    assert ops.interest.triggers == {Trigger.HALTED, Trigger.BRAKE}
    assert ops.patience_seconds == 7200
    assert (gate.interest.triggers, gate.approves) == (frozenset({Trigger.AWAITING_APPROVAL}), True)
    assert gate.patience_seconds == 600
    assert "t-1" not in repr(ops)
    assert SECRET not in repr((ops, gate))


# apprise looks for all that it can use when it is imported, also for what Python will drop.
IMPORTED = pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")


@IMPORTED
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("    triggers: [on-halted]", "write one of webhook, webhook_file, apprise and apprise_file"),
        ("    webhook: https://a\n    apprise: json://a", "write one of"),
        ("    webhook: https://a\n    secret: 0123456789abcdef-leak", "a secret never stands here"),
        ("    webhook: https://a\n    secret: ${S}\n    secret_file: /x", "not both"),
        ("    webhook: https://a\n    secret: ${S}", "the environment has no S"),
        ("    webhook: ${URL}", "the environment has no URL"),
        ("    webhook: https://a\n    secret_file: /nowhere/x", "/nowhere/x: No such file"),
        ("    webhook: https://a\n    trigers: [on-halted]", "did you mean 'triggers'?"),
        ("    webhook: https://a\n    triggers: [on-halt]", "'on-halted'"),
        ("    webhook: ftp://leak.example/a", "no address"),
        ("    webhook: 'https://leak.example/a b'", "no address"),
        ("    webhook: https://leak.example:port/", "no address"),
        ("    webhook: http://leak.example/a", "plain http"),
        ("    webhook: https://a\n    approves: true", "write secret or secret_file"),
        ("    webhook: http://leak.example/a\n    allow_plain_http: true\n    approves: true\n    secret: ${SECRET}",
         "over https only"),
        ("    webhook: https://a\n    approves: true\n    secret: ${SECRET}\n    triggers: [on-halted]",
         "nothing else"),
        ("    apprise: json://a\n    approves: true\n    secret: ${SECRET}", "are for webhooks"),
        ("    apprise: 'nothing-of-the-kind://leak'", "does not know such an address"),
        ("    webhook: https://a\n    ca_file: /nowhere/ca.crt", "ops: /nowhere/ca.crt: no certificates"),
        ("    webhook: https://a\n    secret: ${SHORT}", "less than 16 bytes"),
    ],
)  # fmt: skip
def test_mistake_is_named_and_no_value_is_told(lines: str, words: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, lines, {"SECRET": SECRET, "SHORT": "leak"})

    assert words in said
    assert "leak" not in said


def test_file_that_everybody_may_read_is_no_place_for_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o644)

    assert "chmod o-r" in refusal(tmp_path, f"    webhook: https://a\n    secret_file: {tmp_path}/secret")


def test_without_the_extra_apprise_is_refused_with_the_extras_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> object:  # noqa: ANN401 - as the real one
        if name == "apprise":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    assert "pip install 'tidegate[orchestrator,notify]'" in refusal(tmp_path, "    apprise: json://localhost")


@IMPORTED
async def test_apprise_delivers_words_and_the_next_commands() -> None:
    with receiving() as receiver:
        sender = Apprise(receiver.url.replace("http://", "json://"), 10.0)
        notification = trial(0.0)
        delivery = Delivery("chat", notification.id, notification.title, to_wire(notification), 0.0, 0.0)

        assert await sender.deliver(delivery, 0.0) == Delivered()
        receiver.answers = [(500, b"")]
        assert isinstance(await sender.deliver(delivery, 0.0), Later)

    assert receiver.bodies[0]["title"] == notification.title
    assert receiver.bodies[0]["message"].endswith("Next: tidegate list")
    assert "secret" not in repr(sender)


def test_test_message_is_sent_once_and_says_whether_it_was_taken(tmp_path: Path) -> None:
    with receiving() as receiver:
        path = write(tmp_path, f"destinations:\n  ops:\n    webhook: {receiver.url}\n    secret: ${{SECRET}}\n")
        receiver.answers = [(204, b""), (403, b"")]
        results = [
            CliRunner().invoke(app, ["notify", "--config", str(path), "--test", name], env={"SECRET": SECRET})
            for name in ("ops", "ops", "chat")
        ]

    assert [each.exit_code for each in results] == [0, 1, 1]
    assert results[0].output == "ops has taken it\n"
    assert "ops has not taken it: it answers 403" in results[1].output
    assert "there are: ops" in results[2].output
    assert receiver.triggers == ["test", "test"]
    assert "path-secret" not in "".join(each.output for each in results)
    assert os.listdir(tmp_path) == ["notify.yaml"]  # noqa: PTH208 - the names
