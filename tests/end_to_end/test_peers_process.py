"""A site whose devices give each other a release: the orchestrator, its registry, and four real agents."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.device.device_world import AgentProcess, free_port
from tests.end_to_end.rollout_bench import command, until_phase
from tests.end_to_end.site_fleet import POLICY, agents, announced, published, told
from tests.end_to_end.stage import Stage, make_stage

DEVICES = ["pi-1", "pi-2", "pi-3", "pi-4"]
PEERS = {"sources": ["peers", "registry"], "peers": {"first": 1, "wait": "10m"}}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


def giving() -> dict[str, Any]:
    """Return the settings of a device that gives others what it has."""
    return {"peers": {"host": "127.0.0.1", "port": free_port()}}


def came_from(agent: AgentProcess) -> dict[str, int]:
    """Return how many bytes of the release came from where, as the agent's log says."""
    told = [line for line in agent.log.read_text().splitlines() if "chunks.complete" in line]
    return {origin: int(count) for origin, count in re.findall(r"(\S+)=(\d+)", told[-1]) if origin != "carried"}


async def test_release_crosses_the_line_once_and_the_last_devices_have_it_from_the_others(stage: Stage) -> None:
    built = published(stage)
    policy: dict[str, Any] = {**POLICY, "distribution": PEERS}
    stage.start()
    with agents(stage, DEVICES, giving) as fleet:
        await announced(stage, len(DEVICES))
        body = {"release": "app-1.0.0", "policy": policy, "rollout": "r-1", "time_scale": 60}
        planned = await command(stage, "plan", **body)
        await command(stage, "start", **body)
        await until_phase(stage, "completed")
        assert [each.ask()["version"] for each in fleet] == ["1.0.0"] * len(DEVICES)
        devices = {name: came_from(each) for name, each in zip(DEVICES, fleet, strict=True)}
        origins = sorted((sorted(came_from(each)) for each in fleet), key=str)

    (share,) = planned["distribution"]["sites"]
    assert (share["through"], share["giving"]) == ("peers", len(DEVICES))
    assert share["wan_bytes"] == len(built.artifact) + len(DEVICES) * len(built.envelope)
    assert [each for each in origins if each == ["peers"]] == 3 * [["peers"]]
    assert [each for each in origins if each != ["peers"]] == [[stage.registry]]
    stage.stop()
    report = told(stage)
    content_bytes = sum(entry.size_bytes for entry in built.manifest.files)
    rows = {row["device"]: (row["from_peers_bytes"], row["from_registry_bytes"]) for row in report["devices"]}
    assert {name for name, (peers, registry) in rows.items() if peers == content_bytes and not registry} == {
        name for name in DEVICES if set(devices[name]) == {"peers"}
    }
    assert [set(wave["fetched"]) for wave in report["waves"]] == [{"registry"}, {"peers"}]
    assert report["header"]["fetched"]["peers"] == 3 * content_bytes
    assert stage.verify() == len(stage.facts())
