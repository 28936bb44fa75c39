"""Unpacking an archive whose every entry is known beforehand.

The manifest lists all files in archive order with size, mode and digest. The archive is read once, as a stream, and
must be exactly that: plain files of the ustar format, one after the other, then zeros. So links, devices, folders, long
names, duplicates, traversal and bombs are not filtered out; there is no code that could unpack them.

Source:
    POSIX.1-2017, pax, "ustar Interchange Format"; RFC 1952 (gzip).
"""

import contextlib
import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from device_client.adapters.failure import StepError, from_os_error
from device_client.core.codes import ErrorCode
from schemas.manifest import FileEntry, Manifest

_BLOCK: Final = 512
_END_BYTES_MAX: Final = 22 * _BLOCK
"""Two blocks of zeros, and more up to the end of a record of twenty."""
_CHUNK: Final = 64 * 1024
_MAGIC: Final = b"ustar\x0000"
_REGULAR: Final = (b"0", b"\0")


def unpack(archive: Path, manifest: Manifest, folder: Path) -> None:
    """Write exactly the files of ``manifest`` below ``folder`` and make each durable.

    Args:
        archive: Its digest is already that of the manifest.
        manifest: Its signature is already verified.
        folder: Empty but for folders; nothing outside of it is touched.

    Raises:
        StepError: ``archive_invalid`` at the first deviation, or the disk's fault. What was written is worth nothing.
    """
    try:
        with archive.open("rb") as file:
            stream = _Stream(file)
            root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                for entry in manifest.files:
                    _check_header(stream.read(_BLOCK), entry)
                    _write(stream, entry, root)
            finally:
                os.close(root)
            stream.expect_end()
    except OSError as error:
        raise from_os_error(error) from error


class _Stream:
    """A gzip stream that is never decompressed further than somebody asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._gzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._pending = b""

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""
        parts: list[bytes] = []
        while size:
            part = self._some(size)
            if not part:
                raise _invalid("it ends too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def expect_end(self) -> None:
        """Accept zeros up to the end of the record and nothing after them."""
        end = self.read(2 * _BLOCK)
        while len(end) <= _END_BYTES_MAX and (part := self._some(_BLOCK)):
            end += part
        if len(end) > _END_BYTES_MAX or end.strip(b"\0"):
            raise _invalid("it goes on after its last file")
        if not self._gzip.eof or self._gzip.unused_data or self._file.read(1):
            raise _invalid("something follows it")

    def _some(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none only at the end."""
        while not self._gzip.eof:
            if not self._pending:
                self._pending = self._file.read(_CHUNK)
            at_end = not self._pending
            try:
                part = self._gzip.decompress(self._pending, size)
            except zlib.error as error:
                raise _invalid(f"it is no gzip stream: {error}") from error
            self._pending = self._gzip.unconsumed_tail
            if part or at_end:
                return part
        return b""


def _check_header(header: bytes, entry: FileEntry) -> None:
    """Accept the header of exactly ``entry``."""
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise _invalid(f"the header before {entry.path} is damaged")
    if header[257:265] != _MAGIC or header[156:157] not in _REGULAR or header[157:257].strip(b"\0"):
        raise _invalid(f"where {entry.path} should be there is no plain file")
    name, prefix = _text(header[:100]), _text(header[345:500])
    path = f"{prefix}/{name}" if prefix else name
    if path != entry.path:
        raise _invalid(f"where {entry.path} should be there is {path[:80]!a}")
    if _number(header[124:136]) != entry.size_bytes or _number(header[100:108]) != entry.mode:
        raise _invalid(f"{entry.path} has another size or mode")


def _number(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise _invalid("a header holds no octal number where one belongs")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _write(stream: _Stream, entry: FileEntry, root: int) -> None:
    """Write one file below the folder ``root`` without following any link."""
    *parents, name = entry.path.split("/")
    folder = os.dup(root)
    try:
        for segment in parents:
            folder = _enter(folder, segment)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, entry.mode, dir_fd=folder)
        try:
            os.fchmod(descriptor, entry.mode)
            _copy(stream, entry, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        os.close(folder)
    if stream.read(-entry.size_bytes % _BLOCK).strip(b"\0"):
        raise _invalid(f"something is hidden after {entry.path}")


def _enter(folder: int, segment: str) -> int:
    try:
        with contextlib.suppress(FileExistsError):  # an earlier file lies there too; the next line refuses a link
            os.mkdir(segment, 0o755, dir_fd=folder)
        return os.open(segment, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _copy(stream: _Stream, entry: FileEntry, descriptor: int) -> None:
    digest, left = hashlib.sha256(), entry.size_bytes
    while left:
        part = stream.read(min(left, _CHUNK))
        digest.update(part)
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]
        left -= len(part)
    if digest.hexdigest() != entry.sha256:
        raise _invalid(f"{entry.path} has another digest")


def _invalid(reason: str) -> StepError:
    return StepError(ErrorCode.ARCHIVE_INVALID, f"archive: {reason}")
