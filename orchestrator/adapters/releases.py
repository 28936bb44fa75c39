"""Releases: a folder of files becomes a signed, reproducible archive, and the store keeps what was published.

The store is content-addressed, so a file never changes once it is there, and a release's index is the only thing that
is ever replaced::

    manifests/<sha256>       the signed envelope
    artifacts/<sha256>       the archive
    releases/<release>.json  which of them belong to the release, for each architecture
"""

import contextlib
import fcntl
import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, assert_never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from orchestrator.core.releases import StoredArtifact, StoredRelease
from schemas.codec import MANIFEST, MESSAGE, decode, encode
from schemas.dsse import MANIFEST_TYPE, seal, unseal
from schemas.errors import DecodeError, FleetError, SignatureError
from schemas.ids import NAME_PATTERN
from schemas.manifest import NOARCH, SLOT_FOLDERS, Artifact, FileEntry, Format, Manifest, check_artifact_path

MANIFESTS: Final = "manifests"
ARTIFACTS: Final = "artifacts"
INDEXES: Final = "releases"
_EXECUTABLE: Final = 0o111
_ZSTD_LEVEL: Final = 19
"""The highest whose window, 8 MiB, every device takes."""
_Mode = Literal[0o644, 0o755]


class ReleaseError(FleetError):
    """The publisher's fault: a tree that cannot be released, or a store that does not hold what was published.

    The text names the file and the remedy.
    """


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """One architecture of a release, ready to be published.

    Attributes:
        manifest: What the envelope holds.
        envelope: The signed manifest, named by its SHA-256.
        artifact: The archive.
    """

    manifest: Manifest
    envelope: bytes
    artifact: bytes


def build_release(
    tree: Path,
    *,
    release: str,
    version: str,
    release_counter: int,
    command: Sequence[str],
    key: Ed25519PrivateKey,
    arch: str = NOARCH,
    device_types: Sequence[str] = (),
    form: Format = "tar.gz",
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
        key: The release key.
        arch: What it runs on.
        device_types: Types that may install it; empty means any.
        form: How the archive is compressed; ``tar.zst`` needs ``zstandard``, here and on the devices.

    Raises:
        ReleaseError: The tree or a value cannot be released; the publisher's fault.
    """
    contents = [(path, *_read(tree / path)) for path in _list_files(tree)]
    archive = _compress(_pack(tree, contents), form)
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
        )
    except ValidationError as error:
        raise ReleaseError(f"{tree}: {_first(error)}; correct it and build again") from error
    envelope = seal(MANIFEST_TYPE, encode(manifest), key)
    try:
        _open_manifest(envelope, [key.public_key().public_bytes_raw()])
    except (SignatureError, DecodeError) as error:
        raise ReleaseError(f"{tree}: no device would take the manifest: {error}; release fewer files") from error
    return BuiltRelease(manifest, envelope, archive)


def _list_files(tree: Path) -> list[str]:
    """Return the paths of all files below ``tree`` in archive order; refuse what is neither file nor folder."""
    if not tree.is_dir():
        raise ReleaseError(f"{tree} is no folder; name the folder that holds {', '.join(SLOT_FOLDERS)}")
    found: list[str] = []
    for folder, subfolders, names in os.walk(tree, onerror=_refuse_unreadable):
        for name in (*subfolders, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise ReleaseError(f"{path} is a link or a special file; put a regular file there or remove it")
            found.append(path.relative_to(tree).as_posix())
    for relative in found:
        try:
            check_artifact_path(relative)
        except ValueError as error:
            raise ReleaseError(f"{tree / relative}: {error}; move, rename or remove it") from error
    if not found:
        raise ReleaseError(f"{tree} holds no files; put the application below {tree / SLOT_FOLDERS[0]}")
    return sorted(found)


def _refuse_unreadable(error: OSError) -> None:
    raise ReleaseError(f"{error.filename}: {error.strerror}; make it readable") from error


def _read(path: Path) -> tuple[_Mode, bytes]:
    try:
        mode = path.stat().st_mode
        return (0o755 if mode & _EXECUTABLE else 0o644), path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}; make it readable") from error


def _pack(tree: Path, contents: Iterable[tuple[str, _Mode, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=tarfile.USTAR_FORMAT) as archive:
        for path, mode, data in contents:
            entry = tarfile.TarInfo(path)  # a fresh one: regular file, time 0, owner 0 without a name
            entry.size = len(data)
            entry.mode = mode
            try:
                archive.addfile(entry, io.BytesIO(data))
            except ValueError as error:
                raise ReleaseError(f"{tree / path}: {error} for an archive; shorten its path or split it") from error
    return buffer.getvalue()


def _compress(archive: bytes, form: Format) -> bytes:
    match form:
        case "tar":
            return archive
        case "tar.gz":
            buffer = io.BytesIO()
            with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as compressed:
                compressed.write(archive)
            return buffer.getvalue()
        case "tar.zst":
            try:
                import zstandard  # noqa: PLC0415 - it is optional
            except ImportError as error:
                raise ReleaseError("tar.zst needs zstandard; install tidegate[zstd], or take another form") from error
            return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(archive)
        case _:
            assert_never(form)


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
                _write(self.folder / ARTIFACTS / artifact.artifact_sha256, built.artifact)
                _write(self.folder / MANIFESTS / artifact.manifest_sha256, built.envelope)
                _write(self._index_path(stored.release), stored.model_dump_json(indent=1).encode())
                return stored
        except OSError as error:
            raise ReleaseError(f"{self.folder}: {error}; make it writable and free some space") from error

    def get(self, release: str) -> StoredRelease | None:
        """Return what was published as ``release``, or None.

        Raises:
            ReleaseError: Its index is damaged.
        """
        if re.fullmatch(NAME_PATTERN, release) is None:
            return None  # before it becomes part of a path
        path = self._index_path(release)
        try:
            stored = decode(StoredRelease, path.read_bytes(), MESSAGE)
        except FileNotFoundError:
            return None
        except (OSError, DecodeError) as error:
            raise ReleaseError(f"{path}: {error}; publish {release} again after removing it") from error
        if stored.release != release:
            raise ReleaseError(f"{path}: it describes {stored.release}; publish {release} again after removing it")
        return stored

    def names(self) -> tuple[str, ...]:
        """Return the names of all releases, sorted."""
        return tuple(sorted(path.stem for path in (self.folder / INDEXES).glob("*.json")))

    def verify(self, release_keys: Iterable[bytes]) -> None:
        """Check that every release is signed and that its index says what the signed manifests say.

        Archives are checked by size; whoever fetches one checks its digest.

        Args:
            release_keys: Raw public keys that are trusted.

        Raises:
            ReleaseError: The first release that does not verify.
        """
        trusted = tuple(release_keys)
        for name in self.names():
            stored = self.get(name)
            if stored is None:
                continue  # removed since it was listed
            for arch, artifact in stored.by_arch.items():
                self._verify_artifact(stored, arch, artifact, trusted)

    def _verify_artifact(
        self, stored: StoredRelease, arch: str, artifact: StoredArtifact, trusted: Sequence[bytes]
    ) -> None:
        manifest_path = self.folder / MANIFESTS / artifact.manifest_sha256
        artifact_path = self.folder / ARTIFACTS / artifact.artifact_sha256
        remedy = f"remove {self._index_path(stored.release)} and publish the release again"
        try:
            envelope = manifest_path.read_bytes()
            artifact_size_bytes = artifact_path.stat().st_size
            manifest = _open_manifest(envelope, trusted)
        except OSError as error:
            raise ReleaseError(f"{error.filename}: {error.strerror}; {remedy}") from error
        except (SignatureError, DecodeError) as error:
            raise ReleaseError(f"{manifest_path}: {error}; {remedy}") from error
        if _describe(manifest, envelope) != (stored.release, stored.version, stored.release_counter, arch, artifact):
            raise ReleaseError(f"{manifest_path}: differs from what the index says; {remedy}")
        if artifact_size_bytes != artifact.artifact_size_bytes:
            raise ReleaseError(f"{artifact_path}: {artifact_size_bytes} bytes, not the signed size; {remedy}")

    def _merge(self, built: BuiltRelease) -> StoredRelease:
        release, version, counter, arch, artifact = _describe(built.manifest, built.envelope)
        stored = self.get(release) or StoredRelease(
            release=release, version=version, release_counter=counter, by_arch={arch: artifact}
        )
        same_release = (stored.version, stored.release_counter) == (version, counter)
        if not same_release or stored.by_arch.get(arch, artifact) != artifact:
            raise ReleaseError(
                f"{self._index_path(release)}: {release} is published with other contents, and a release never "
                "changes; give this one a new name and a higher release counter"
            )
        return stored.model_copy(update={"by_arch": {**stored.by_arch, arch: artifact}})

    def _index_path(self, release: str) -> Path:
        return self.folder / INDEXES / f"{release}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one publisher at a time read and replace an index; the lock ends with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


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
    )
    return manifest.release, manifest.target_version, manifest.release_counter, artifact.arch, artifact


def _open_manifest(envelope: bytes, trusted: Iterable[bytes]) -> Manifest:
    return decode(Manifest, unseal(MANIFEST_TYPE, envelope, trusted, MANIFEST), MANIFEST)


def _write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a power cut leaves the old file or the new one, never a part."""
    path.parent.mkdir(exist_ok=True)
    pending = path.with_name(f".{path.name}.pending")
    with pending.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'manifest'}: {detail['msg']}"
