"""A release in one file, on its way between those who build, sign and publish it.

::

    manifest.json     the envelope, with the signatures that it has so far
    artifact          the archive, in the form that the manifest names
    chunks            how its content is cut, where the manifest says so

The same contents give the same bytes. Nothing about it is trusted before it is verified.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.adapters.durable import write_durably
from orchestrator.adapters.releases import BuiltRelease
from orchestrator.core.releases import ReleaseError
from schemas.chunks import name_chunk
from schemas.codec import MANIFEST, decode
from schemas.dsse import MANIFEST_TYPE, read_envelope
from schemas.errors import DecodeError, SignatureError
from schemas.manifest import Manifest

_MANIFEST, _ARTIFACT, _CHUNKS = "manifest.json", "artifact", "chunks"


def write_bundle(path: Path, built: BuiltRelease) -> None:
    """Put ``built`` into the file at ``path``.

    Raises:
        ReleaseError: It cannot be written.
    """
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=tarfile.PAX_FORMAT) as bundle:
        parts = {_MANIFEST: built.envelope, _ARTIFACT: built.artifact}
        if built.manifest.chunks is not None:
            parts[_CHUNKS] = built.chunk_list
        for name, data in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            bundle.addfile(entry, io.BytesIO(data))
    try:
        write_durably(path, buffer.getvalue())
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}; choose a place that is writable") from error


def read_bundle(path: Path) -> BuiltRelease:
    """Return what lies in the file at ``path``; its archive is the one of its manifest, and nothing is verified.

    Raises:
        ReleaseError: It cannot be read, or is no bundle.
    """
    try:
        with tarfile.open(path, mode="r:") as bundle:
            parts = {entry.name: file.read() for entry in bundle if (file := bundle.extractfile(entry)) is not None}
        envelope, artifact = parts[_MANIFEST], parts[_ARTIFACT]
        manifest = decode(Manifest, read_envelope(MANIFEST_TYPE, envelope, MANIFEST).payload, MANIFEST)
    except OSError as error:
        raise ReleaseError(
            f"{path}: {error.strerror}; name a file that `tidegate release build -o` has written"
        ) from error
    except (tarfile.TarError, KeyError, SignatureError, DecodeError) as error:
        remedy = "name a file that `tidegate release build -o` has written"
        raise ReleaseError(f"{path}: no release in a file: {error}; {remedy}") from error
    if (len(artifact), hashlib.sha256(artifact).hexdigest()) != (
        manifest.artifact.size_bytes,
        manifest.artifact.sha256,
    ):
        raise ReleaseError(f"{path}: its archive is not the one of its manifest; build it again")
    chunk_list = parts.get(_CHUNKS, b"")
    if manifest.chunks is not None and name_chunk(chunk_list) != manifest.chunks.chunk:
        raise ReleaseError(f"{path}: its chunk list is not the one of its manifest; build it again")
    return BuiltRelease(manifest, envelope, artifact, chunk_list)


def resign(path: Path, sign: Callable[[bytes], bytes]) -> BuiltRelease:
    """Replace the envelope in the file at ``path`` by what ``sign`` makes of it, and return the whole.

    Raises:
        ReleaseError: As for reading and writing.
    """
    built = read_bundle(path)
    signed = replace(built, envelope=sign(built.envelope))
    write_bundle(path, signed)
    return signed
