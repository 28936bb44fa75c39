"""Which files of a release a cache should have before devices ask for them."""

from collections.abc import Collection, Iterator, Sequence

from orchestrator.adapters.chunking import CHUNKS
from orchestrator.adapters.content import Item
from orchestrator.adapters.releases import ARTIFACTS, MANIFESTS, ReleaseStore
from orchestrator.adapters.staging import StagedFile
from orchestrator.core.releases import ReleaseError, StoredArtifact, StoredRelease
from schemas.chunks import Chunk, from_stored, read_chunk_list
from schemas.codec import MANIFEST, decode
from schemas.dsse import MANIFEST_TYPE, read_envelope
from schemas.errors import DecodeError, SignatureError
from schemas.manifest import Manifest


def files_of(
    store: ReleaseStore,
    release: StoredRelease,
    archs: Collection[str] = (),
    *,
    since: StoredRelease | None = None,
    with_archive: bool = False,
) -> list[StagedFile]:
    """Return the manifests, and what devices fetch after them: chunks, or where a release has none, the archive.

    Args:
        store: Has the release.
        release: Which one.
        archs: Only for these; none means all.
        since: What the devices run: what it shares with the release they have already.
        with_archive: The archives too, for devices that take no chunks.

    Raises:
        ReleaseError: A file of it is missing or damaged.
    """
    had = {chunk for stored in (since.by_arch.values() if since else ()) for chunk in _chunks(store, stored)}
    found: dict[Item, StagedFile] = {}
    for arch, stored in release.by_arch.items():
        if not archs or arch in archs:
            files = _files(stored, _chunks(store, stored), had, with_archive=with_archive)
            found |= {each.item: each for each in files}
    return list(found.values())


def _files(
    stored: StoredArtifact, chunks: Sequence[Chunk], had: Collection[Chunk], *, with_archive: bool
) -> Iterator[StagedFile]:
    yield StagedFile(Item(MANIFESTS, stored.manifest_sha256), stored.manifest_size_bytes)
    if with_archive or not chunks:
        yield StagedFile(Item(ARTIFACTS, stored.artifact_sha256), stored.artifact_size_bytes)
    yield from (StagedFile(Item(CHUNKS, each.sha256), each.size_bytes) for each in chunks if each not in had)


def _chunks(store: ReleaseStore, stored: StoredArtifact) -> list[Chunk]:
    """Return the chunk list of an artifact and its chunks, in order; nothing if it is in one piece only."""
    try:
        envelope = (store.folder / MANIFESTS / stored.manifest_sha256).read_bytes()
        manifest = decode(Manifest, read_envelope(MANIFEST_TYPE, envelope, MANIFEST).payload, MANIFEST)
        if manifest.chunks is None:
            return []
        said = manifest.chunks.chunk
        chunk_list = from_stored((store.folder / CHUNKS / said.sha256).read_bytes(), said)
        return [said, *(place.chunk for place in read_chunk_list(chunk_list, manifest.unpacked_bytes))]
    except (OSError, SignatureError, DecodeError) as error:
        raise ReleaseError(f"{store.folder}: {error}; publish the release again") from error
