"""The bytes of a tar archive out of what it travels in, in steps that are bounded whatever it claims to be.

Each form is read as exactly one whole: one gzip member or one zstd frame up to the last byte of the file. Imports
nothing but Python, and for zstd the optional ``zstandard``.

Source:
    RFC 1952 (gzip); RFC 8878 (zstd), sections 3.1.1 and 9.
"""

import importlib.util
import zlib
from typing import BinaryIO, Final, Protocol

ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""What every decoder should be able to do, and what this one costs in memory at most."""
_CHUNK: Final = 64 * 1024
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER_BYTES_MAX: Final = 18
_ZSTD_BLOCK_BYTES_MAX: Final = 128 * 1024
_ZSTD_RUN: Final = 1
"""The type of a block that is one byte, many times."""


class CompressionError(Exception):
    """The sender's fault: this is not exactly one whole stream of its form."""


class Stream(Protocol):
    """Bytes that come out one piece after the other."""

    def some(self, size_max: int) -> bytes:
        """Return up to ``size_max`` bytes, none only at the end.

        Raises:
            CompressionError: What was read is damaged.
        """

    def is_over(self) -> bool:
        """The form is complete and the file ends with it."""


def supported_formats() -> tuple[str, ...]:
    """Return the forms that can be read here."""
    return ("tar.gz", "tar", *(("tar.zst",) if importlib.util.find_spec("zstandard") else ()))


def open_stream(file: BinaryIO, form: str) -> Stream:
    """Return the tar archive in ``file``.

    Args:
        file: At its first byte.
        form: One of those that are supported.

    Raises:
        CompressionError: It does not begin like its form.
    """
    match form:
        case "tar":
            return _Plain(file)
        case "tar.gz":
            return _Gzip(file)
        case "tar.zst":
            return _Zstd(file)
        case _:
            raise CompressionError(f"{form} is no form that is known here")


class _Plain:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def some(self, size_max: int) -> bytes:
        return self._file.read(size_max)

    def is_over(self) -> bool:
        return not self._file.read(1)


class _Gzip:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._pending = b""

    def some(self, size_max: int) -> bytes:
        while not self._decoder.eof:
            if not self._pending:
                self._pending = self._file.read(_CHUNK)
            at_end = not self._pending
            try:
                part = self._decoder.decompress(self._pending, size_max)
            except zlib.error as error:
                raise CompressionError(f"it is no gzip stream: {error}") from error
            self._pending = self._decoder.unconsumed_tail
            if part or at_end:
                return part
        return b""

    def is_over(self) -> bool:
        return self._decoder.eof and not self._decoder.unused_data and not self._file.read(1)


class _Zstd:
    """One frame, given to the decoder block by block: a block is never more than 128 KiB, whatever it claims to be."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard  # noqa: PLC0415 - it is optional

        self._file = file
        self._error = zstandard.ZstdError
        self._pending = memoryview(b"")
        start = file.read(_ZSTD_HEADER_BYTES_MAX)
        if not start.startswith(_ZSTD_MAGIC):
            raise CompressionError("it is no zstd frame")
        try:
            header_bytes = zstandard.frame_header_size(start)
            frame = zstandard.get_frame_parameters(start)
        except zstandard.ZstdError as error:
            raise CompressionError(f"it is no zstd frame: {error}") from error
        if frame.window_size > ZSTD_WINDOW_BYTES_MAX or frame.dict_id:
            raise CompressionError(f"it wants a window of {frame.window_size} bytes, or a dictionary")
        file.seek(header_bytes)
        self._checksum_bytes = 4 if frame.has_checksum else 0
        self._decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).decompressobj()
        self._decode(start[:header_bytes])

    def some(self, size_max: int) -> bytes:
        while not self._pending and not self._decoder.eof:
            self._decode(self._next_block())
        part, self._pending = self._pending[:size_max], self._pending[size_max:]
        return bytes(part)

    def is_over(self) -> bool:
        return self._decoder.eof and not self._pending and not self._file.read(1)

    def _next_block(self) -> bytes:
        """Return the bytes of one block, with the frame's checksum if it is the last one."""
        head = self._file.read(3)
        fields = int.from_bytes(head, "little")
        is_last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
        if size > _ZSTD_BLOCK_BYTES_MAX:
            raise CompressionError(f"a zstd block of {size} bytes is too large")
        wanted = (1 if kind == _ZSTD_RUN else size) + (self._checksum_bytes if is_last else 0)
        body = self._file.read(wanted)
        if len(head) + len(body) < 3 + wanted:
            raise CompressionError("it ends too early")
        return head + body

    def _decode(self, encoded: bytes) -> None:
        try:
            self._pending = memoryview(self._decoder.decompress(encoded))
        except self._error as error:
            raise CompressionError(f"its zstd frame is damaged: {error}") from error
