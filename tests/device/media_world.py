"""Media as they are exported, and a device that reads them: real files and proofs, a core on a bench around them."""

import base64
import json
import shutil
import threading
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunked import Chunked
from device_client.adapters.media import Media
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys, Trusted
from device_client.adapters.worker import Worker
from device_client.core.effects import Fetch, Install, LogMedia, Verify
from device_client.core.events import Event, StepSucceeded
from device_client.core.setup import Setup
from orchestrator.adapters.media import write_order, write_release
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore
from orchestrator.core.releases import StoredRelease
from schemas.media import MediaOrder, MediaTarget
from schemas.times import format_timestamp
from tests.device.chunk_world import FILES, HURRIED, both_published, source_of
from tests.device.device_bench import CHECK, Bench
from tests.device.device_driver import unpack_here
from tests.device.device_world import COMMAND_KEY, RELEASE_KEY, public
from tests.device.media_bench import MADE_AT

PINNED = PinnedKeys((public(RELEASE_KEY),), (public(COMMAND_KEY),))


class DiskBench(Bench):
    """A bench on which releases are fetched, proven and installed for good."""

    worker: Worker

    def answer(self, effect: Any) -> list[Event]:  # noqa: ANN401 - any effect that is a step
        if not isinstance(effect, Fetch | Verify | Install):
            return super().answer(effect)
        event = self.worker.attempt(effect, None, threading.Event())
        assert event is not None
        if isinstance(effect, Install) and isinstance(event, StepSucceeded):
            assert event.content is not None
            self.disk[effect.slot] = event.content
        return [event]


class MediaWorld:
    """A store with 1.0.0, which serves on the device, and 1.1.0; and a stick.

    Args:
        folder: For everything.
        trust: Whose word counts on the device.
        pattern: Where it looks, below ``folder``.
    """

    def __init__(self, folder: Path, trust: Trusted = PINNED, pattern: str = "stick") -> None:
        published, built = both_published()
        self.folder, self.fleet, self.stick = folder, folder / "fleet", folder / "stick"
        self.fleet.mkdir()
        self.store = ReleaseStore(self.fleet / "releases")
        shutil.copytree(published, self.store.folder)
        self.built = dict(built)
        self.slots = Slots(folder / "root")
        self.media = Media(str(folder / pattern), trust)
        identity = Identity("aarch64", "pi4", trust)
        chunked = Chunked(self.slots, self.media.chunk_sources, HURRIED)
        artifacts = Artifacts(self.slots, identity, unpack_here, chunked, media=self.media)
        self.bench = DiskBench(setup=Setup(group="vision", arch="aarch64"), root=trust.root)
        self.bench.worker = Worker(self.slots, artifacts, cast("Any", None), post=lambda _: None)
        self._provision(artifacts)

    def _provision(self, artifacts: Artifacts) -> None:
        built = self.built["1.0.0"]
        source = source_of(built)
        (self.folder / "manifest").write_bytes(built.envelope)
        (self.folder / "archive").write_bytes(built.artifact)
        artifacts.stage(source, self.folder / "manifest", self.folder / "archive")
        self.bench.disk = {"blue": artifacts.install(source, "blue", CHECK)}
        self.slots.switch("blue")
        self.slots.clear_staging()
        self.bench.start(connected=False)

    def stored(self, version: str = "1.1.0") -> StoredRelease:
        stored = self.store.get(f"app-{version}")
        assert stored is not None
        return stored

    def publish(self, built: BuiltRelease) -> BuiltRelease:
        self.store.publish(built)
        self.built[built.manifest.target_version] = built
        return built

    def make_order(self, number: int = 10, of: str = "1.1.0", **changes: Any) -> MediaOrder:  # noqa: ANN401 - any field
        stored = self.stored(of)
        values: dict[str, Any] = {
            "number": number,
            "made_at": format_timestamp(MADE_AT),
            "not_after": format_timestamp(MADE_AT + 30 * 86400),
            "devices": ("pi-1",),
            "groups": (),
            "release": stored.release,
            "version": stored.version,
            "targets": tuple(
                MediaTarget(
                    arch=each.arch,
                    manifest_sha256=each.manifest_sha256,
                    manifest_size_bytes=each.manifest_size_bytes,
                    artifact_sha256=each.artifact_sha256,
                    artifact_size_bytes=each.artifact_size_bytes,
                )
                for each in stored.by_arch.values()
            ),
            "strategy": "blue_green",
            "health_check": CHECK,
            "min_ready_seconds": 0.1,
            "progress_deadline_seconds": 300.0,
        }
        return MediaOrder(**{**values, **changes})

    def export(
        self, number: int = 10, of: str = "1.1.0", *, key: Ed25519PrivateKey = COMMAND_KEY,
        roots: bytes | None = None, **changes: Any,  # noqa: ANN401 - any field of the order
    ) -> Path:  # fmt: skip
        """Write a stick and return where its order is."""
        write_release(self.stick, self.store, self.stored(of))
        write_order(self.stick, self.fleet, self.make_order(number, of, **changes), key, roots)
        return self.stick / "orders" / f"{number}.json"

    def look(self, clock: float = MADE_AT + 60) -> None:
        """Let the device look at its media and do what follows."""
        for event in self.media.look(clock):
            self.bench.send(event)

    def settle(self) -> None:
        """Let a trial pass."""
        self.bench.probe_for(90)

    def refused(self) -> list[str]:
        return [each.code for each in self.bench.all(LogMedia) if each.is_refused]

    def serves(self, version: str) -> bool:
        """Say whether the active slot is whole and holds exactly the files of ``version``."""
        slot = self.bench.link
        assert slot is not None
        self.slots.check(slot)
        folder = self.slots.folder(slot)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        ours = {path: file.read_bytes() for path, file in found.items() if not path.startswith(".")}
        return ours == FILES[version]


def tampered(order: Path, changes: dict[str, Any]) -> None:
    """Change what an order says and leave its signature as it is."""
    envelope = json.loads(order.read_bytes())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    envelope["payload"] = base64.b64encode(json.dumps({**payload, **changes}).encode()).decode()
    order.write_text(json.dumps(envelope))
