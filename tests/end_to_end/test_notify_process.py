"""``tidegate notify`` as a process beside a real broker, orchestrator and fleet: what receivers get, through a kill."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from orchestrator.adapters import clock
from orchestrator.core.events import DeviceQuarantined, FleetFrozen, RolloutApproved
from orchestrator.notifications.signature import is_genuine
from schemas.codec import encode
from schemas.messages import Hold
from schemas.topics import Kind
from tests.end_to_end.light_fleet import TREE, living
from tests.end_to_end.rollout_bench import DEVICES, all_online, command, make_devices, start, until_phase
from tests.end_to_end.stage import START_SECONDS, Stage, environment_of, make_stage
from tests.notifications.receiver import receiving

SECRET = "whsec-0123456789abcdef"


class NotifyProcess:
    """The process, as bob; it can be killed and started again."""

    def __init__(self, stage: Stage, config: str, user: str) -> None:
        self._stage = stage
        self._user = user
        self._config = stage.folder / "notify.yaml"
        self._config.write_text(config)
        self.log = stage.folder / "notify.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        environment = {**os.environ, **environment_of(self._stage.operator(self._user)), "SECRET": SECRET}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "notify", "--config", str(self._config), *options],
                env=environment, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.line()["ready"] is True

    def line(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else b""
        assert line, self.log.read_text()
        return dict(json.loads(line))

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=START_SECONDS)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def stage(stack: ExitStack, tmp_path: Path, request: pytest.FixtureRequest) -> Stage:
    return make_stage(stack, tmp_path, DEVICES, request.param)


def notifying(stack: ExitStack, stage: Stage, config: str, user: str = "bob") -> NotifyProcess:
    made = NotifyProcess(stage, config, user)
    stack.callback(made.end)
    return made


async def until(condition: Callable[[], bool], what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


async def pull_the_brake(stage: Stage, hold: bytes) -> None:
    url = stage.operator()
    async with aiomqtt.Client(url.host, url.port, username=url.username, password=url.password) as client:
        await client.publish(TREE.build(Kind.HOLD), hold, 1, retain=True)


async def test_rollout_is_approved_by_a_webhook_and_everything_is_told_once_through_a_kill(
    stack: ExitStack, stage: Stage
) -> None:
    ops, gate = stack.enter_context(receiving()), stack.enter_context(receiving())
    gate.usual = (200, b'{"decision": "wait", "reason": "tests run"}')
    notify = notifying(
        stack, stage, f"""
destinations:
  ops: {{webhook: "{ops.url}", secret: "${{SECRET}}"}}
  deaf: {{webhook: "http://127.0.0.1:9/"}}
  release-gate: {{webhook: "{gate.url}", secret: "${{SECRET}}", approves: true, ask_again: 1s, answer_within: 5m}}
""",
    )  # fmt: skip
    stage.start()
    notify.start()
    async with living(make_devices(stage), stage.broker):
        await all_online(stage)
        await start(stage, "lab-1.2.0")
        await until_phase(stage, "awaiting_approval")
        await until(lambda: len(gate.requests) >= 2, notify.log.read_text)
        await until(lambda: "on-awaiting-approval" in ops.triggers, notify.log.read_text)

        notify.end(signal.SIGKILL)
        assert (await until_phase(stage, "awaiting_approval"))["phase"] == "awaiting_approval"
        gate.usual = (200, b'{"decision": "go", "reason": "all 12 tests passed"}')
        notify.start()
        await until_phase(stage, "completed")
        await until(lambda: "on-completed" in ops.triggers, notify.log.read_text)
    notify.end()

    by_load = {"on-caution", "on-fleet-frozen"}
    froze = [fact for fact in stage.facts() if isinstance(fact, FleetFrozen)]
    assert froze or "on-fleet-frozen" not in ops.triggers, (
        "a busy machine may freeze the fleet; nobody says so otherwise"
    )
    assert [each for each in ops.triggers if each not in by_load] == [
        "on-started", "on-awaiting-approval", "on-wave-completed", "on-wave-completed", "on-wave-completed",
        "on-completed",
    ]  # fmt: skip
    assert len({body["id"] for body in ops.bodies}) == len(ops.bodies)
    for headers, body in (*ops.requests, *gate.requests):
        timestamp = headers["x-tidegate-timestamp"]
        assert is_genuine(SECRET.encode(), timestamp, body, headers["x-tidegate-signature"], clock.now())
    assert {(body["trigger"], body["confirm"], body["id"]) for body in gate.bodies} == {
        ("on-awaiting-approval", True, gate.bodies[0]["id"])
    }
    assert gate.bodies[0]["gates"]["canary"]["verdict"] == "pass"
    assert gate.bodies[0]["rollout"]["wave"] == "canary"
    (approved,) = [fact for fact in stage.facts() if isinstance(fact, RolloutApproved)]
    assert (approved.by, approved.reason) == ("bob", "release-gate: all 12 tests passed")
    said = notify.log.read_text()
    assert [word for word in (SECRET, "path-secret", stage.operator("bob").password or "?") if word in said] == []


async def test_what_happens_while_it_is_down_is_told_once_it_is_back(stack: ExitStack, stage: Stage) -> None:
    ops = stack.enter_context(receiving())
    notify = notifying(stack, stage, f'destinations:\n  ops: {{webhook: "{ops.url}"}}\n')
    stage.start()
    devices = make_devices(stage, bad=frozenset({"1.1.0"}))
    async with living(devices, stage.broker):
        await all_online(stage)
        notify.start()
        await asyncio.to_thread(_settled, notify)
        await command(stage, "quarantine", device=DEVICES[-1], reason="smells")
        await until(lambda: ops.triggers == ["on-device-quarantined"], notify.log.read_text)
        await command(stage, "release", device=DEVICES[-1])
        notify.end(signal.SIGKILL)
        await start(stage, "lab-1.1.0")
        await until_phase(stage, "rolled_back")
        await command(stage, "quarantine", device=DEVICES[0], reason="smells too")
        notify.start()
        await until(lambda: len(ops.requests) >= 4, notify.log.read_text)
        await pull_the_brake(stage, encode(Hold(reason="smoke", by="alice")))
        await until(lambda: len(ops.requests) >= 5, notify.log.read_text)

    quarantined = {fact.device for fact in stage.facts() if isinstance(fact, DeviceQuarantined)}
    assert sorted(ops.triggers) == [
        "on-brake", "on-device-quarantined", "on-device-quarantined", "on-rolled-back", "on-started",
    ]  # fmt: skip
    assert ops.bodies[0]["devices"] == [DEVICES[-1]]
    assert "smells" in ops.bodies[0]["text"]
    (back,) = [body for body in ops.bodies if body["trigger"] == "on-rolled-back"]
    assert back["rollout"]["phase"] == "rolled_back"
    assert "error_rate" in back["text"]
    assert {name for body in ops.bodies for name in body["devices"]} <= quarantined


def _settled(notify: NotifyProcess) -> None:
    """Wait until it knows who is quarantined: before that, what it is told of them by the orchestrator is old."""
    deadline = time.monotonic() + 30
    database = notify.log.with_name("notify.db")
    while b"quarantines-known" not in (database.read_bytes() + database.with_name("notify.db-wal").read_bytes()):
        assert time.monotonic() < deadline, notify.log.read_text()
        time.sleep(0.1)


async def test_dry_run_of_a_viewer_prints_what_it_would_send_and_sends_nothing(stack: ExitStack, stage: Stage) -> None:
    ops = stack.enter_context(receiving())
    notify = notifying(
        stack, stage, f'destinations:\n  ops: {{webhook: "{ops.url}", triggers: [on-brake]}}\n', "viewer"
    )
    notify.start("--dry-run")

    await pull_the_brake(stage, encode(Hold(reason="smoke", by="alice")))

    printed = await asyncio.to_thread(notify.line)
    assert printed["destination"] == "ops"
    assert printed["body"]["title"] == "the emergency brake was pulled by alice"
    notify.end()
    assert ops.requests == []
    assert not (stage.folder / "notify.db").exists()
