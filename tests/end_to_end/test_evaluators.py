"""Evaluators as processes of their own on a real broker: they read, one is killed, and the rollout goes on."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest

from orchestrator.core import events as e
from schemas.codec import decode
from schemas.documents import ShardLease
from schemas.ids import shard_of
from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.rollout_bench import (
    DEVICES,
    all_online,
    command,
    make_devices,
    start,
    until_phase,
    until_the_canary_passed,
)
from tests.end_to_end.stage import Stage, make_stage

TAKEN_OVER_SECONDS = 10.0
LOW, HIGH = range(32), range(32, 64)

MOSQUITTO = pytest.param("mosquitto", marks=pytest.mark.mosquitto)


class Worker:
    """A process of ``tidegate evaluator``."""

    def __init__(self, stage: Stage, name: str, shards: str) -> None:
        url = stage.broker.url_for(name)
        address = f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}"
        with (stage.folder / f"{name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "evaluator", "--shards", shards],
                env={**os.environ, "TIDEGATE_BROKER": address}, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    async def until_it_reads(self, shards: str) -> None:
        """Return once it has said that it reads these."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while True:
                line = await asyncio.to_thread(self.process.stdout.readline)
                assert line, "the evaluator ended"
                if json.loads(line).get("shards") == shards:
                    return

    def leave_unread(self) -> None:
        """Read nothing of what it announces from now on."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self._close()

    def end(self) -> None:
        self.process.terminate()
        assert self._close() == 0

    def _close(self) -> int:
        with self.process:
            return self.process.wait(timeout=10)


@pytest.fixture(params=["embedded", MOSQUITTO])
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    kind: Literal["embedded", "mosquitto"] = request.param
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES, kind)


async def lease_of(stage: Stage, worker: str, holds: Callable[[ShardLease | None], bool]) -> float:
    """Return after how many seconds the lease on the broker is as it should be."""
    url, began = stage.operator(), time.monotonic()
    async with (
        asyncio.timeout(20),
        aiomqtt.Client(url.host, url.port, username=url.username, password=url.password) as client,
    ):
        await client.subscribe(f"fleet/v1/evaluator/{worker}/lease", 1)
        if holds(None):
            await client.subscribe("fleet/v1/orchestrator/availability", 1)  # Retained, so it shows that none is kept.
        async for message in client.messages:
            is_lease = str(message.topic).endswith("/lease")
            lease = decode(ShardLease, bytes(message.payload)) if is_lease and message.payload else None
            if holds(lease):
                return time.monotonic() - began
    raise AssertionError("the messages ended")


async def heard_seconds_ago(stage: Stage, shards: range) -> list[float]:
    page: dict[str, Any] = await command(stage, "list", what="devices")
    return [each["last_seen_seconds"] for each in page["devices"] if int(shard_of(each["device"])) in shards]


async def test_a_rollout_goes_on_when_one_of_two_evaluators_is_killed(stage: Stage) -> None:
    assert {int(shard_of(name)) in LOW for name in DEVICES} == {True, False}
    stage.start()
    low, high = Worker(stage, "evaluator", "0-31"), Worker(stage, "evaluator-2", "32-63")
    await low.until_it_reads("0-31")
    await high.until_it_reads("32-63")
    devices = make_devices(stage)
    async with living(devices, stage.broker):
        await until_the_canary_passed(stage)
        assert max(await heard_seconds_ago(stage, range(64))) < TAKEN_OVER_SECONDS
        await command(stage, "approve", rollout="r-1", reason="test")
        high.kill()
        assert await lease_of(stage, "evaluator-2", lambda lease: lease is None) < TAKEN_OVER_SECONDS
        await until_phase(stage, "completed")
        assert max(await heard_seconds_ago(stage, HIGH)) < TAKEN_OVER_SECONDS, "the orchestrator reads them itself"
    assert {device.version for device in devices} == {"1.2.0"}
    low.end()


async def test_a_bad_release_goes_back_when_only_evaluators_hear_it_whose_lines_nobody_reads(stage: Stage) -> None:
    stage.start()
    both = Worker(stage, "evaluator", "0-63"), Worker(stage, "evaluator-2", "0-63")
    for worker in both:
        worker.leave_unread()
    await lease_of(stage, "evaluator", lambda lease: lease is not None and len(lease.shards) == 32)
    await lease_of(stage, "evaluator-2", lambda lease: lease is not None and len(lease.shards) == 32)
    devices: list[LightDevice] = make_devices(stage, bad=frozenset({"1.1.0"}))
    async with living(devices, stage.broker):
        await all_online(stage)
        await start(stage, "lab-1.1.0")
        await until_phase(stage, "rolled_back")
    assert any(isinstance(fact, e.RollbackOrdered) for fact in stage.facts())
    assert {device.version for device in devices} == {"1.0.0"}
    for worker in both:
        worker.end()
