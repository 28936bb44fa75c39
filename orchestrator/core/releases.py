"""What the orchestrator knows about a release it can roll out: names, sizes and digests for each architecture."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import FleetError
from schemas.ids import Name, Sha256
from schemas.manifest import NOARCH
from schemas.messages import ArtifactRef, ManifestRef

Bytes = Annotated[int, Field(ge=0, lt=2**53)]


class ReleaseError(FleetError):
    """The publisher's fault: a tree that cannot be released, or a store that does not hold what was published.

    The text names the file and the remedy.
    """


class StoredArtifact(BaseModel):
    """The signed manifest and the archive of one architecture.

    Attributes:
        manifest_sha256: Digest of the envelope, which is its name.
        manifest_size_bytes: Size of the envelope.
        artifact_sha256: Digest of the archive.
        artifact_size_bytes: Size of the archive as it travels.
        arch: What it runs on; ``noarch`` runs anywhere.
        unpacked_bytes: What its files take on a device.
        device_types: Types that may install it; empty means any.
        allowed_from: Versions that it may replace; empty means any.
        needs: What a device must take that announces its ``formats``, beside the form of the archive.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)

    manifest_sha256: Sha256
    manifest_size_bytes: Bytes
    artifact_sha256: Sha256
    artifact_size_bytes: Bytes
    arch: Name
    unpacked_bytes: Bytes
    device_types: Annotated[tuple[Name, ...], Field(strict=False, max_length=256)]
    allowed_from: Annotated[tuple[Name, ...], Field(strict=False, max_length=256)] = ()
    needs: Annotated[tuple[Name, ...], Field(strict=False, max_length=16)] = ()

    def references(self, bases: Sequence[str]) -> tuple[ManifestRef, ArtifactRef]:
        """Say what a device fetches, and where below each of ``bases`` in order, as its ``desired`` names it."""
        manifest = ManifestRef(
            sha256=self.manifest_sha256,
            size_bytes=self.manifest_size_bytes,
            urls=tuple(f"{base}/manifests/{self.manifest_sha256}" for base in bases),
        )
        artifact = ArtifactRef(
            sha256=self.artifact_sha256,
            size_bytes=self.artifact_size_bytes,
            arch=self.arch,
            sources=tuple(f"{base}/artifacts/{self.artifact_sha256}" for base in bases),
        )
        return manifest, artifact


class StoredRelease(BaseModel):
    """A release that is ready to be fetched, with one artifact for each architecture it supports."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)

    release: Name
    version: Name
    release_counter: Annotated[int, Field(ge=0, lt=2**53)]
    by_arch: Annotated[Mapping[str, StoredArtifact], Field(min_length=1, max_length=64)]

    def artifact_for(self, arch: str) -> StoredArtifact | None:
        """Return what a device of ``arch`` shall install: its own, else the one for all, else None."""
        return self.by_arch.get(arch) or self.by_arch.get(NOARCH)
