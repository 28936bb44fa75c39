"""From a folder of files to an archive: the same files give the same bytes, without times and owners."""

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, assert_never

from orchestrator.core.releases import ReleaseError
from schemas.manifest import SLOT_FOLDERS, Format, check_artifact_path

Mode = Literal[0o644, 0o755]
_EXECUTABLE: Final = 0o111
_ZSTD_LEVEL: Final = 19
"""The highest whose window, 8 MiB, every device takes."""


def list_files(tree: Path) -> list[str]:
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


def read_file(path: Path) -> tuple[Mode, bytes]:
    """Return a file's mode, one of two, and its contents."""
    try:
        mode = path.stat().st_mode
        return (0o755 if mode & _EXECUTABLE else 0o644), path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}; make it readable") from error


def pack(tree: Path, contents: Iterable[tuple[str, Mode, bytes]]) -> bytes:
    """Return the archive of ``contents``, the same bytes for the same input."""
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


def compress(archive: bytes, form: Format) -> bytes:
    """Return ``archive`` as it travels."""
    match form:
        case "tar":
            return archive
        case "tar.gz":
            buffer = io.BytesIO()
            with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as compressed:
                compressed.write(archive)
            return buffer.getvalue()
        case "tar.zst":
            packed: bytes = _zstd().ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(archive)
            return packed
        case _:
            assert_never(form)


def content_of(artifact: bytes, form: Format) -> bytes:
    """Return the contents of all files of an archive, one behind the other.

    Raises:
        ReleaseError: It is no archive of that form.
    """
    try:
        match form:
            case "tar":
                archive = artifact
            case "tar.gz":
                archive = gzip.decompress(artifact)
            case "tar.zst":
                archive = _decompress_zstd(artifact)
            case _:
                assert_never(form)
        with tarfile.open(mode="r:", fileobj=io.BytesIO(archive)) as opened:
            return b"".join(file.read() for entry in opened if (file := opened.extractfile(entry)) is not None)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        raise ReleaseError(f"its archive is damaged: {error}; build it again") from error


def _decompress_zstd(artifact: bytes) -> bytes:
    zstandard = _zstd()
    try:
        archive: bytes = zstandard.ZstdDecompressor().decompress(artifact)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return archive


def _zstd() -> Any:  # noqa: ANN401 - an optional module
    try:
        import zstandard  # noqa: PLC0415 - it is optional
    except ImportError as error:
        raise ReleaseError("tar.zst needs zstandard; install tidegate[zstd], or take another form") from error
    return zstandard
