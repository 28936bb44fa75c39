"""Unpacking an archive whose every entry is known beforehand.

The manifest lists all files in archive order with size, mode and digest. The archive is read once, as a stream, and
must be exactly that: plain files of the ustar format, one after the other, then zeros. So links, devices, folders, long
names, duplicates, traversal and bombs are not filtered out; there is no code that could unpack them. What was put
together from chunks has no headers at all, and is written in the same way.

Imports nothing but Python, since the process that unpacks should cost a small device little.

Source:
    POSIX.1-2017, pax, "ustar Interchange Format".
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from typing import BinaryIO, Final, NamedTuple

from device_client.adapters.compression import CompressionError, Stream, open_stream

CONTENT: Final = "content"
"""The form without a form: what stands in the files, one behind the other."""
_BLOCK: Final = 512
_END_BYTES_MAX: Final = 22 * _BLOCK
"""Two blocks of zeros, and more up to the end of a record of twenty."""
_CHUNK: Final = 64 * 1024
_MAGIC: Final = b"ustar\x0000"
_REGULAR: Final = (b"0", b"\0")


class ArchiveError(Exception):
    """The sender's fault: the archive is not what its manifest says. The text names the place."""


class Entry(NamedTuple):
    """One file as the manifest has it."""

    path: str
    size_bytes: int
    mode: int
    sha256: str


def unpack(archive: BinaryIO, form: str, entries: Iterable[Entry], root: int) -> None:
    """Write exactly ``entries`` below a folder and make each durable.

    Args:
        archive: At its first byte; its digest is already that of the manifest.
        form: How it is compressed, or ``CONTENT``.
        entries: All of the manifest, in its order; its signature is already verified.
        root: Descriptor of the folder, empty but for folders; nothing outside of it is touched.

    Raises:
        ArchiveError: The first deviation. What was written is worth nothing.
        OSError: The disk's fault. The same.
    """
    try:
        if form == CONTENT:
            _unpack_content(_Reader(open_stream(archive, "tar")), entries, root)
            return
        reader = _Reader(open_stream(archive, form))
        for entry in entries:
            _check_header(reader.read(_BLOCK), entry)
            _write(reader, entry, root)
            if reader.read(-entry.size_bytes % _BLOCK).strip(b"\0"):
                raise ArchiveError(f"something is hidden after {entry.path}")
        reader.expect_end()
    except CompressionError as error:
        raise ArchiveError(str(error)) from error


def _unpack_content(reader: "_Reader", entries: Iterable[Entry], root: int) -> None:
    for entry in entries:
        _write(reader, entry, root)
    if not reader.is_over():
        raise ArchiveError("it goes on after its last file")


class _Reader:
    """Gives out of a stream exactly what is asked for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""
        parts: list[bytes] = []
        while size:
            part = self._stream.some(size)
            if not part:
                raise ArchiveError("it ends too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def is_over(self) -> bool:
        return self._stream.is_over()

    def expect_end(self) -> None:
        """Accept zeros up to the end of the record and nothing after them."""
        end = self.read(2 * _BLOCK)
        while len(end) <= _END_BYTES_MAX and (part := self._stream.some(_BLOCK)):
            end += part
        if len(end) > _END_BYTES_MAX or end.strip(b"\0"):
            raise ArchiveError("it goes on after its last file")
        if not self.is_over():
            raise ArchiveError("something follows it")


def _check_header(header: bytes, entry: Entry) -> None:
    """Accept the header of exactly ``entry``."""
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise ArchiveError(f"the header before {entry.path} is damaged")
    if header[257:265] != _MAGIC or header[156:157] not in _REGULAR or header[157:257].strip(b"\0"):
        raise ArchiveError(f"where {entry.path} should be there is no plain file")
    name, prefix = _text(header[:100]), _text(header[345:500])
    path = f"{prefix}/{name}" if prefix else name
    if path != entry.path:
        raise ArchiveError(f"where {entry.path} should be there is {path[:80]!a}")
    if _number(header[124:136]) != entry.size_bytes or _number(header[100:108]) != entry.mode:
        raise ArchiveError(f"{entry.path} has another size or mode")


def _number(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise ArchiveError("a header holds no octal number where one belongs")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "backslashreplace")


def _write(reader: _Reader, entry: Entry, root: int) -> None:
    """Write one file below the folder ``root`` without following any link."""
    *parents, name = entry.path.split("/")
    with contextlib.ExitStack() as opened:
        folder = root
        for segment in parents:
            with contextlib.suppress(FileExistsError):  # an earlier file lies there too; the next line refuses a link
                os.mkdir(segment, 0o755, dir_fd=folder)
            folder = os.open(segment, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            opened.callback(os.close, folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, entry.mode, dir_fd=folder)
        opened.callback(os.close, descriptor)
        os.fchmod(descriptor, entry.mode)
        _copy(reader, entry, descriptor)
        os.fsync(descriptor)


def _copy(reader: _Reader, entry: Entry, descriptor: int) -> None:
    digest, left = hashlib.sha256(), entry.size_bytes
    while left:
        part = reader.read(min(left, _CHUNK))
        digest.update(part)
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]
        left -= len(part)
    if digest.hexdigest() != entry.sha256:
        raise ArchiveError(f"{entry.path} has another digest")
