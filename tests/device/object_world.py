"""A release store in an object store that speaks S3, the registry in front of it, and a device that knows HTTP only."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.chunked import Chunked, registries
from device_client.adapters.slots import Slots
from device_client.adapters.transports import Transports
from device_client.adapters.trust import PinnedKeys
from device_client.core.redirects import Redirects
from orchestrator.adapters.object_registry import serve_objects
from orchestrator.adapters.object_releases import publish_release
from orchestrator.adapters.objects import connect
from orchestrator.adapters.releases import BuiltRelease
from tests.device.chunk_world import HURRIED, both_published, source_of
from tests.device.device_driver import unpack_here
from tests.device.device_world import CHECK, RELEASE_KEY, public
from tests.device.server_thread import in_a_thread
from tests.shell.s3_server import BUCKET, S3, s3_server

STORE = f"s3://{BUCKET}/fleet"


@asynccontextmanager
async def registry(url_seconds: float | None) -> AsyncIterator[str]:
    async with serve_objects(connect(STORE), "127.0.0.1", 0, url_seconds=url_seconds) as (url, leads_to):
        assert (leads_to is None) == (url_seconds is None)
        yield url


@dataclass
class ObjectWorld:
    """Both releases in a bucket, and a device in a folder."""

    folder: Path
    s3: S3
    url: str
    redirects: Redirects
    built: dict[str, BuiltRelease] = field(default_factory=lambda: both_published()[1])

    def __post_init__(self) -> None:
        self.slots = Slots(self.folder / "root")
        self.source = source_of(self.built["1.1.0"], self.url)

    @property
    def artifacts(self) -> Artifacts:
        identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
        transports = Transports(redirects=self.redirects)
        chunked = Chunked(self.slots, partial(registries, transports=transports), HURRIED)
        return Artifacts(self.slots, identity, unpack_here, chunked, transports=transports)

    def fetch(self) -> Receipt | None:
        """Bring the release into staging and prove it there."""
        receipt = self.artifacts.fetch(self.source, lambda: False, lambda _: None)
        self.artifacts.verify(self.source)
        return receipt

    def install(self) -> Receipt | None:
        receipt = self.fetch()
        self.artifacts.install(self.source, "green", CHECK)
        return receipt


@cache
def both_sent() -> dict[str, bytes]:
    """Publish both releases once for this process, and return what is in the bucket then."""
    with s3_server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        for built in both_published()[1].values():
            publish_release(connect(STORE), built)
        return s3.objects


@contextmanager
def object_world(
    folder: Path, patch: pytest.MonkeyPatch, *, url_seconds: float | None = 60, is_named: bool = True
) -> Iterator[ObjectWorld]:
    """Publish both releases, and serve them.

    Args:
        folder: Of the device.
        patch: Sets the variables that say where the object store is.
        url_seconds: How long a signed address is good; None: the registry passes on what is there.
        is_named: Whether the device's settings name the object store.
    """
    with s3_server() as s3:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        s3.objects.update(both_sent())
        with in_a_thread(partial(registry, url_seconds)) as url:
            yield ObjectWorld(folder, s3, url, Redirects((s3.url,) if is_named else ()))
