"""Real agents at one site, a release for them, and what is waited for before a rollout."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.adapters.keys import load_private, load_public
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore
from tests.device.device_world import QUICK_APPLICATION, AgentProcess, make_release
from tests.end_to_end.rollout_bench import command
from tests.end_to_end.stage import Stage

SITE = "plant-7"
WELL = {"checks": [{"type": "application_health", "threshold": "all_healthy", "min_samples": 1}]}
POLICY: dict[str, Any] = {
    "rollout": {
        "canary": {"min_devices": 1, "max_devices": 1, "immediate_minutes": 0, "short_term_minutes": 0.5,
                   "soak_minutes": 0.5, "require_human_approval_after": False,
                   "phases": {"short_term": WELL, "soak": WELL}},
        "waves": [{"name": "wave-1", "percentage": 100, "soak_minutes": 0.5}],
        "global": {"deploy_timeout_minutes": 20, "health_check_interval_seconds": 5},
    },
    "rolling_update": {"max_unavailable": 50, "min_available": 50, "min_ready_seconds": 1},
    "health_gates": {"canary_gate": WELL, "wave_gate": WELL},
    "rollback_triggers": {"threshold": [{"name": "endpoint_down", "condition": "error_rate > 50%", "window": "1m",
                                         "scope": "single_device", "action": "rollback_device"}]},
}  # fmt: skip
"""With a time scale of 60 a minute is a second."""


@contextmanager
def agents(
    stage: Stage, names: Sequence[str], settings: Callable[[], dict[str, Any]] = dict
) -> Iterator[list[AgentProcess]]:
    """Run an agent for each name; ``settings`` makes what each has of its own."""
    made: list[AgentProcess] = []
    try:
        for name in names:
            (stage.folder / name).mkdir()
            url = stage.broker.url_for(name)
            made.append(
                AgentProcess(
                    stage.folder / name, f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}",
                    device=name, group="lab", site=SITE,
                    release_keys=[load_public(stage.folder / "keys" / "release.pub").hex()],
                    command_keys=[load_public(stage.folder / "keys" / "command.pub").hex()],
                    **settings(),
                )
            )  # fmt: skip
            made[-1].start()
        yield made
    finally:
        for each in made:
            each.close()


def published(stage: Stage) -> BuiltRelease:
    """Publish the release app-1.0.0 and return it."""
    key = load_private(stage.folder / "keys" / "release.key")
    built = make_release(stage.folder, "1.0.0", key=key, application=QUICK_APPLICATION)
    ReleaseStore(stage.folder / "releases").publish(built)
    return built


def told(stage: Stage) -> dict[str, Any]:
    """Return the report on the rollout."""
    words = ["report", "r-1", "--folder", str(stage.folder), "--json", "-"]
    done = subprocess.run([sys.executable, "-m", "orchestrator", *words], capture_output=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def announced(stage: Stage, count: int) -> None:
    """Return once so many devices have announced themselves."""
    for _ in range(300):
        if (await command(stage, "list"))["devices"] == count:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the agents did not announce themselves")
