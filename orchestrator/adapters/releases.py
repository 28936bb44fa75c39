"""Releases: a folder of files becomes a signed, reproducible archive, and the store keeps what was published.

The store is content-addressed, so a file never changes once it is there, and a release's index is the only thing that
is ever replaced::

    manifests/<sha256>       the signed envelope
    artifacts/<sha256>       the archive
    chunks/<sha256>          the same in pieces, and the lists of them; releases share what is the same in them
    releases/<release>.json  which of them belong to the release, for each architecture
"""

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from orchestrator.adapters.chunking import CHUNKS, keep_chunks, list_chunks
from orchestrator.adapters.durable import write_durably
from orchestrator.adapters.packing import compress, content_of, list_files, pack, read_file
from orchestrator.adapters.trust import ReleaseTrust
from orchestrator.core.releases import ReleaseError, StoredArtifact, StoredRelease
from schemas.chunks import from_stored
from schemas.codec import MANIFEST, MESSAGE, decode, encode
from schemas.dsse import MANIFEST_TYPE, add_signature, read_envelope, write_envelope
from schemas.errors import DecodeError, SignatureError
from schemas.ids import NAME_PATTERN
from schemas.manifest import CHUNKS as NEEDS_CHUNKS
from schemas.manifest import NOARCH, Artifact, FileEntry, Format, Manifest

MANIFESTS: Final = "manifests"
ARTIFACTS: Final = "artifacts"
INDEXES: Final = "releases"


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """One architecture of a release, ready to be signed or published.

    Attributes:
        manifest: What the envelope holds.
        envelope: The manifest with the signatures that it has so far, named by its SHA-256.
        artifact: The archive.
        chunk_list: How its content is cut; empty where the manifest names none.
    """

    manifest: Manifest
    envelope: bytes
    artifact: bytes
    chunk_list: bytes = b""


def build_release(
    tree: Path,
    *,
    release: str,
    version: str,
    release_counter: int,
    command: Sequence[str],
    key: Ed25519PrivateKey | None,
    arch: str = NOARCH,
    device_types: Sequence[str] = (),
    form: Format = "tar.gz",
    allowed_from: Sequence[str] = (),
    chunked: bool = True,
) -> BuiltRelease:
    """Pack and sign the regular files below app/, models/ and config/ of ``tree``.

    The same files give the same bytes: sorted by path, without times and owners, modes 0644 or 0755. Empty folders are
    left out. Archive and files are held in memory.

    Args:
        tree: Holds the folders app, models and config, and nothing else.
        release: Name of the release, for example ``vision-app-2.4.0``.
        version: What the application reports once it runs.
        release_counter: Higher than that of every earlier release of this application.
        command: Started in the slot's folder, without a shell; ``{port}`` becomes the port to listen on.
        key: The release key; None leaves it unsigned, for keys that are elsewhere.
        arch: What it runs on.
        device_types: Types that may install it; empty means any.
        form: How the archive is compressed; ``tar.zst`` needs ``zstandard``, here and on the devices.
        allowed_from: Versions that it may replace; empty means any.
        chunked: Whether devices may fetch it in pieces; agents that do not announce ``chunks`` refuse it then.

    Raises:
        ReleaseError: The tree or a value cannot be released; the publisher's fault.
    """
    contents = [(path, *read_file(tree / path)) for path in list_files(tree)]
    archive = compress(pack(tree, contents), form)
    chunks, chunk_list = list_chunks(b"".join(data for _, _, data in contents)) if chunked else (None, b"")
    try:
        manifest = Manifest(
            release=release,
            target_version=version,
            release_counter=release_counter,
            artifact=Artifact(sha256=_sha256(archive), size_bytes=len(archive), arch=arch, format=form),
            files=tuple(
                FileEntry(path=path, size_bytes=len(data), mode=mode, sha256=_sha256(data))
                for path, mode, data in contents
            ),
            command=tuple(command),
            device_types=tuple(device_types),
            allowed_from=tuple(allowed_from),
            chunks=chunks,
        )
    except ValidationError as error:
        raise ReleaseError(f"{tree}: {_first(error)}; correct it and build again") from error
    envelope = write_envelope(MANIFEST_TYPE, encode(manifest), ())
    try:
        if key is not None:
            envelope = add_signature(envelope, MANIFEST_TYPE, key, MANIFEST)
        decode(Manifest, read_envelope(MANIFEST_TYPE, envelope, MANIFEST).payload, MANIFEST)
    except (SignatureError, DecodeError) as error:
        raise ReleaseError(f"{tree}: no device would take the manifest: {error}; release fewer files") from error
    return BuiltRelease(manifest, envelope, archive, chunk_list)


class ReleaseStore:
    """What was published, in a folder on disk.

    Args:
        folder: Where it is; made when something is published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, built: BuiltRelease) -> StoredRelease:
        """Keep ``built`` and return its release with all architectures published so far.

        Doing it twice changes nothing, and a crash leaves the release as it was or as it shall be.

        Raises:
            ReleaseError: The name is taken by other bytes, or the folder cannot be written.
        """
        try:
            with self._locked():
                stored = self._merge(built)
                artifact = stored.by_arch[built.manifest.artifact.arch]
                self._keep_chunks(built)
                write_durably(self.folder / ARTIFACTS / artifact.artifact_sha256, built.artifact)
                write_durably(self.folder / MANIFESTS / artifact.manifest_sha256, built.envelope)
                write_durably(self._index_path(stored.release), write_index(stored))
                return stored
        except OSError as error:
            raise ReleaseError(f"{self.folder}: {error}; make it writable and free some space") from error

    def _keep_chunks(self, built: BuiltRelease) -> None:
        chunks = built.manifest.chunks
        if chunks is not None:
            content = content_of(built.artifact, built.manifest.artifact.format)
            keep_chunks(self.folder / CHUNKS, chunks, built.chunk_list, content)

    def get(self, release: str) -> StoredRelease | None:
        """Return what was published as ``release``, or None.

        Raises:
            ReleaseError: Its index is damaged.
        """
        if re.fullmatch(NAME_PATTERN, release) is None:
            return None  # before it becomes part of a path
        path = self._index_path(release)
        try:
            return read_index(path.read_bytes(), release, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReleaseError(f"{path}: {error}; publish {release} again after removing it") from error

    def names(self) -> tuple[str, ...]:
        """Return the names of all releases, sorted."""
        return tuple(sorted(path.stem for path in (self.folder / INDEXES).glob("*.json")))

    def load(self, release: str) -> list[BuiltRelease]:
        """Return what was published as ``release``, each architecture with all its bytes.

        Raises:
            ReleaseError: There is none, or a file is missing or damaged.
        """
        stored = self.get(release)
        if stored is None:
            raise ReleaseError(
                f"no release {release[:80]!r} in {self.folder}; there are: {', '.join(self.names()) or 'none'}"
            )
        try:
            return [self._load(each) for each in stored.by_arch.values()]
        except (OSError, SignatureError, DecodeError) as error:
            raise ReleaseError(f"{self.folder}: {error}; publish {release} again") from error

    def _load(self, stored: StoredArtifact) -> BuiltRelease:
        envelope = (self.folder / MANIFESTS / stored.manifest_sha256).read_bytes()
        manifest = decode(Manifest, read_envelope(MANIFEST_TYPE, envelope, MANIFEST).payload, MANIFEST)
        chunks, chunk_list = manifest.chunks, b""
        if chunks is not None:
            chunk_list = from_stored((self.folder / CHUNKS / chunks.sha256).read_bytes(), chunks.chunk)
        artifact = (self.folder / ARTIFACTS / stored.artifact_sha256).read_bytes()
        return BuiltRelease(manifest, envelope, artifact, chunk_list)

    def verify(self, trust: ReleaseTrust) -> None:
        """Check every release, see ``verify_release``.

        Raises:
            ReleaseError: The first release that does not verify.
        """
        for name in self.names():
            stored = self.get(name)
            if stored is not None:  # else it was removed since it was listed
                self.verify_release(stored, trust)

    def verify_release(self, stored: StoredRelease, trust: ReleaseTrust) -> None:
        """Check that a release is signed and not revoked, and that its index says what the signed manifests say.

        Archives are checked by size; whoever fetches one checks its digest. Chunks are not looked at: a device that
        does not find one takes the archive.

        Raises:
            ReleaseError: It does not verify.
        """
        for arch, artifact in stored.by_arch.items():
            self._verify_artifact(stored, arch, artifact, trust)

    def _verify_artifact(self, stored: StoredRelease, arch: str, artifact: StoredArtifact, trust: ReleaseTrust) -> None:
        manifest_path = self.folder / MANIFESTS / artifact.manifest_sha256
        artifact_path = self.folder / ARTIFACTS / artifact.artifact_sha256
        remedy = f"remove {self._index_path(stored.release)} and publish the release again"
        try:
            envelope = manifest_path.read_bytes()
            artifact_size_bytes = artifact_path.stat().st_size
            manifest = trust.open_manifest(envelope)
        except OSError as error:
            raise ReleaseError(f"{error.filename}: {error.strerror}; {remedy}") from error
        except (SignatureError, DecodeError) as error:
            raise ReleaseError(f"{manifest_path}: {error}; {remedy}") from error
        if _describe(manifest, envelope) != (stored.release, stored.version, stored.release_counter, arch, artifact):
            raise ReleaseError(f"{manifest_path}: differs from what the index says; {remedy}")
        if artifact_size_bytes != artifact.artifact_size_bytes:
            raise ReleaseError(f"{artifact_path}: {artifact_size_bytes} bytes, not the signed size; {remedy}")

    def _merge(self, built: BuiltRelease) -> StoredRelease:
        known = self.get(built.manifest.release)
        before = signed_before(known, built)
        envelope = None if before is None else (self.folder / MANIFESTS / before).read_bytes()
        return merge(known, built, envelope, self._index_path(built.manifest.release))

    def _index_path(self, release: str) -> Path:
        return self.folder / INDEXES / f"{release}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one publisher at a time read and replace an index; the lock ends with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_index(data: bytes, release: str, place: object) -> StoredRelease:
    """Return what an index says.

    Args:
        data: The index.
        release: Which one it is about.
        place: Where it is, for the message.

    Raises:
        ReleaseError: It is damaged, or about another release.
    """
    try:
        stored = decode(StoredRelease, data, MESSAGE)
    except DecodeError as error:
        raise ReleaseError(f"{place}: {error}; publish {release} again after removing it") from error
    if stored.release != release:
        raise ReleaseError(f"{place}: it describes {stored.release}; publish {release} again after removing it")
    return stored


def write_index(stored: StoredRelease) -> bytes:
    """Return an index as it lies in a store."""
    return stored.model_dump_json(indent=1).encode()


def signed_before(known: StoredRelease | None, built: BuiltRelease) -> str | None:
    """Return the name of another manifest that was published for the architecture of ``built``; None if there is none.

    Args:
        known: What was published under its name so far.
        built: What is to be.
    """
    artifact = _describe(built.manifest, built.envelope)[-1]
    there = artifact if known is None else known.by_arch.get(artifact.arch, artifact)
    return None if there == artifact else there.manifest_sha256


def merge(known: StoredRelease | None, built: BuiltRelease, envelope: bytes | None, index: object) -> StoredRelease:
    """Return what is published under a name with ``built`` in it.

    Nothing but signatures may differ from what is there already: keys change, and a release is signed again.

    Args:
        known: What was published under its name so far.
        built: What comes to it.
        envelope: The manifest that ``signed_before`` names.
        index: Where the index is, for the message.

    Raises:
        ReleaseError: The name is taken by other bytes.
    """
    release, version, counter, arch, artifact = _describe(built.manifest, built.envelope)
    stored = known or StoredRelease(release=release, version=version, release_counter=counter, by_arch={arch: artifact})
    payloads = {read_envelope(MANIFEST_TYPE, each, MANIFEST).payload for each in (built.envelope, envelope) if each}
    if (stored.version, stored.release_counter) != (version, counter) or len(payloads) > 1:
        raise ReleaseError(
            f"{index}: {release} is published with other contents, and a release never "
            "changes; give this one a new name and a higher release counter"
        )
    return stored.model_copy(update={"by_arch": {**stored.by_arch, arch: artifact}})


def _describe(manifest: Manifest, envelope: bytes) -> tuple[str, str, int, str, StoredArtifact]:
    """Return what an index says about one signed manifest."""
    artifact = StoredArtifact(
        manifest_sha256=_sha256(envelope),
        manifest_size_bytes=len(envelope),
        artifact_sha256=manifest.artifact.sha256,
        artifact_size_bytes=manifest.artifact.size_bytes,
        arch=manifest.artifact.arch,
        unpacked_bytes=manifest.unpacked_bytes,
        device_types=manifest.device_types,
        allowed_from=manifest.allowed_from,
        needs=() if manifest.chunks is None else (NEEDS_CHUNKS,),
    )
    return manifest.release, manifest.target_version, manifest.release_counter, artifact.arch, artifact


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'manifest'}: {detail['msg']}"
