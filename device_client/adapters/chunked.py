"""A release in pieces, on its way into staging: the chunk list, then the content that it describes.

What cannot be had in this way is no failure: the archive is fetched then. Only a source that has given chunks and is
gone now is waited for, since whole archives for everybody are what an overloaded registry needs least.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from device_client.adapters.chunk_content import Content, has_files
from device_client.adapters.chunk_fetch import DearError, Receipt, gather
from device_client.adapters.chunk_slots import SlotChunks, keep_with_slot
from device_client.adapters.chunk_sources import USUAL, ChunkMissingError, ChunkSource, GoOn, Sources, Tolerance
from device_client.adapters.durable import write_durably
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.media import Media
from device_client.adapters.pace import Pace, PacedChunks
from device_client.adapters.slots import SLOT_NAMES, Slots
from device_client.adapters.transports import HTTP_ALONE, Transports
from device_client.core.codes import ErrorCode
from device_client.core.effects import Source
from schemas.chunks import Place, name_chunk, read_chunk_list
from schemas.errors import DecodeError
from schemas.manifest import ChunkList, Manifest

FindSources = Callable[[Source], Sequence[ChunkSource]]
"""Of an order, where its chunks are, in the order in which they are asked."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


def registries(source: Source, transports: Transports = HTTP_ALONE) -> Sequence[ChunkSource]:
    """Return the servers that the order names, where they keep chunks beside archives."""
    return transports.chunk_sources(source.artifact.sources, source.artifact.sha256)


def registries_and(peers: FindSources, transports: Transports = HTTP_ALONE) -> FindSources:
    """Return what asks whoever the order names and this device reaches, and ``peers`` where the order wants that."""

    def find(source: Source) -> Sequence[ChunkSource]:
        artifact, rank = source.artifact, 0 if source.artifact.peers is None else source.artifact.peers.rank
        before, behind = artifact.sources[:rank], artifact.sources[rank:]
        return [
            *transports.chunk_sources(before, artifact.sha256),
            *(peers(source) if transports.has_http else ()),
            *transports.chunk_sources(behind, artifact.sha256),
        ]

    return find


def media_or(media: Media, others: FindSources) -> FindSources:
    """Return what asks the medium for an order that came from one, and the ``others`` for all that came otherwise."""
    return lambda source: others(source) if source.media is None else media.chunk_sources(source)


class Chunked:
    """Puts the content of releases together in staging.

    Args:
        slots: Whose staging it is, and what may have chunks already.
        find_sources: Where the others come from.
        tolerance: How much a source may cost.
    """

    def __init__(self, slots: Slots, find_sources: FindSources = registries, tolerance: Tolerance = USUAL) -> None:
        self._slots = slots
        self._find_sources = find_sources
        self._tolerance = tolerance

    def fetch(
        self,
        manifest: Manifest,
        source: Source,
        is_cancelled: Callable[[], bool],
        on_progress: Callable[[float], None],
        archive_bytes: int | None = None,
        *,
        pace: Pace | None = None,
    ) -> Receipt | None:
        """Leave the whole content in staging and return where it came from; None: it is not to be had in pieces.

        Args:
            manifest: Which content.
            source: Of the order.
            is_cancelled: Asked again and again.
            on_progress: Told a percentage of what is to be fetched.
            archive_bytes: What the archive would take instead; chunks are not fetched when it takes less by more than a
                tenth, since they are gone on with after any interruption, and one release may have the next one's.
            pace: How fast it may be fetched; None: as it comes.

        Raises:
            StepError: It may be had later, or the disk's fault; when it is full, what was fetched is given up.
            CancelledError: ``is_cancelled`` said so. What is there stays.
        """
        if manifest.chunks is None or not manifest.unpacked_bytes:
            return None

        def go_on() -> None:
            if is_cancelled():
                raise CancelledError

        try:
            if self.is_there(manifest):
                if has_files(self.path(manifest), manifest.files):
                    return Receipt()
                self.doubt(manifest)
            if not (found := self._find_sources(source)):
                return None
            if pace is not None:
                found = [PacedChunks(each, pace) for each in found]
            sources = Sources(found, manifest.chunks.size_bytes + manifest.unpacked_bytes, self._tolerance)
            try:
                places = self._places(manifest, manifest.chunks, sources, go_on)
                if places is None:
                    return None
                return self._gather(
                    manifest, places, sources, archive_bytes, is_cancelled=is_cancelled, on_progress=on_progress
                )
            finally:
                sources.close()
        except OSError as error:
            if error.errno in _FULL:
                self.give_up(manifest)
            raise from_os_error(error) from error

    def is_there(self, manifest: Manifest) -> bool:
        """Say whether the content is complete in staging; what it is worth is another question."""
        path = self.path(manifest)
        return path.is_file() and path.stat().st_size == manifest.unpacked_bytes

    def path(self, manifest: Manifest) -> Path:
        """Return where the content is."""
        return self._slots.staging / f"{manifest.artifact.sha256}.content"

    def there_bytes(self, manifest: Manifest) -> int:
        """Return how much of the disk is taken by it already."""
        return sum(path.stat().st_blocks * 512 for path in self._paths(manifest) if path.is_file())

    def doubt(self, manifest: Manifest) -> None:
        """Take content that was damaged for incomplete, so that what of it is right is not fetched again."""
        whole, part = self._paths(manifest)
        whole.replace(part)

    def give_up(self, manifest: Manifest) -> None:
        """Remove the content, whole or not."""
        for path in self._paths(manifest):
            path.unlink(missing_ok=True)

    def keep_with_slot(self, folder: Path, manifest: Manifest) -> None:
        """Put the chunk list beside the files of a slot, so that the next release finds chunks there.

        Raises:
            OSError: The disk's fault.
        """
        chunk_list = self._chunk_list(manifest)
        if chunk_list is not None:
            keep_with_slot(folder, manifest, chunk_list)

    def _paths(self, manifest: Manifest) -> tuple[Path, Path]:
        whole = self.path(manifest)
        return whole, whole.with_name(f"{whole.name}.part")

    def _list_path(self, manifest: Manifest) -> Path:
        return self._slots.staging / f"{manifest.artifact.sha256}.chunks"

    def _chunk_list(self, manifest: Manifest) -> bytes | None:
        """Return the chunk list if it is in staging."""
        path = self._list_path(manifest)
        if manifest.chunks is None or not path.is_file() or path.stat().st_size != manifest.chunks.size_bytes:
            return None
        data = path.read_bytes()
        return data if name_chunk(data) == manifest.chunks.chunk else None

    def _places(self, manifest: Manifest, said: ChunkList, sources: Sources, go_on: GoOn) -> tuple[Place, ...] | None:
        """Return where each chunk belongs; None if that is not to be had."""
        chunk_list = self._chunk_list(manifest)
        try:
            if chunk_list is None:
                chunk_list = sources.bring(said.chunk, go_on).data
                write_durably(self._list_path(manifest), chunk_list)
            return read_chunk_list(chunk_list, manifest.unpacked_bytes)
        except (ChunkMissingError, DecodeError) as error:
            _log.warning("chunks.unusable reason=%s", error)
            return None

    def _gather(
        self,
        manifest: Manifest,
        places: tuple[Place, ...],
        sources: Sources,
        archive_bytes: int | None,
        *,
        is_cancelled: Callable[[], bool],
        on_progress: Callable[[float], None],
    ) -> Receipt | None:
        whole, part = self._paths(manifest)
        slots = [SlotChunks(self._slots.folder(name)) for name in SLOT_NAMES]
        content = Content(part, places)
        try:
            receipt = gather(
                content,
                slots,
                sources,
                fetch_bytes_max=None if archive_bytes is None else archive_bytes * 10 // 9,
                is_cancelled=is_cancelled,
                on_progress=on_progress,
            )
            content.finish(whole)
        except DearError:
            _log.info("chunks.dear archive_bytes=%d", archive_bytes)
            return None
        except ChunkMissingError as error:
            if error.may_pass:
                raise StepError(ErrorCode.DOWNLOAD_FAILED, str(error)) from error
            _log.warning("chunks.missing reason=%s", error)
            return None
        finally:
            content.close()
        if not has_files(whole, manifest.files):
            _log.warning("chunks.unusable reason=the files that they make have other digests")
            self.give_up(manifest)
            return None
        _log.info("chunks.complete %s", receipt)
        return receipt
