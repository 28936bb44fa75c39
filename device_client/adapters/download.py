"""Fetching one file over HTTP: several sources in order, resumed where possible, never larger than announced.

What counts is the digest of the whole file on disk, from its first byte, whatever was resumed and whoever sent it.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.layout import file_digest
from device_client.core.codes import ErrorCode

TIMEOUT_SECONDS: Final = 30.0
"""For connecting, and between two pieces."""
PATIENCE_SECONDS: Final = 600.0
RATE_BYTES_PER_SECOND_MIN: Final = 8 * 1024
"""Together they bound how long one source may take."""
_CHUNK: Final = 64 * 1024
_SCHEMES: Final = ("http://", "https://")
_OK: Final = 200
_PARTIAL: Final = 206

Progress = Callable[[float], None]


def download(
    sources: Sequence[str],
    path: Path,
    *,
    size_bytes: int,
    sha256: str,
    is_cancelled: Callable[[], bool],
    on_progress: Progress = lambda _percentage: None,
) -> None:
    """Leave the file with this size and digest at ``path``.

    Raises:
        StepError: No source has it; the text is about the last one.
        CancelledError: ``is_cancelled`` said so.
    """
    if path.is_file() and path.stat().st_size == size_bytes and file_digest(path) == sha256:
        return
    part = path.with_name(f"{path.name}.part")
    failure = StepError(ErrorCode.DOWNLOAD_FAILED, "the order names no source")
    for source in sources:
        try:
            _fetch(source, part, size_bytes, is_cancelled, on_progress)
            _accept(source, part, path, sha256)
        except StepError as error:
            failure = error
        except OSError as error:
            failure = from_os_error(error)
        else:
            return
    raise failure


def _accept(source: str, part: Path, path: Path, sha256: str) -> None:
    """Let ``part`` be the file if it is, and forget it if it is not."""
    if file_digest(part) != sha256:
        part.unlink()
        raise StepError(ErrorCode.CHECKSUM_MISMATCH, f"{source}: sent other bytes than were ordered")
    part.replace(path)


def _fetch(source: str, part: Path, size_bytes: int, is_cancelled: Callable[[], bool], on_progress: Progress) -> None:
    """Complete ``part`` from one source."""
    if not source.startswith(_SCHEMES):
        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{source[:80]}: only http and https are fetched")
    offset = part.stat().st_size if part.exists() else 0
    if offset >= size_bytes:
        part.unlink()
        offset = 0
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    request = urllib.request.Request(source, headers=headers)  # noqa: S310 - the scheme is checked above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            offset = _offset(response, offset, source)
            with part.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.truncate()
                deadline = time.monotonic() + PATIENCE_SECONDS + size_bytes / RATE_BYTES_PER_SECOND_MIN
                while block := response.read(_CHUNK):
                    offset += len(block)
                    if offset > size_bytes:
                        raise StepError(ErrorCode.SIZE_MISMATCH, f"{source}: sends more than {size_bytes} bytes")
                    file.write(block)
                    on_progress(100 * offset / size_bytes)
                    if is_cancelled():
                        raise CancelledError
                    if time.monotonic() > deadline:
                        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{source}: too slow")
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if offset:
            _forget_if_refused(part, error)
        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{source}: {error}") from error
    if offset != size_bytes:
        raise StepError(ErrorCode.SIZE_MISMATCH, f"{source}: sent {offset} of {size_bytes} bytes")


def _offset(response: http.client.HTTPResponse, offset: int, source: str) -> int:
    """Return where what the server sends belongs."""
    if response.status == _OK:
        return 0  # it does not resume
    if response.status == _PARTIAL and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        return offset
    raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{source}: answers {response.status}")


def _forget_if_refused(part: Path, error: Exception) -> None:
    """Begin anew next time if the server does not know the range."""
    if isinstance(error, urllib.error.HTTPError) and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)
