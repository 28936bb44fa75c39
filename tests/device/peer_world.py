"""A site: devices with peer servers of their own, told of each other as over the bus, and a registry that counts."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.chunked import Chunked, registries_and
from device_client.adapters.peer_server import PeerLimits, PeerServer
from device_client.adapters.peers import Neighbours
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys
from device_client.core.effects import Source
from orchestrator.adapters.releases import BuiltRelease
from schemas.messages import ArtifactPeers, ArtifactRef, PeersDocument, PeersRef
from schemas.peers import PEERS_MAX, site_key
from tests.device.chunk_world import HURRIED, Exchange, Registry, source_of
from tests.device.device_driver import unpack_here
from tests.device.device_world import CHECK, RELEASE_KEY, public

SITE = "plant-7"
KEY = site_key(SITE)


def with_peers(source: Source, *, wait_seconds: float = 0.0, rank: int = 0) -> Source:
    """Return the order that says that devices of the site give each other what they have."""
    peers = PeersRef(key=KEY, rank=rank, wait_seconds=wait_seconds)
    artifact = ArtifactRef(**{**source.artifact.model_dump(), "peers": peers})
    return Source(source.manifest, artifact, source.release, source.version, 0)


def told(sha256: str, *urls: str) -> PeersDocument:
    return PeersDocument(site=SITE, artifacts=(ArtifactPeers(sha256=sha256, urls=urls),))


def lie(exchange: Exchange) -> bool:
    """Answer whatever is asked for with other bytes."""
    exchange.say(200, b"!" * 99)
    return True


@dataclass
class Device:
    """One device of the site, with all that fetches, gives and installs there, and no agent around it."""

    folder: Path
    limits: PeerLimits = field(default_factory=PeerLimits)
    gives: bool = True

    def __post_init__(self) -> None:
        self.slots = Slots(self.folder)
        self.distrusted: list[tuple[str, str]] = []
        self.server = PeerServer(self.slots, "127.0.0.1", 0, self.limits)
        self.url: str | None = None
        if self.gives:
            self.server.start()
            until(lambda: self.server.port is not None)
            self.url = f"http://127.0.0.1:{self.server.port}"
        self.neighbours = Neighbours(self.url, lambda url, reason: self.distrusted.append((url, reason)))

    @property
    def artifacts(self) -> Artifacts:
        identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
        chunked = Chunked(self.slots, registries_and(self.neighbours.sources), HURRIED)
        return Artifacts(self.slots, identity, unpack_here, chunked)

    def hear(self, document: PeersDocument | None) -> None:
        """Hear what the bus says of the neighbours, as somebody who listens already."""
        self.neighbours.key = KEY
        self.neighbours.learn(KEY, document)

    def install(self, source: Source) -> Receipt | None:
        receipt = self.artifacts.fetch(source, lambda: False, lambda _: None)
        self.artifacts.verify(source)
        self.artifacts.install(source, "green", CHECK)
        self.slots.clear_staging()
        return receipt

    def close(self) -> None:
        if self.gives:
            self.server.end()


@dataclass
class Plant:
    """All devices of a site, and what the orchestrator would tell them of each other."""

    registry: Registry
    built: BuiltRelease
    having: list[str] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def source(self, *, wait_seconds: float) -> Source:
        return with_peers(source_of(self.built, self.registry.url), wait_seconds=wait_seconds)

    def has_it(self, url: str | None) -> None:
        """Tell everybody that one more has it."""
        with self.guard:
            if url is not None:
                self.having.append(url)
            document = told(self.built.manifest.artifact.sha256, *self.having[:PEERS_MAX])
            for device in self.devices:
                device.hear(document)


@contextmanager
def devices(folder: Path, count: int, **how: object) -> Iterator[list[Device]]:
    made = [Device(folder / f"device-{number}", **how) for number in range(count)]  # type: ignore[arg-type]  # as the caller wants them
    try:
        yield made
    finally:
        with ThreadPoolExecutor(max(1, len(made))) as pool:
            list(pool.map(Device.close, made))


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it has not happened in time"
        time.sleep(0.01)
