"""``tidegate home-assistant`` on the embedded broker: what it says follows the bus, and is taken away again."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from orchestrator.adapters.access import Access, create_access
from orchestrator.adapters.brokers import Broker, start_embedded
from orchestrator.discovery import FLEET
from schemas.codec import encode
from schemas.documents import GroupSummary
from schemas.topics import Kind, TopicTree
from tests.end_to_end.stage import environment_of
from tests.home_assistant.test_discovery import rollout

TREE = TopicTree()
CONFIGS = "homeassistant/device/+/config"
GUIDE = (Path(__file__).parents[2] / "docs" / "home-assistant.md").read_text(encoding="utf-8")
(RIGHTS,) = re.findall(r"```text\n(user .*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """One whose access list has the lines that docs/home-assistant.md adds."""
    with ExitStack() as stack:

        def create(folder: Path, **users: Iterable[str]) -> Access:
            access = create_access(folder, **users)
            access.acl_file.write_text(access.acl_file.read_text() + "\n" + RIGHTS)
            return access

        monkeypatch.setattr("orchestrator.adapters.brokers.create_access", create)
        yield stack.enter_context(start_embedded(tmp_path, operators=("discovery", "homeassistant")))


@asynccontextmanager
async def connected(broker: Broker, user: str) -> AsyncIterator[aiomqtt.Client]:
    url = broker.url_for(user)
    async with aiomqtt.Client(url.host, url.port, username=user, password=url.password) as client:
        yield client


async def run(broker: Broker, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", "home-assistant", *options, stdout=subprocess.PIPE,
        env={**os.environ, **environment_of(broker.url_for("discovery"))},
    )  # fmt: skip


async def until(client: aiomqtt.Client, name: str) -> dict[str, Any] | None:
    """Return the next configuration of a device; None when it is taken away."""
    async with asyncio.timeout(20):
        async for message in client.messages:
            if str(message.topic) == f"homeassistant/device/{name}/config":
                return json.loads(bytes(message.payload)) if message.payload else None
    raise AssertionError("the connection ended")


async def test_fleet_appears_follows_a_rollout_and_disappears_again(broker: Broker) -> None:
    status = TREE.build(Kind.STATUS, rollout="r-1")
    async with connected(broker, "orchestrator") as orchestrator, connected(broker, "homeassistant") as there:
        await there.subscribe(CONFIGS, 1)
        await orchestrator.publish(status, encode(rollout("r-1", "soaking")), 1, retain=True)
        process = await run(broker, "--user", "homeassistant")
        try:
            fleet = await until(there, FLEET)
            assert fleet is not None
            assert fleet["components"]["rollout"]["state_topic"] == status
            assert fleet["components"]["approve"] == {"platform": "button"}

            await orchestrator.publish(status, encode(rollout("r-1", "awaiting_approval")), 1, retain=True)
            fleet = await until(there, FLEET)
            assert fleet is not None
            button = fleet["components"]["approve"]

            summary = GroupSummary(group="vision", devices=2, fresh=2, healthy=2, requests=10)
            topic = TREE.build(Kind.GROUP_SUMMARY, group="vision")
            await orchestrator.publish(topic, encode(summary), 1, retain=True)
            group = await until(there, "tidegate_group_vision")
            assert group is not None
            assert {each["state_topic"] for each in group["components"].values()} == {topic}
            await orchestrator.publish(topic, b"", 1, retain=True)
            assert await until(there, "tidegate_group_vision") is None

            await orchestrator.subscribe(button["command_topic"], 1)
            await there.publish(button["command_topic"], button["payload_press"], 1)
            async with asyncio.timeout(20):
                pressed = await anext(aiter(orchestrator.messages))
            assert json.loads(bytes(pressed.payload))["rollout"] == "r-1"
        finally:
            process.terminate()
            await process.communicate()
        removing = await run(broker, "--remove")
        said, _ = await removing.communicate()
        assert (removing.returncode, json.loads(said)) == (0, {"removed": [FLEET]})
        assert await until(there, FLEET) is None


async def test_what_is_over_is_taken_away_after_a_restart_and_what_is_not_ours_is_left(broker: Broker) -> None:
    async with connected(broker, "homeassistant") as there:
        for name in ("tidegate_group_old", "lamp"):
            await there.publish(f"homeassistant/device/{name}/config", b'{"device": {}}', 1, retain=True)
        await there.subscribe(CONFIGS, 1)
        process = await run(broker)
        try:
            assert await until(there, "tidegate_group_old") == {"device": {}}
            assert await until(there, "tidegate_group_old") is None
        finally:
            process.terminate()
            await process.communicate()
    async with connected(broker, "homeassistant") as again:
        await again.subscribe(CONFIGS, 1)
        assert await until(again, "lamp") == {"device": {}}
