"""A release on every disk before anybody runs it: the orchestrator and real agents, at a site with limits."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.rollout_bench import command, until_phase
from tests.end_to_end.site_fleet import POLICY, SITE, agents, announced, published, told
from tests.end_to_end.stage import Stage, make_stage

DEVICES = ["pi-1", "pi-2"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


async def until_staged(stage: Stage) -> dict[str, Any]:
    for _ in range(400):
        summary = await command(stage, "get", rollout="r-1")
        if summary["staged"]["devices"] == len(DEVICES):
            return summary
        await asyncio.sleep(0.1)
    pytest.fail(f"not everybody has it: {summary}")


async def test_staged_release_is_on_every_device_and_runs_on_none_before_it_is_activated(stage: Stage) -> None:
    published(stage)
    (stage.folder / "sites.yaml").write_text(f"sites:\n  {SITE}:\n    downloads: {{bytes_per_second: 500000}}\n")
    stage.start()
    with agents(stage, DEVICES) as fleet:
        await announced(stage, len(DEVICES))
        body = {"release": "app-1.0.0", "policy": POLICY, "rollout": "r-1", "time_scale": 60, "activate": "manual"}
        planned = await command(stage, "plan", **body)
        await command(stage, "start", **body)
        summary = await until_staged(stage)
        assert summary["phase"] == "staging"
        assert [(each.root / "active").exists() for each in fleet] == [False, False]
        assert [len(list(each.root.glob("*/app"))) for each in fleet] == [1, 1]

        await command(stage, "activate", rollout="r-1", reason="Sunday")
        await until_phase(stage, "completed")
        assert [each.ask()["version"] for each in fleet] == ["1.0.0", "1.0.0"]
        fetches = [each.log.read_text().count("chunks.complete") for each in fleet]

    assert fetches == [1, 1]
    (share,) = planned["distribution"]["sites"]
    assert share["limits"] == {"bytes_per_second": 500_000, "window": None}
    stage.stop()
    header = told(stage)["header"]
    assert (header["staged"], header["activated_by"]) == (2, "alice")
    assert header["fetched"]["registry"] > 0
    assert stage.verify() == len(stage.facts())
