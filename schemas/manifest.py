"""The manifest: the signed description of a release's bytes for one architecture.

It travels as a DSSE envelope, named by the SHA-256 of that envelope. Whoever holds the artifact and the manifest can
check everything without asking anybody: size, digest, every file with its digest, version, architecture, device type.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schemas.chunks import CHUNK_LIST_BYTES_MAX, Chunk
from schemas.ids import Name, Sha256

SLOT_FOLDERS: Final = ("app", "models", "config")
"""What a slot holds beside its ``.version``."""
_SEGMENT: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
PATH_DEPTH_MAX: Final = 16
Format = Literal["tar.gz", "tar", "tar.zst"]
"""How an archive is compressed; zstd is optional for devices."""
CHUNKS: Final = "chunks"
"""Beside the formats, what a device announces that takes manifests with chunks; one that does not refuses them."""
NOARCH: Final = "noarch"
"""The architecture of an artifact that runs anywhere."""

ArtifactPath = Annotated[str, Field(max_length=512)]


class _Signed(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class FileEntry(_Signed):
    """One regular file of the artifact, in the order in which it stands in the archive."""

    path: ArtifactPath
    size_bytes: Annotated[int, Field(ge=0, lt=2**53)]
    mode: Literal[0o644, 0o755]
    sha256: Sha256


class Artifact(_Signed):
    """The archive as it travels."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0, lt=2**53)]
    arch: Name
    format: Format = "tar.gz"


class ChunkList(_Signed):
    """The document that says how the content is cut; see ``schemas.chunks``."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0, le=CHUNK_LIST_BYTES_MAX)]

    @property
    def chunk(self) -> Chunk:
        """The name under which it is had from where chunks are."""
        return Chunk(self.sha256, self.size_bytes)


class Manifest(_Signed):
    """What a release key vouches for.

    Attributes:
        release: Name of the release, application and version.
        target_version: The version that the application must report once it runs.
        release_counter: Grows with every release of the application; a device never installs a lower one.
        artifact: The archive.
        files: Every file in it, in archive order; nothing else may be in it.
        command: Started in the slot's folder; ``{port}`` stands for the port to listen on. Never passed to a shell.
        device_types: Types that may install it; empty means any.
        allowed_from: Versions that may be replaced by it; empty means any, and whatever serves nothing has none.
        chunks: How its files can be had in pieces; None where there is only the archive. It is not written then, so
            that devices that do not know it take the manifest.
    """

    release: Name
    target_version: Name
    release_counter: Annotated[int, Field(ge=0, lt=2**53)]
    artifact: Artifact
    files: Annotated[tuple[FileEntry, ...], Field(strict=False, min_length=1, max_length=20_000)]
    command: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=64)]
    device_types: Annotated[tuple[Name, ...], Field(strict=False, max_length=256)] = ()
    allowed_from: Annotated[tuple[Name, ...], Field(strict=False, max_length=256)] = ()
    chunks: ChunkList | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = dump(self)
        if self.chunks is None:
            tree.pop("chunks", None)
        return tree

    @model_validator(mode="after")
    def _paths_are_safe_and_unique(self) -> Self:
        paths = [entry.path for entry in self.files]
        for path in paths:
            check_artifact_path(path)
        folded = {path.casefold() for path in paths}
        if len(folded) != len(paths):
            raise ValueError("two files share a path, or differ only in case")
        within = next((path for path in paths if not folded.isdisjoint(_folders(path.casefold()))), None)
        if within is not None:
            raise ValueError(f"{within[:80]!r} lies in what is a file itself")
        return self

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that all files take together."""
        return sum(entry.size_bytes for entry in self.files)


def _folders(path: str) -> Iterator[str]:
    return (path[:index] for index, letter in enumerate(path) if letter == "/")


def check_artifact_path(path: str) -> None:
    """Accept only relative paths of plain segments below app/, models/ or config/.

    Raises:
        ValueError: Absolute, with ``..``, control characters, too deep, or outside the three folders.
    """
    segments = path.split("/")
    if segments[0] not in SLOT_FOLDERS or len(segments) == 1:
        raise ValueError(f"{path[:80]!r} is not below {', '.join(SLOT_FOLDERS)}")
    if len(segments) > PATH_DEPTH_MAX or not all(map(_SEGMENT.fullmatch, segments)):
        raise ValueError(f"{path[:80]!r}: at most {PATH_DEPTH_MAX} segments of A-Z a-z 0-9 . _ -, none of them . or ..")
