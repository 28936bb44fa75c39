"""Publishing a release to an object store, laid out as every release store is.

What it is made of goes first: chunks, their list, the archive, the manifest. The index names all of that and goes last,
so a release is there as a whole or not at all, and doing it again sends what is missing.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from orchestrator.adapters.chunking import CHUNKS, pieces_of
from orchestrator.adapters.object_store import ObjectStoreError
from orchestrator.adapters.objects import Objects
from orchestrator.adapters.packing import content_of
from orchestrator.adapters.releases import (
    ARTIFACTS,
    INDEXES,
    MANIFESTS,
    BuiltRelease,
    merge,
    read_index,
    signed_before,
    write_index,
)
from orchestrator.core.releases import StoredRelease
from schemas.chunks import to_stored

_AT_ONCE: Final = 16
_ATTEMPTS_MAX: Final = 5


@dataclass(slots=True)
class Sent:
    """What publishing took.

    Attributes:
        objects: How many things the release is made of here, without its index.
        sent: How many of them were not there.
        sent_bytes: What these weigh.
    """

    objects: int = 0
    sent: int = 0
    sent_bytes: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def note(self, sent_bytes: int) -> None:
        """Count one thing more, for which so many bytes were sent; from any thread."""
        with self._guard:
            self.objects += 1
            self.sent += sent_bytes > 0
            self.sent_bytes += sent_bytes


@dataclass(frozen=True, slots=True)
class _Part:
    """One thing.

    Attributes:
        is_kept_in: Says whether so many bytes under its name, None for nothing, may be it.
        stored: Gives its bytes, told the same.
    """

    name: str
    is_kept_in: Callable[[int | None], bool]
    stored: Callable[[int | None], bytes]


def publish_release(objects: Objects, built: BuiltRelease) -> Sent:
    """Put ``built`` into an object store, and say what that took.

    Raises:
        ReleaseError: Its name is taken there by other bytes, or it does not fit together.
        ObjectStoreError: The store does not take it; what is there already is gone on from.
    """
    _merged(objects, built)  # before anything is sent
    sent = Sent()
    chunks = built.manifest.chunks
    if chunks is not None:
        content = content_of(built.artifact, built.manifest.artifact.format)
        pieces = pieces_of(chunks, built.chunk_list, content)
        parts = [_Part(f"{CHUNKS}/{each.chunk.sha256}", each.is_kept_in, each.stored) for each in pieces]
        _send_all(objects, parts, sent)
        _send(objects, _whole(f"{CHUNKS}/{chunks.sha256}", to_stored(built.chunk_list)), sent)
    artifact = _merged(objects, built)[0].by_arch[built.manifest.artifact.arch]
    _send(objects, _whole(f"{ARTIFACTS}/{artifact.artifact_sha256}", built.artifact), sent)
    _send(objects, _whole(f"{MANIFESTS}/{artifact.manifest_sha256}", built.envelope), sent)
    for _ in range(_ATTEMPTS_MAX):
        stored, known = _merged(objects, built)
        if objects.replace(_index(stored.release), write_index(stored), known):
            return sent
    raise ObjectStoreError(f"{objects.shown}/{_index(built.manifest.release)}: others write it; publish again")


def _merged(objects: Objects, built: BuiltRelease) -> tuple[StoredRelease, str | None]:
    """Return the release with ``built`` in it, and the version of the index that it was made from."""
    release = built.manifest.release
    place = f"{objects.shown}/{_index(release)}"
    found = objects.read(_index(release))
    known = None if found is None else read_index(found[0], release, place)
    before = signed_before(known, built)
    signed = None if before is None else objects.read(f"{MANIFESTS}/{before}")
    if before is not None and signed is None:
        raise ObjectStoreError(f"{objects.shown}/{MANIFESTS}/{before} is missing; remove {place} and publish again")
    return merge(known, built, None if signed is None else signed[0], place), None if found is None else found[1]


def _send_all(objects: Objects, parts: Sequence[_Part], sent: Sent) -> None:
    """Send side by side; the first failure ends it, after what was on its way."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="publish") as pool:
        sending = [pool.submit(_send, objects, part, sent) for part in parts]
        try:
            for each in sending:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _send(objects: Objects, part: _Part, sent: Sent) -> None:
    there_bytes = objects.size_of(part.name)
    if part.is_kept_in(there_bytes):
        sent.note(0)
        return
    data = part.stored(there_bytes)
    objects.write(part.name, data)
    sent.note(len(data))


def _whole(name: str, data: bytes) -> _Part:
    return _Part(name, lambda size_bytes: size_bytes == len(data), lambda _: data)


def _index(release: str) -> str:
    return f"{INDEXES}/{release}.json"
