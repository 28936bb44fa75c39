"""A rollout driven with Debian's mosquitto_pub, _rr and _sub alone, on the embedded broker and on mosquitto."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.stage import POLICY, Stage, make_stage

pytestmark = pytest.mark.mosquitto

DEVICES = [f"d-{number:02d}" for number in range(6)]
START = {"release": "lab-1.2.0", "policy": POLICY, "rollout": "r-1", "time_scale": 60, "transaction": "t1"}


class Console:
    """What an operator types; the user is the broker's, and so is the actor."""

    def __init__(self, stage: Stage, user: str = "alice") -> None:
        url = stage.operator(user)
        self.user = user
        self._login = ["-h", url.host, "-p", str(url.port), "-u", user, "-P", url.password or "", "-V", "5"]

    async def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [program, *self._login, *arguments]
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20, check=False)

    async def ask(self, verb: str, message: str, *options: str) -> dict[str, Any]:
        """Send a command with ``mosquitto_rr`` and return the answer."""
        topic, reply = f"fleet/v1/ops/{self.user}/cmd/{verb}", f"fleet/v1/ops/{self.user}/reply/{verb}"
        result = await self.run(
            "mosquitto_rr", "-q", "1", "-W", "10", "-t", topic, "-e", reply, "-m", message, *options
        )
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    async def hear(self, verb: str) -> dict[str, Any]:
        """Wait for the next answer to a verb with ``mosquitto_sub``."""
        result = await self.run("mosquitto_sub", "-C", "1", "-W", "10", "-t", f"fleet/v1/ops/{self.user}/reply/{verb}")
        return dict(json.loads(result.stdout))

    async def phase(self) -> str:
        return str((await self.ask("get", "r-1"))["data"]["phase"])

    async def until(self, *phases: str) -> None:
        for _ in range(150):
            if await self.phase() in phases:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"waited in vain for {phases}, it is {await self.phase()}")

    async def start(self) -> dict[str, Any]:
        for _ in range(100):
            reply = await self.ask("start", json.dumps(START))
            if reply["status"] == "ok":
                return reply
            assert reply["error"]["code"] == "conflict", reply
            await asyncio.sleep(0.1)
        pytest.fail(f"the rollout could not be started: {reply}")


@pytest.fixture(params=["embedded", "mosquitto"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    kind: Literal["embedded", "mosquitto"] = request.param
    with ExitStack() as stack:
        made = make_stage(stack, tmp_path, DEVICES, kind)
        made.start()
        yield made


def fleet(stage: Stage) -> list[LightDevice]:
    return [LightDevice(name, stage.command_key) for name in DEVICES]


async def test_every_step_of_a_rollout_is_commanded_and_answered(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        started = await alice.start()
        assert started["transaction"] == "t1"
        first = started["data"]["waves"][0]
        assert (first["wave"], first["devices"]) == ("canary", 2)
        await alice.until("awaiting_approval")

        paused = await alice.ask("pause", "r-1")
        assert (paused["status"], paused["data"]["paused"], paused["data"]["by"]) == ("ok", True, "alice")
        again = await alice.ask("pause", "r-1")
        assert again["data"]["already_applied"] is True
        refused = await alice.ask("approve", "r-1")
        assert refused["error"]["code"] == "wrong_phase"
        assert "resume" in refused["error"]["allowed"]
        resumed = await alice.ask("resume", '{"rollout":"r-1","reason":"checked dashboards","transaction":"t2"}')
        assert (resumed["data"]["paused"], resumed["transaction"]) == (False, "t2")
        assert resumed["data"]["reason"] == "checked dashboards"

        approved = await alice.ask("approve", '{"rollout":"r-1","wave":"canary"}')
        assert approved["status"] == "ok"
        twice = await alice.ask("approve", '{"rollout":"r-1","wave":"canary"}')
        assert twice["data"]["already_applied"] is True
        await alice.until("completed")

    assert {device.version for device in devices} == {"1.2.0"}


async def test_abort_stops_a_rollout_and_leaves_deployed_devices_as_they_are(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        await alice.start()
        await alice.until("awaiting_approval")
        aborted = await alice.ask("abort", '{"rollout":"r-1","reason":"changed our mind"}')
        assert (aborted["status"], aborted["data"]["phase"]) == ("ok", "aborted")
        assert (await alice.ask("abort", "r-1"))["data"]["already_applied"] is True
        late = await alice.ask("approve", "r-1")
        assert (late["error"]["code"], late["error"]["allowed"]) == ("wrong_phase", ["rollback"])

    assert sum(device.version == "1.2.0" for device in devices) == 2


async def test_wrong_commands_are_answered_with_their_code_and_a_remedy(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        await alice.start()

        unknown = await alice.ask("stop", "r-1")
        assert unknown["error"]["code"] == "unknown_command"
        assert {"pause", "abort", "approve"} <= set(unknown["error"]["allowed"])
        missing = await alice.ask("pause", "r-2")
        assert missing["error"] == {"code": "not_found", "message": "no rollout 'r-2'", "did_you_mean": ["r-1"]} | {
            key: None for key in missing["error"] if key not in {"code", "message", "did_you_mean"}
        }
        broken = await alice.ask("pause", '{"rollout":')
        assert broken["error"]["code"] == "invalid_payload"
        wrong_field = await alice.ask("pause", '{"rollout":"r-1","wave":7}')
        assert (wrong_field["error"]["code"], wrong_field["error"]["field"]) == ("invalid_payload", "wave")
        bad_policy = {**START, "policy": {**POLICY, "rollout": {"waves": "all"}}, "rollout": "r-9"}
        refused = await alice.ask("start", json.dumps(bad_policy))
        assert (refused["error"]["code"], refused["error"]["field"]) == ("invalid_payload", "policy.rollout.waves")
        no_release = await alice.ask("start", json.dumps({**START, "release": "lab-1.2", "rollout": "r-9"}))
        assert (no_release["error"]["code"], no_release["error"]["did_you_mean"]) == (
            "not_found",
            ["lab-1.2.0", "lab-1.1.0"],
        )
        conflict = await alice.ask("start", json.dumps({**START, "release": "lab-1.1.0"}))
        assert conflict["error"]["code"] == "conflict"
        early = await alice.ask("approve", '{"rollout":"r-1","plan":"' + "0" * 64 + '"}')
        assert early["error"]["code"] == "conflict"


async def test_retained_command_is_refused_and_cleared(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        await alice.start()
        listening = asyncio.ensure_future(alice.hear("abort"))
        while not listening.done():  # A subscriber does not say when it listens.
            await alice.run("mosquitto_pub", "-q", "1", "-r", "-t", "fleet/v1/ops/alice/cmd/abort", "-m", "r-1")
        assert (await listening)["error"]["code"] == "retained_command"
        assert await alice.phase() != "aborted"
        stage.kill()
        stage.start()
        assert await alice.phase() != "aborted", "it was cleared, so a restart does not find it either"


async def test_nobody_commands_in_somebody_elses_name(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        await alice.start()
        forged = await alice.run("mosquitto_pub", "-q", "1", "-t", "fleet/v1/ops/bob/cmd/abort", "-m", "r-1")
        assert "Not authorized" in forged.stderr
        assert await alice.phase() != "aborted"


async def test_brake_holds_every_activation_and_its_release_lets_them_go_on(stage: Stage) -> None:
    alice, devices = Console(stage), fleet(stage)
    async with living(devices, stage.broker):
        set_brake = ["-q", "1", "-r", "-t", "fleet/v1/all/hold"]
        assert (await alice.run("mosquitto_pub", *set_brake, "-m", '{"reason":"plant incident"}')).returncode == 0
        await alice.start()
        for _ in range(100):
            if any(grant.reason == "hold" for device in devices for grant in device.grants):
                break
            await asyncio.sleep(0.1)
        assert any(grant.reason == "hold" for device in devices for grant in device.grants)
        assert not any(device.activations for device in devices)
        assert (await alice.run("mosquitto_pub", *set_brake, "-n")).returncode == 0
        await alice.until("awaiting_approval")
