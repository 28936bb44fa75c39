"""Real hooks, consent and window, with a real agent where it takes one."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_client.adapters import commands
from device_client.adapters.failure import StepError
from device_client.adapters.hooks import Hooks
from device_client.adapters.processes import find, identify
from device_client.core.effects import RunHook
from device_client.core.events import Step
from tests.device.device_world import until
from tests.device.test_agent_end_to_end import World, made_world

WORK = RunHook(1, Step.AFTER_SWITCH, 7, "green", "1.1.0", "blue", "1.0.0")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def run_hook(folder: Path, *command: str, timeout_seconds: float = 20.0) -> None:
    (folder / "state").mkdir(exist_ok=True)
    hooks = Hooks("pi-1", folder, {Step.AFTER_SWITCH: command}, timeout_seconds, folder / "state" / "hooks.log")
    hooks.run(WORK, lambda: False)


def test_hook_is_told_what_goes_on_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "secret")

    run_hook(tmp_path, "env")

    said = (tmp_path / "state" / "hooks.log").read_text()
    for line in (
        "TIDEGATE_HOOK=after_switch", "TIDEGATE_DEVICE=pi-1", "TIDEGATE_GENERATION=7", "TIDEGATE_SLOT=green",
        "TIDEGATE_VERSION=1.1.0", "TIDEGATE_PREVIOUS_SLOT=blue", "TIDEGATE_PREVIOUS_VERSION=1.0.0",
    ):  # fmt: skip
        assert line in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [(("sh", "-c", "exit 75"), "hook_waits", "after_switch says later"),
     (("sh", "-c", "exit 1"), "hook_failed", "after_switch: sh ended with 1; see state/hooks.log"),
     (("/no/such/hook",), "hook_failed", "after_switch: /no/such/hook: No such file or directory")],
)  # fmt: skip
def test_exit_code_of_a_hook_is_its_answer(tmp_path: Path, command: tuple[str, ...], code: str, message: str) -> None:
    with pytest.raises(StepError, match=message) as caught:
        run_hook(tmp_path, *command)

    assert caught.value.code == code


def test_hook_that_hangs_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    began = time.monotonic()

    with pytest.raises(StepError, match=r"it had not ended after 0\.3 s"):
        run_hook(tmp_path, "sh", "-c", "sleep 60 & echo $! > child; wait", timeout_seconds=0.3)

    assert time.monotonic() - began < 20
    assert find(tmp_path) == []
    child = int((tmp_path / "child").read_text())
    until(lambda: identify(child) is None)


def test_log_of_hooks_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LOG_BYTES_MAX", 1000)

    for _ in range(5):
        run_hook(tmp_path, "sh", "-c", "printf '%0700d' 0")

    assert (tmp_path / "state" / "hooks.log").stat().st_size <= 1000


def test_hook_that_says_later_keeps_the_device_waiting_until_it_says_yes(world: World) -> None:
    hook = f'\n[hooks]\nbefore_switch = ["sh", "-c", "test -e {world.folder}/idle || exit 75"]\n'
    world.agent.config.write_text(world.agent.config.read_text() + hook)
    world.agent.start()

    world.order(world.publish("1.0.0"), 1)
    waiting = world.orchestrator.until_reported("waiting", 1)
    assert waiting.error is not None
    assert (waiting.error.code, waiting.error.step) == ("hook_waits", "before_switch")
    assert world.orchestrator.questions == []
    (world.folder / "idle").touch()
    world.agent.kill()
    world.agent.start()

    world.orchestrator.until_reported("idle", 1)


def test_hook_that_says_no_after_the_switch_brings_the_old_version_back(world: World) -> None:
    world.with_old_version()
    world.agent.stop()
    hook = '\n[hooks]\nafter_switch = ["sh", "-c", "test $TIDEGATE_VERSION != 1.1.0"]\n'
    world.agent.config.write_text(world.agent.config.read_text() + hook)
    world.agent.start()

    world.order(world.publish("1.1.0"), 2)
    back = world.orchestrator.until_reported("rolled_back", 2)

    assert back.error is not None
    assert (back.error.code, world.version()) == ("hook_failed", "1.0.0")


def command_line(world: World, verb: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "device_client", verb, "--config", str(world.agent.config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_person_at_the_device_agrees_on_the_command_line(world: World) -> None:
    world.agent.config.write_text(world.agent.config.read_text() + "needs_consent = true\n")
    world.agent.start()
    refused = command_line(world, "consent")
    assert (refused.returncode, "no install waits for consent" in refused.stderr) == (1, True)

    world.order(world.publish("1.0.0"), 1)
    world.orchestrator.until_reported("waiting", 1)
    status = json.loads(command_line(world, "status").stdout)
    assert (status["phase"], status["release"], status["error"]["code"]) == ("waiting", "app-1.0.0", "consent_missing")
    assert world.orchestrator.questions == []
    agreed = command_line(world, "consent")
    assert agreed.stdout == "pi-1: agreed to app-1.0.0 (generation 1)\n"

    world.orchestrator.until_reported("idle", 1)


def test_device_outside_of_its_window_says_so_and_does_not_ask(world: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)  # noqa: TID251 - the agent's clock is the real one
    window = f'\n[window]\nstart = "{later:%H:%M}"\nend = "{later + timedelta(hours=1):%H:%M}"\n'
    world.agent.config.write_text(world.agent.config.read_text() + window)
    world.agent.start()

    world.order(world.publish("1.0.0"), 1)
    waiting = world.orchestrator.until_reported("waiting", 1)

    assert waiting.error is not None
    assert (waiting.error.code, world.orchestrator.questions) == ("outside_window", [])
