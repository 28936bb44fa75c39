"""What is addressed by its digest, folder by folder: how it is sent, and how it is proven to be what its name says.

This is the one list of such folders: whoever serves or keeps them takes it from here.
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from orchestrator.adapters.chunking import CHUNKS
from orchestrator.adapters.releases import ARTIFACTS, MANIFESTS

CHUNK_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of a chunk, or of the list of a release's chunks, as it is and as it travels."""
_MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024
_INFLATED_AT_ONCE_BYTES: Final = 64 * 1024
_BLOCK_BYTES: Final = 1024 * 1024
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class Proof(Protocol):
    """Takes in bytes in order, and then says whether they are what a digest names; in bounded memory."""

    def update(self, block: bytes, /) -> None:
        """Take in what follows."""

    def is_of(self, sha256: str) -> bool:
        """Say whether all of it is what ``sha256`` names."""


class BytesProof:
    """The name is the digest of the very bytes."""

    def __init__(self) -> None:
        self._seen = hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Take in what follows."""
        self._seen.update(block)

    def is_of(self, sha256: str) -> bool:
        """Say whether all of it is what ``sha256`` names."""
        return self._seen.hexdigest() == sha256


class ChunkProof:
    """The name is the digest of what the bytes are, or of what they are once inflated, if that is more."""

    def __init__(self) -> None:
        self._plain = BytesProof()
        self._content = BytesProof()
        self._inflating: zlib._Decompress | None = zlib.decompressobj()
        self._plain_bytes = self._content_bytes = 0

    def update(self, block: bytes) -> None:
        """Take in what follows; it is inflated no further than a chunk may be long."""
        self._plain.update(block)
        self._plain_bytes += len(block)
        pending = block
        while pending and self._inflating is not None:
            try:
                content = self._inflating.decompress(pending, _INFLATED_AT_ONCE_BYTES)
            except zlib.error:
                self._inflating = None
                return
            self._content.update(content)
            self._content_bytes += len(content)
            pending = self._inflating.unconsumed_tail
            if self._content_bytes > CHUNK_BYTES_MAX or self._inflating.unused_data:
                self._inflating = None

    def is_of(self, sha256: str) -> bool:
        """Say whether all of it is what ``sha256`` names."""
        if self._plain.is_of(sha256):
            return True
        is_deflated = self._inflating is not None and self._inflating.eof and self._plain_bytes < self._content_bytes
        return is_deflated and self._content.is_of(sha256)


@dataclass(frozen=True, slots=True)
class Kind:
    """What lies in one folder.

    Attributes:
        media_type: As which it is sent.
        proof: Begins to prove what comes.
        bytes_max: Nothing in it is larger; None where the disk is the limit.
    """

    media_type: str
    proof: Callable[[], Proof]
    bytes_max: int | None = None


KINDS: Final[Mapping[str, Kind]] = {
    MANIFESTS: Kind("application/json", BytesProof, _MANIFEST_BYTES_MAX),
    ARTIFACTS: Kind("application/gzip", BytesProof),
    CHUNKS: Kind("application/octet-stream", ChunkProof, CHUNK_BYTES_MAX),
}
"""By folder; it stands below the base address of a registry, and below the folder of a store, under the same name."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is addressed by its digest."""

    folder: str
    sha256: str

    def __str__(self) -> str:
        """Return where it is, below any base."""
        return f"{self.folder}/{self.sha256}"

    @property
    def kind(self) -> Kind:
        """What is said of its folder."""
        return KINDS[self.folder]

    def is_at(self, path: Path) -> bool:
        """Read a file and say whether it is this.

        Raises:
            OSError: It cannot be read.
        """
        proof = self.kind.proof()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                proof.update(block)
        return proof.is_of(self.sha256)


def item_at(folder: str, sha256: str) -> Item | None:
    """Return what a path of two parts names; None if that is nothing."""
    return Item(folder, sha256) if folder in KINDS and _DIGEST.fullmatch(sha256) else None
