"""Fetching one file, over HTTP or the bus: several sources in order, resumed where possible, never more than announced.

What counts is the digest of the whole file on disk, from its first byte, whatever was resumed and whoever sent it.
"""

import contextlib
import errno
import http.client
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from device_client.adapters.chunk_sources import ChunkAbsentError, ChunkFailedError
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.http_get import http_get, without_secrets
from device_client.adapters.layout import file_digest
from device_client.adapters.pace import Pace
from device_client.adapters.transports import HTTP_ALONE, Transports
from device_client.core.codes import ErrorCode

_CHUNK: Final = 64 * 1024

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one source may take.

    Attributes:
        silence_seconds: For connecting, and for every piece.
        seconds: For all of it, beside what ``bytes_per_second_min`` adds for its size.
        bytes_per_second_min: The slowest that is waited for.
    """

    silence_seconds: float = 30.0
    seconds: float = 600.0
    bytes_per_second_min: int = 8 * 1024


class _NotResumedError(StepError):
    """What was there already does not fit to what this source has."""


def download(
    sources: Sequence[str],
    path: Path,
    *,
    size_bytes: int,
    sha256: str,
    is_cancelled: Callable[[], bool],
    on_progress: Progress = lambda _percentage: None,
    patience: Patience = Patience(),
    pace: Pace | None = None,
    transports: Transports = HTTP_ALONE,
) -> str | None:
    """Leave the file with this size and digest at ``path``, and return which source gave it; None: it was there.

    Raises:
        StepError: No source has it; the text is about the last one. Or the disk's fault; when it is full, what was
            fetched is given up.
        CancelledError: ``is_cancelled`` said so.
    """
    if path.is_file() and path.stat().st_size == size_bytes and file_digest(path) == sha256:
        return None
    part = path.with_name(f"{path.name}.part")
    wanted = _Wanted(part, size_bytes, sha256, is_cancelled, on_progress, patience, pace, transports)
    failure = StepError(ErrorCode.DOWNLOAD_FAILED, "the order names no source that this device reaches")
    for source in transports.reached(sources):
        try:
            wanted.complete(source)
            wanted.part.replace(path)
        except StepError as error:
            failure = error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                with contextlib.suppress(OSError):
                    wanted.part.unlink()
            raise from_os_error(error) from error
        else:
            return source
    raise failure


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file, and as much of it as is there."""

    part: Path
    size_bytes: int
    sha256: str
    is_cancelled: Callable[[], bool]
    on_progress: Progress
    patience: Patience
    pace: Pace | None
    transports: Transports

    def complete(self, source: str) -> None:
        """Make ``part`` the file: with what is missing, and where that does not fit, with all of it.

        Raises:
            StepError: This source does not have it.
            OSError: The disk's fault.
        """
        try:
            self._fetch(source)
        except _NotResumedError:
            self.part.unlink(missing_ok=True)  # it may have come from a source that lies
            self._fetch(source)

    def _fetch(self, source: str) -> None:
        offset = self.part.stat().st_size if self.part.exists() else 0
        if offset >= self.size_bytes:
            self.part.unlink()
            offset = 0
        shown = without_secrets(source)
        deadline = time.monotonic() + self.patience.seconds + self.size_bytes / self.patience.bytes_per_second_min

        def go_on() -> None:
            if self.is_cancelled():
                raise CancelledError
            if time.monotonic() > deadline:
                raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{shown}: too slow")

        pieces = self.transports.blocks(source, offset, self.size_bytes, go_on)
        if pieces is None:
            start = self._fetch_over_http(source, offset, shown, go_on)
        else:
            start = offset
            self._fetch_over_the_bus(pieces, offset, shown, go_on)
        if file_digest(self.part) != self.sha256:
            message = f"{shown}: sent other bytes than were ordered"
            if not start:
                self.part.unlink()
                raise StepError(ErrorCode.CHECKSUM_MISMATCH, message)
            raise _NotResumedError(ErrorCode.CHECKSUM_MISMATCH, message)

    def _fetch_over_http(self, source: str, offset: int, shown: str, go_on: Callable[[], None]) -> int:
        """Receive what a server sends, and return where that began."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        silence_seconds, redirects = self.patience.silence_seconds, self.transports.redirects
        with http_get(source, headers, silence_seconds=silence_seconds, go_on=go_on, redirects=redirects) as response:
            start = self._offset(response, offset, shown)
            self._receive(self._blocks(response, start), start, shown, go_on)
        return start

    def _fetch_over_the_bus(self, pieces: Generator[bytes], offset: int, shown: str, go_on: Callable[[], None]) -> None:
        try:
            with contextlib.closing(pieces):
                self._receive(pieces, offset, shown, go_on)
        except (ChunkAbsentError, ChunkFailedError) as failure:
            raise StepError(ErrorCode.DOWNLOAD_FAILED, str(failure)) from failure

    def _offset(self, response: http.client.HTTPResponse, offset: int, shown: str) -> int:
        """Return where what the server sends belongs, before anything that is there is touched."""
        span = response.headers.get("Content-Range", "")
        match response.status:
            case HTTPStatus.OK:
                start = 0  # it does not resume
            case HTTPStatus.PARTIAL_CONTENT if span in {self._span(offset, self.size_bytes), self._span(offset, "*")}:
                start = offset
            case HTTPStatus.PARTIAL_CONTENT | HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if offset:
                raise _NotResumedError(ErrorCode.DOWNLOAD_FAILED, f"{shown}: does not resume at {offset}")
            case status:
                raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{shown}: answers {status}")
        if response.length not in (None, self.size_bytes - start):
            size_bytes = start + response.length
            raise StepError(ErrorCode.SIZE_MISMATCH, f"{shown}: has {size_bytes} bytes, not {self.size_bytes}")
        return start

    def _span(self, offset: int, whole: int | str) -> str:
        return f"bytes {offset}-{self.size_bytes - 1}/{whole}"

    def _blocks(self, response: http.client.HTTPResponse, offset: int) -> Iterator[bytes]:
        # A server that has said how much it sends may keep the connection; beyond that nothing is waited for.
        beyond = 1 if response.length is None else 0
        while block := response.read1(min(_CHUNK, self.size_bytes - offset + beyond)):
            offset += len(block)
            yield block

    def _receive(self, blocks: Iterator[bytes], offset: int, shown: str, go_on: Callable[[], None]) -> None:
        with self.part.open("ab" if offset else "wb") as file:
            for block in blocks:
                offset += len(block)
                if offset > self.size_bytes:
                    raise StepError(ErrorCode.SIZE_MISMATCH, f"{shown}: sends more than {self.size_bytes} bytes")
                file.write(block)
                if self.pace is not None:
                    self.pace.take(len(block), go_on)
                self.on_progress(100 * offset / self.size_bytes)
        if offset != self.size_bytes:
            raise StepError(ErrorCode.SIZE_MISMATCH, f"{shown}: sent {offset} of {self.size_bytes} bytes")
