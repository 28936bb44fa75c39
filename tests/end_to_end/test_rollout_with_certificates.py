"""A whole rollout with certificates: mosquitto, the orchestrator, a real agent, light devices, an operator."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.keys import load_private, load_public
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore
from tests.device.device_world import AgentProcess, make_release
from tests.end_to_end.certified import CertifiedBroker, certified_mosquitto
from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.rollout_bench import command
from tests.end_to_end.stage import POLICY, Stage, environment_of, furnish

pytestmark = pytest.mark.mosquitto

LIGHT = ["d-01", "d-02", "d-03"]
ALL_WELL = {"checks": [{"type": "application_health", "threshold": "all_healthy", "min_samples": 1}]}
"""The light devices measure nothing that trends need."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        broker = stack.enter_context(
            certified_mosquitto(tmp_path / "access", operators=["alice"], devices=["pi-1", *LIGHT])
        )
        made = furnish(stack, tmp_path / "fleet", broker)
        made.start()
        yield made


def published(stage: Stage, version: str) -> BuiltRelease:
    key = load_private(stage.folder / "keys" / "release.key")
    built = make_release(stage.folder, version, key=key)
    ReleaseStore(stage.folder / "releases").publish(built)
    return built


def provisioned_agent(stage: Stage, broker: CertifiedBroker, image: BuiltRelease) -> AgentProcess:
    """An agent whose settings are those that ``tidegate broker-config`` prints."""
    folder = stage.folder / "pi-1"
    folder.mkdir()
    files = broker.files("pi-1")
    agent = AgentProcess(
        folder, f"mqtts://localhost:{broker.device_port}", ca_file=str(files.ca_file),
        certificate_file=str(files.certificate_file), private_key_file=str(files.private_key_file),
        group="lab", release_keys=[load_public(stage.folder / "keys" / "release.pub").hex()],
        command_keys=[load_public(stage.folder / "keys" / "command.pub").hex()],
    )  # fmt: skip
    (folder / "manifest").write_bytes(image.envelope)
    (folder / "artifact").write_bytes(image.artifact)
    subprocess.run(
        [sys.executable, "-m", "device_client", "provision", "--config", str(agent.config),
         "--manifest", str(folder / "manifest"), "--artifact", str(folder / "artifact")],
        check=True, timeout=60,
    )  # fmt: skip
    return agent


@asynccontextmanager
async def used(agent: AgentProcess) -> AsyncIterator[None]:
    """Let somebody use its application, so that there is something to measure."""

    async def use() -> None:
        while True:
            await asyncio.to_thread(agent.ask, "/measure")
            await asyncio.sleep(0.02)

    user = asyncio.ensure_future(use())
    try:
        yield
    finally:
        user.cancel()


async def typed(stage: Stage, *words: str) -> dict[str, Any]:
    """Let alice type a command, and return its answer."""
    environment = {**os.environ, **environment_of(stage.operator())}
    command = [sys.executable, "-m", "orchestrator", *words, "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


async def asked_until(stage: Stage, field: str, expected: object, verb: str, **body: object) -> None:
    answer: dict[str, Any] = {}
    for _ in range(200):
        answer = await command(stage, verb, **body)
        if answer[field] == expected:
            return
        await asyncio.sleep(0.1)
    log = (stage.folder / "orchestrator.log").read_text()
    pytest.fail(f"waited in vain for {expected}: {answer}\n{log[-3000:]}")


async def test_a_rollout_reaches_every_device_with_certificates_alone(stage: Stage) -> None:
    assert isinstance(stage.broker, CertifiedBroker)
    agent = provisioned_agent(stage, stage.broker, published(stage, "1.0.0"))
    published(stage, "1.2.0")
    policy = stage.folder / "policy.yaml"
    canary = {**POLICY["rollout"]["canary"], "phases": {"short_term": ALL_WELL, "soak": ALL_WELL}}
    policy.write_text(json.dumps({**POLICY, "rollout": {**POLICY["rollout"], "canary": canary}}))
    devices = [LightDevice(name, stage.command_key) for name in LIGHT]
    agent.start()
    try:
        async with living(devices, stage.broker), used(agent):
            await asked_until(stage, "devices", 4, "list")
            start = ("start", str(policy), "--release", "app-1.2.0", "--rollout", "r-1", "--time-scale", "60")
            while (answer := await typed(stage, *start))["status"] != "ok":
                assert answer["error"]["code"] == "conflict", answer  # the fleet has no baseline yet
            await asked_until(stage, "phase", "awaiting_approval", "get", rollout="r-1")
            await typed(stage, "approve", "r-1", "--reason", "looked at the canary")
            await asked_until(stage, "phase", "completed", "get", rollout="r-1")
            assert agent.ask()["version"] == "1.2.0"
    finally:
        agent.close()

    assert {device.version for device in devices} == {"1.2.0"}
    stage.stop()
    assert stage.verify() == len(stage.facts())
