"""A fleet of which one device has no HTTP: the orchestrator, `tidegate pieces` and real agents on a real broker."""

import json
import os
import select
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.rollout_bench import command, until_phase
from tests.end_to_end.site_fleet import POLICY, agents, announced, published, told
from tests.end_to_end.stage import START_SECONDS, Stage, environment_of, make_stage
from tests.end_to_end.test_peers_process import came_from

DEVICES = ["pi-1", "pi-2"]
pytestmark = pytest.mark.mosquitto


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES, "mosquitto")


@contextmanager
def pieces_process(stage: Stage) -> Iterator[str]:
    """Run `tidegate pieces` on the orchestrator's releases, and give where it tells how it does."""
    url = stage.broker.url_for("pieces")
    words = ["pieces", "--folder", str(stage.folder / "releases"), "--port", "0"]
    with (
        (stage.folder / "pieces.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words], env={**os.environ, **environment_of(url)},
            stdout=subprocess.PIPE, stderr=log,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
        line = process.stdout.readline() if readable else b""
        assert line, (stage.folder / "pieces.log").read_text()
        try:
            yield json.loads(line)["status"]
        finally:
            process.terminate()
            assert process.wait(timeout=START_SECONDS) == 0


def status_of(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def transports() -> Iterator[dict[str, Any]]:
    """Give the settings of a device without HTTP, and then those of an ordinary one."""
    yield {"transports": ["mqtt"]}
    yield {}


async def test_a_device_without_http_has_its_release_over_the_broker_beside_one_that_has(stage: Stage) -> None:
    built, settings = published(stage), transports()
    size_bytes = len(built.artifact) + len(built.envelope)
    stage.start()
    with pieces_process(stage) as status_url, agents(stage, DEVICES, lambda: next(settings)) as fleet:
        await announced(stage, len(DEVICES))
        body = {"release": "app-1.0.0", "policy": POLICY, "rollout": "r-1", "time_scale": 60}
        planned = await command(stage, "plan", **body)
        await command(stage, "start", **body)
        await until_phase(stage, "completed")
        assert [each.ask()["version"] for each in fleet] == ["1.0.0", "1.0.0"]
        status = status_of(status_url)

    assert planned["distribution"]["sources"] == ["registry", "mqtt"]
    (share,) = planned["distribution"]["sites"]
    assert {name: share[name] for name in ("taking", "without_http", "over_bus", "bus_bytes", "wan_bytes")} == {
        "taking": 1, "without_http": 1, "over_bus": 1, "bus_bytes": size_bytes, "wan_bytes": size_bytes,
    }  # fmt: skip
    assert [set(came_from(each)) for each in fleet] == [{"mqtt:"}, {stage.registry}]
    assert status["pieces"] > 0
    assert status["invalid"] == status["absent"] == status["busy"] == 0
    stage.stop()
    rows = {row["device"]: (row["from_mqtt_bytes"], row["from_registry_bytes"]) for row in told(stage)["devices"]}
    assert rows["pi-1"][0] > 0
    assert rows["pi-1"][1] is None
    assert rows["pi-2"] == (None, rows["pi-1"][0])
    assert stage.verify() == len(stage.facts())
