"""A release on its way to the device: fetched, then believed only as far as it is proven.

The order of the proofs is fixed: size and digest of the manifest, its signatures by release keys, then what it says
about version, architecture, device type, the versions it may replace, form and release counter, then whether it is
revoked, then disk space, and what it is made of last: its files, put together from chunks where that is possible, else
the archive. Nothing is parsed before it is verified, and nothing reaches a slot before everything is.

Source:
    Reference, "Artifact Integrity Verification".
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from device_client.adapters.archive import CONTENT
from device_client.adapters.chunk_content import has_files
from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.chunked import Chunked
from device_client.adapters.clock import wall_seconds
from device_client.adapters.compression import supported_formats
from device_client.adapters.download import Progress, download
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.layout import file_digest
from device_client.adapters.media import Media
from device_client.adapters.pace import Pace, within_window
from device_client.adapters.slots import Slots
from device_client.adapters.transports import HTTP_ALONE, Transports
from device_client.adapters.trust import Trusted
from device_client.adapters.unpacker import Unpack, unpack_apart
from device_client.core.codes import ErrorCode
from device_client.core.effects import Source
from device_client.core.record import MediaOrderTaken, SlotContent
from schemas.codec import MANIFEST, decode
from schemas.errors import DecodeError, SignatureError
from schemas.manifest import NOARCH, Manifest
from schemas.messages import Fetched, HealthCheck, SlotName

_UNSEALED: Final = "0" * 64
"""Stands for a digest that sealing will replace."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a release must fit to.

    Attributes:
        arch: Of this device.
        device_type: Of this device.
        trust: Whose releases are installed.
        formats: Of archives that can be unpacked here.
    """

    arch: str
    device_type: str
    trust: Trusted
    formats: tuple[str, ...] = field(default_factory=supported_formats)


def read_manifest(envelope: bytes, trust: Trusted) -> Manifest:
    """Verify the raw bytes first and parse exactly those.

    Raises:
        StepError: Not signed by whom it must be, or signed and no manifest.
    """
    try:
        payload = trust.open_manifest(envelope)
    except SignatureError as error:
        raise StepError(ErrorCode.SIGNATURE_INVALID, f"manifest: {error}") from error
    try:
        return decode(Manifest, payload, MANIFEST)
    except DecodeError as error:
        raise StepError(ErrorCode.MANIFEST_INVALID, f"manifest: {error}") from error


class Artifacts:
    """Fetches, verifies and installs releases.

    Args:
        slots: Where they go.
        identity: What they must fit to.
        unpack: Puts the files of an archive into a folder.
        chunked: Fetches in pieces; None: from the servers that an order names.
        clock: The device's, which may be wrong; for the hours in which an order lets it fetch.
        media: Where orders from media have what they need; None where there are none.
        transports: How this device reaches the addresses of an order.
    """

    def __init__(
        self,
        slots: Slots,
        identity: Identity,
        unpack: Unpack = unpack_apart,
        chunked: Chunked | None = None,
        *,
        clock: Callable[[], float] = wall_seconds,
        media: Media | None = None,
        transports: Transports = HTTP_ALONE,
    ) -> None:
        self._slots = slots
        self._identity = identity
        self._unpack = unpack
        self._chunked = Chunked(slots) if chunked is None else chunked
        self._clock = clock
        self._media = media
        self._download = partial(download, transports=transports)
        self.fetched: Fetched | None = None
        """What the last fetch that was completed took; None: nothing, all was there."""

    def fetch(self, source: Source, is_cancelled: Callable[[], bool], on_progress: Progress) -> Receipt | None:
        """Bring the manifest, and if it is good its content or the archive, into the staging folder.

        Returns:
            Where the content came from; None if it was the archive.

        Raises:
            StepError: It cannot be had, or is not what this device may install.
            CancelledError: Nobody wants it any more, or its hours are over (``WindowClosedError``).
        """
        self._forget_others(source)
        self.fetched = None
        limits = source.artifact.limits
        is_cancelled = within_window(limits, is_cancelled, self._clock)
        rate = None if limits is None else limits.bytes_per_second
        pace = None if rate is None else Pace(rate)
        path = self._manifest_path(source)
        wanted = source.manifest
        if wanted.size_bytes > MANIFEST.bytes_max:
            raise StepError(ErrorCode.SIZE_MISMATCH, f"a manifest of {wanted.size_bytes} bytes is not accepted")
        if source.media is not None:
            return self._fetch_from_medium(source, source.media, is_cancelled, on_progress)
        self._download(wanted.urls, path, size_bytes=wanted.size_bytes, sha256=wanted.sha256, is_cancelled=is_cancelled)
        manifest = self._open_manifest(source)
        archive = self._archive_path(manifest)
        if not archive.is_file() and self._has_space_for_content(manifest):
            # What peers give costs no line, so it is not weighed against the archive.
            archive_bytes = self._archive_bytes(manifest) if source.artifact.peers is None else None
            receipt = self._chunked.fetch(manifest, source, is_cancelled, on_progress, archive_bytes, pace=pace)
            if receipt is not None:
                self.fetched = receipt.told(source)
                return receipt
        self._make_space(manifest, archive)
        giver = self._download(
            source.artifact.sources,
            archive,
            size_bytes=manifest.artifact.size_bytes,
            sha256=manifest.artifact.sha256,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
            pace=pace,
        )
        if giver is not None:
            given = tuple(manifest.artifact.size_bytes * (each == giver) for each in source.artifact.sources)
            self.fetched = Fetched(sources=given)
        return None

    def _fetch_from_medium(
        self, source: Source, order: MediaOrderTaken, is_cancelled: Callable[[], bool], on_progress: Progress
    ) -> Receipt | None:
        """Bring the same from a medium, whose chunks are whole or worth nothing: nobody else has an archive."""
        if self._media is None:
            raise StepError(ErrorCode.MEDIA_MISSING, "the settings name no media any more; write [media] again")
        bring = partial(self._media.copy, order, is_cancelled=is_cancelled)
        wanted = source.manifest
        bring("manifests", self._manifest_path(source), size_bytes=wanted.size_bytes, sha256=wanted.sha256)
        manifest = self._open_manifest(source)
        archive = self._archive_path(manifest)
        if manifest.chunks is not None and manifest.unpacked_bytes and not archive.is_file():
            self._check_free(2 * manifest.unpacked_bytes - self._chunked.there_bytes(manifest))
            receipt = self._chunked.fetch(manifest, source, is_cancelled, on_progress)
            if receipt is None:
                raise StepError(ErrorCode.CHECKSUM_MISMATCH, "chunks: the medium is damaged; export it again")
            self.fetched = receipt.told(source)
            return receipt
        self._make_space(manifest, archive)
        said = manifest.artifact
        bring("artifacts", archive, size_bytes=said.size_bytes, sha256=said.sha256, on_progress=on_progress)
        return None

    def stage(self, source: Source, manifest: Path, archive: Path) -> None:
        """Copy manifest and archive into the staging folder from files, instead of fetching them.

        Raises:
            OSError: They cannot be read or copied.
            StepError: The manifest is not what this device may install.
        """
        shutil.copyfile(manifest, self._manifest_path(source))
        shutil.copyfile(archive, self._archive_path(self._open_manifest(source)))

    def verify(self, source: Source) -> Manifest:
        """Prove everything from the files as they are on disk.

        Raises:
            StepError: The first proof that fails.
        """
        manifest = self._open_manifest(source)
        archive = self._archive_path(manifest)
        if self._takes_content(manifest):
            if not has_files(self._chunked.path(manifest), manifest.files):
                self._chunked.doubt(manifest)
                raise StepError(ErrorCode.CHECKSUM_MISMATCH, "content: its files have other digests")
            self._check_free(manifest.unpacked_bytes)
            return manifest
        self._check_space(manifest, archive)
        if not archive.is_file() or archive.stat().st_size != manifest.artifact.size_bytes:
            raise StepError(ErrorCode.SIZE_MISMATCH, f"{archive.name}: is not {manifest.artifact.size_bytes} bytes")
        if file_digest(archive) != manifest.artifact.sha256:
            archive.unlink()
            raise StepError(ErrorCode.CHECKSUM_MISMATCH, f"{archive.name}: has another digest")
        return manifest

    def install(
        self,
        source: Source,
        slot: SlotName,
        health_check: HealthCheck,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> SlotContent:
        """Unpack into ``slot`` and mark it as verified.

        Raises:
            StepError: The slot is left empty.
            CancelledError: The same; nobody wants it any more.
        """
        root = self._identity.trust.root  # a newer one meanwhile has it proven again
        manifest = self.verify(source)
        folder = self._slots.open(slot)
        try:
            if self._takes_content(manifest):
                self._unpack(self._chunked.path(manifest), manifest, folder, is_cancelled, CONTENT)
            else:
                self._unpack(self._archive_path(manifest), manifest, folder, is_cancelled)
            self._keep_chunk_list(folder, manifest)
        except (StepError, CancelledError):
            self._slots.discard(slot)
            raise
        content = SlotContent(
            release=manifest.release,
            version=manifest.target_version,
            manifest_sha256=source.manifest.sha256,
            release_counter=manifest.release_counter,
            command=manifest.command,
            health_check=health_check,
            tree_digest=_UNSEALED,
            root_version=0 if root is None else root.version,
        )
        return self._slots.seal(slot, content)

    def _takes_content(self, manifest: Manifest) -> bool:
        return not self._archive_path(manifest).is_file() and self._chunked.is_there(manifest)

    def _keep_chunk_list(self, folder: Path, manifest: Manifest) -> None:
        try:
            self._chunked.keep_with_slot(folder, manifest)
        except OSError as error:
            raise from_os_error(error) from error

    def _open_manifest(self, source: Source) -> Manifest:
        """Prove the manifest as it is on disk, and that it fits."""
        path = self._manifest_path(source)
        if not path.is_file() or path.stat().st_size != source.manifest.size_bytes:
            raise StepError(ErrorCode.SIZE_MISMATCH, f"manifest: is not {source.manifest.size_bytes} bytes")
        if file_digest(path) != source.manifest.sha256:
            path.unlink()
            raise StepError(ErrorCode.CHECKSUM_MISMATCH, "manifest: has another digest")
        manifest = read_manifest(path.read_bytes(), self._identity.trust)
        self._check_fit(manifest, source)
        return manifest

    def _check_fit(self, manifest: Manifest, source: Source) -> None:
        identity = self._identity
        if (manifest.target_version, manifest.release) != (source.version, source.release):
            says = f"{manifest.release} {manifest.target_version}"
            raise StepError(ErrorCode.VERSION_MISMATCH, f"manifest: is for {says}, ordered is {source.version}")
        if manifest.artifact.arch not in (identity.arch, NOARCH):
            raise StepError(ErrorCode.ARCH_MISMATCH, f"manifest: is for {manifest.artifact.arch}, not {identity.arch}")
        if manifest.device_types and identity.device_type not in manifest.device_types:
            raise StepError(ErrorCode.DEVICE_TYPE_MISMATCH, f"manifest: is not for a {identity.device_type}")
        if manifest.allowed_from and source.serving_version not in manifest.allowed_from:
            serves = source.serving_version or "nothing"
            raise StepError(ErrorCode.NOT_ALLOWED_FROM, f"manifest: may not replace {serves}, which serves here")
        if manifest.artifact.format not in identity.formats:
            takes = ", ".join(identity.formats)
            message = f"manifest: the archive is a {manifest.artifact.format}, and this device takes {takes}"
            raise StepError(ErrorCode.FORMAT_UNSUPPORTED, message)
        if manifest.release_counter < source.release_counter_min:
            counters = f"{manifest.release_counter} after {source.release_counter_min}"
            raise StepError(ErrorCode.DOWNGRADE, f"manifest: its release counter falls: {counters}")
        root = identity.trust.root
        if root is not None and root.revokes(manifest.release, manifest.release_counter):
            raise StepError(ErrorCode.REVOKED, f"manifest: {manifest.release} is revoked by root {root.version}")

    def _has_space_for_content(self, manifest: Manifest) -> bool:
        """Say whether there is room for its files twice, in staging and in a slot; else the archive takes less."""
        needed_bytes = 2 * manifest.unpacked_bytes - self._chunked.there_bytes(manifest)
        return shutil.disk_usage(self._slots.root).free >= needed_bytes

    def _archive_bytes(self, manifest: Manifest) -> int | None:
        """Return what fetching the archive takes; None if there is no room for it."""
        needed_bytes = 2 * manifest.artifact.size_bytes + manifest.unpacked_bytes
        is_room = shutil.disk_usage(self._slots.root).free >= needed_bytes
        return manifest.artifact.size_bytes if is_room else None

    def _make_space(self, manifest: Manifest, archive: Path) -> None:
        """Want room for the archive, and give up chunks if there is none beside them."""
        try:
            self._check_space(manifest, archive)
        except StepError:
            self._chunked.give_up(manifest)
            self._check_space(manifest, archive)

    def _check_space(self, manifest: Manifest, archive: Path) -> None:
        """Want room for the archive twice and for its files once; what is already fetched counts."""
        there = archive.stat().st_size if archive.is_file() else 0
        self._check_free(2 * manifest.artifact.size_bytes + manifest.unpacked_bytes - there)

    def _check_free(self, needed_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._slots.root).free
        if free_bytes < needed_bytes:
            raise StepError(ErrorCode.NO_SPACE, f"{needed_bytes} bytes are needed and {free_bytes} are free")

    def _forget_others(self, source: Source) -> None:
        """Keep in staging only what belongs to this order."""
        kept = {source.manifest.sha256, source.artifact.sha256}
        for entry in self._slots.staging.iterdir():
            if entry.name.split(".")[0] not in kept:
                entry.unlink()

    def _manifest_path(self, source: Source) -> Path:
        return self._slots.staging / f"{source.manifest.sha256}.json"

    def _archive_path(self, manifest: Manifest) -> Path:
        return self._slots.staging / f"{manifest.artifact.sha256}.{manifest.artifact.format}"
