"""One rollout on a stage, as an operator runs it: start it, wait for its phases, ask how it goes."""

import asyncio
from typing import Any

import pytest

from orchestrator.cli.bus import request
from tests.end_to_end.light_fleet import LightDevice
from tests.end_to_end.stage import POLICY, Stage

DEVICES = [f"d-{number:02d}" for number in range(8)]


def make_devices(stage: Stage, *, bad: frozenset[str] = frozenset()) -> list[LightDevice]:
    return [LightDevice(name, stage.command_key, bad) for name in DEVICES]


async def command(stage: Stage, verb: str, **body: object) -> dict[str, Any]:
    reply = await request(stage.operator(), verb, body, timeout_seconds=10)
    assert reply.error is None, reply.error
    return dict(reply.data or {})


async def start(stage: Stage, release: str) -> None:
    """Start as soon as the fleet has announced itself and has a baseline."""
    body = {"release": release, "policy": POLICY, "rollout": "r-1", "time_scale": 60}
    for _ in range(100):
        reply = await request(stage.operator(), "start", body, timeout_seconds=10)
        if reply.error is None and reply.data is not None:
            assert sum(wave["devices"] for wave in reply.data["waves"]) == len(DEVICES)
            return
        assert reply.error is not None
        assert reply.error.code == "conflict", reply.error
        await asyncio.sleep(0.1)
    pytest.fail("the rollout could not be started")


async def until_phase(stage: Stage, *phases: str, seconds: float = 40) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for _ in range(int(seconds * 10)):
        summary = await command(stage, "get", rollout="r-1")
        if summary["phase"] in phases:
            return summary
        await asyncio.sleep(0.1)
    pytest.fail(f"waited in vain for {phases}: {summary}")


async def all_online(stage: Stage) -> None:
    for _ in range(200):
        if (await command(stage, "list"))["devices"] == len(DEVICES):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the fleet did not announce itself")


async def until_the_canary_passed(stage: Stage) -> None:
    """Start the good release, and wait until a person is asked."""
    await all_online(stage)
    await start(stage, "lab-1.2.0")
    await until_phase(stage, "awaiting_approval")
