"""A real agent, the registry and a store: what a device fetches when a part of its release changes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from device_client.adapters.slots import Slots
from orchestrator.adapters.registry import serve_registry
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from schemas.chunks import read_chunk_list
from schemas.codec import decode
from schemas.messages import Desired, Info, Reported
from schemas.topics import Kind
from tests.device.chunk_world import MODEL, TEXT
from tests.device.device_world import (
    CHECK,
    COMMAND,
    COUNTERS,
    QUICK_APPLICATION,
    RELEASE_KEY,
    AgentProcess,
    Orchestrator,
    broker,
    make_tree,
)
from tests.device.server_thread import in_a_thread


class World:
    """A fleet of one, and a store of releases with a large model."""

    def __init__(self, folder: Path, port: int, url: str) -> None:
        self.folder, self.url = folder, url
        self.agent = AgentProcess(folder, f"mqtt://127.0.0.1:{port}")
        self.orchestrator = Orchestrator(port, "pi-1")
        self.store = ReleaseStore(folder / "store")
        self.generation = 0

    def publish(self, version: str, model: bytes) -> BuiltRelease:
        tree = make_tree(self.folder, version, application=QUICK_APPLICATION)
        (tree / "models" / "model.bin").write_bytes(model)
        built = build_release(
            tree, release=f"app-{version}", version=version, release_counter=COUNTERS[version], command=COMMAND,
            key=RELEASE_KEY,
        )  # fmt: skip
        self.store.publish(built)
        return built

    def install(self, built: BuiltRelease) -> Reported:
        self.generation += 1
        manifest = built.manifest
        stored = self.store.get(manifest.release)
        assert stored is not None
        manifest_ref, artifact_ref = stored.by_arch[manifest.artifact.arch].references((self.url,))
        self.orchestrator.order(
            Desired(
                generation=self.generation, epoch=1, rollout="r-1", wave="canary", action="install",
                release=manifest.release, version=manifest.target_version, manifest=manifest_ref,
                artifact=artifact_ref, health_check=CHECK, min_ready_seconds=0.3, progress_deadline_seconds=15.0,
                commit_on="local_health",
            )
        )  # fmt: skip
        return self.orchestrator.until_reported("idle", self.generation)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with broker() as port, in_a_thread(partial(serve_registry, tmp_path / "store", "127.0.0.1", 0)) as url:
        made = World(tmp_path, port, url)
        try:
            made.agent.start()
            yield made
        finally:
            made.orchestrator.close()
            made.agent.close()


def test_device_fetches_only_the_chunks_that_changed(world: World) -> None:
    old = world.publish("1.0.0", MODEL + TEXT)
    world.install(old)
    new = world.publish("1.1.0", MODEL[:800_000] + b"something new" + MODEL[800_000:] + TEXT)
    shared = take_away_what_both_have(world, old, new)
    (world.folder / "store" / "artifacts" / new.manifest.artifact.sha256).unlink()
    assert len(shared) > 10

    committed = world.install(new)

    assert (committed.installed_version, committed.error) == ("1.1.0", None)
    slots = Slots(world.agent.root)
    active = slots.active()
    assert active is not None
    assert slots.check(active).version == "1.1.0"
    told = next(line for line in world.agent.log.read_text().splitlines()[::-1] if "chunks.complete" in line)
    assert "blue=" in told
    assert world.url in told


def take_away_what_both_have(world: World, *both: BuiltRelease) -> set[str]:
    """Remove from the store every chunk that the device has, and return their names."""
    old, new = (
        {each.chunk.sha256 for each in read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes)}
        for built in both
    )
    for name in old & new:
        (world.folder / "store" / "chunks" / name).unlink()
    return old & new


def test_device_announces_that_it_takes_chunks(world: World) -> None:
    world.install(world.publish("1.0.0", MODEL))

    said = world.orchestrator.last_of(Kind.INFO)
    assert said is not None
    assert "chunks" in decode(Info, said).formats
