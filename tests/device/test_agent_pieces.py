"""A real agent without HTTP, a real broker and a piece server; all three are lost in the middle of a fetch."""

import random
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.releases import ReleaseStore, build_release
from schemas.messages import Desired
from schemas.pieces import MQTT_BASE
from tests.device.device_world import (
    CHECK,
    COMMAND,
    QUICK_APPLICATION,
    RELEASE_KEY,
    AgentProcess,
    Orchestrator,
    broker,
    make_tree,
    until,
)
from tests.shell.pieces_world import giving

MODEL_BYTES = 1_500_000
RATE = 500_000
LOST_BYTES_MAX = 2 * 8 * 32_768
"""What two interruptions may cost: a full window each."""


def publish(folder: Path) -> tuple[Path, Desired]:
    """Make a release that takes some seconds at ``RATE``, and the order for it."""
    tree = make_tree(folder, "1.0.0", application=QUICK_APPLICATION)
    (tree / "models" / "model.bin").write_bytes(random.Random(5).randbytes(MODEL_BYTES))
    built = build_release(
        tree, release="app-1.0.0", version="1.0.0", release_counter=100, command=COMMAND, key=RELEASE_KEY
    )
    store = ReleaseStore(folder / "store")
    store.publish(built)
    stored = store.get("app-1.0.0")
    assert stored is not None
    manifest, artifact = stored.by_arch[built.manifest.artifact.arch].references((MQTT_BASE,))
    return folder / "store", Desired(
        generation=1, epoch=1, rollout="r-1", wave="canary", action="install", release="app-1.0.0", version="1.0.0",
        manifest=manifest, artifact=artifact, health_check=CHECK, min_ready_seconds=0.3,
        progress_deadline_seconds=15.0, commit_on="local_health",
    )  # fmt: skip


def listen_again(orchestrator: Orchestrator) -> None:
    """Have it hear of the fleet also from a broker that knows nothing of it any more."""

    def subscribe(*_: object) -> None:
        orchestrator.client.subscribe("fleet/v1/#", qos=1)

    orchestrator.client.on_connect = subscribe


def test_a_fetch_survives_the_loss_of_the_server_the_broker_and_the_agent_without_asking_twice(tmp_path: Path) -> None:
    store, order = publish(tmp_path)
    given = 0

    def at(share: float, fetched: Callable[[], int]) -> None:
        until(lambda: given + fetched() > share * MODEL_BYTES)

    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        port = first.enter_context(broker())
        agent = AgentProcess(tmp_path, f"mqtt://127.0.0.1:{port}", transports=["mqtt"])
        stack.callback(agent.close)
        agent.start()
        orchestrator = Orchestrator(port, "pi-1")
        stack.callback(orchestrator.close)
        listen_again(orchestrator)
        with giving(store, BrokerUrl("127.0.0.1", port), bytes_per_second=RATE) as server:
            orchestrator.order(order)
            at(0.3, lambda: server.counts.piece_bytes)
        given += server.counts.piece_bytes

        first.close()  # the broker is killed
        stack.enter_context(broker(port))
        with giving(store, BrokerUrl("127.0.0.1", port), bytes_per_second=RATE) as server:
            at(0.7, lambda: server.counts.piece_bytes)
            agent.kill()
            agent.start()
            orchestrator.until_reported("idle", 1)
            given += server.counts.piece_bytes

        assert agent.ask()["version"] == "1.0.0"
    told = next(line for line in agent.log.read_text().splitlines()[::-1] if "chunks.complete" in line)
    origins = {origin: int(count) for origin, count in re.findall(r"(\S+)=(\d+)", told)}
    assert set(origins) == {"staging", MQTT_BASE, "carried"}
    assert origins["staging"] > MODEL_BYTES // 3
    assert MODEL_BYTES < given < MODEL_BYTES * 1.02 + LOST_BYTES_MAX
