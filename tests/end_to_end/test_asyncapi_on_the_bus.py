"""Whatever is said on the bus in a rollout that is rolled back and one that succeeds is as AsyncAPI says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgpack
import pytest

from orchestrator.cli.bus import connect, request
from orchestrator.version import VERSION
from schemas.asyncapi import asyncapi_document
from schemas.topics import Kind
from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.stage import POLICY, Stage, make_stage
from tests.json_schema import draft_7

DEVICES = [f"d-{number:02d}" for number in range(6)]
DOCUMENT = asyncapi_document(VERSION)
CHANNELS: list[tuple["re.Pattern[str]", str]] = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"]))), name)
    for name, channel in DOCUMENT["channels"].items()
]
SEEN = frozenset(Kind) - {
    Kind.COMMAND, Kind.DEVICE_EVENT, Kind.HOLD, Kind.SYNC, Kind.TRUST, Kind.PEERS, Kind.EVALUATOR_AVAILABILITY,
    Kind.EVALUATOR_SAMPLES, Kind.EVALUATOR_LEASE, Kind.FETCH, Kind.PIECE, Kind.PIECES_AVAILABILITY,
}  # fmt: skip
"""What is said in these rollouts after the start; nobody pulls the brake, and there is neither evaluator nor pieces."""


def channel_of(topic: str) -> str:
    (found,) = [name for pattern, name in CHANNELS if pattern.fullmatch(topic)]
    return found


def wrong(topic: str, payload: bytes) -> list[str]:
    message = DOCUMENT["components"]["messages"][channel_of(topic)]
    schema = {**message["payload"], "components": DOCUMENT["components"]}
    if message["contentType"] != "application/json":
        value: Any = payload.decode()
    elif payload[:1] in b"{[":
        value = json.loads(payload)
    else:
        value = msgpack.unpackb(payload)
    return [f"{topic}: {error.json_path}: {error.message}" for error in draft_7(schema).iter_errors(value)]


@asynccontextmanager
async def overheard(stage: Stage) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Hear everything, as whoever may."""
    heard: list[tuple[str, bytes]] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append((str(message.topic), bytes(message.payload)))  # noqa: PERF401 - it never ends by itself

    async with connect(stage.broker.url_for("orchestrator")) as client:
        await client.subscribe("fleet/v1/#", 1)
        task = asyncio.create_task(listen(client))
        try:
            yield heard
        finally:
            task.cancel()


async def ask(stage: Stage, verb: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON holds anything
    reply = await request(stage.operator(), verb, body, timeout_seconds=10)
    return reply.model_dump(mode="json")


async def start(stage: Stage, rollout: str, release: str) -> None:
    body = {"release": release, "policy": POLICY, "rollout": rollout, "time_scale": 60}
    for _ in range(100):
        if (await ask(stage, "start", **body))["status"] == "ok":
            return
        await asyncio.sleep(0.1)
    pytest.fail("it could not be started")


async def until(stage: Stage, rollout: str, *phases: str) -> None:
    for _ in range(300):
        if (await ask(stage, "get", rollout=rollout))["data"]["phase"] in phases:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"waited in vain for {phases}")


async def test_every_message_of_two_rollouts_is_as_the_document_says(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stage = make_stage(stack, tmp_path, DEVICES)
        stage.start()
        fleet = [LightDevice(name, stage.command_key, frozenset({"1.1.0"})) for name in DEVICES]
        async with overheard(stage) as heard, living(fleet, stage.broker):
            await start(stage, "r-bad", "lab-1.1.0")
            await until(stage, "r-bad", "rolled_back")
            await start(stage, "r-good", "lab-1.2.0")
            await until(stage, "r-good", "awaiting_approval")
            await ask(stage, "approve", rollout="r-good")
            await until(stage, "r-good", "completed")

    assert [each for topic, payload in heard if payload for each in wrong(topic, payload)] == []
    kinds = {channel_of(topic) for topic, _ in heard}
    assert {kind.value for kind in SEEN} <= kinds
    assert {"command_start", "command_get", "command_approve"} <= kinds


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("fleet/v1/device/d-1/availability", b"perhaps"),
        ("fleet/v1/device/d-1/reported", b'{"observed_generation":"7"}'),
        ("fleet/v1/rollout/r-1/gate/canary", b'{"gate":"canary_gate"}'),
    ],
)
def test_message_that_is_not_as_the_document_says_is_found(topic: str, payload: bytes) -> None:
    assert wrong(topic, payload)
