"""Media: sticks and folders on which somebody brings orders, and what those need, without a network.

A thread of its own looks now and then whether there is one. What it finds is verified before it is parsed, posted, and
judged by the core with every look, so it does not matter when a medium comes or goes. What an order needs is read from
the medium by the worker like from any other source, and believed no more than from one.
"""

import errno
import glob
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from device_client.adapters.chunk_sources import ChunkFailedError, ChunkSource, GoOn
from device_client.adapters.download import Progress
from device_client.adapters.failure import CancelledError, StepError, from_os_error
from device_client.adapters.layout import file_digest
from device_client.adapters.media_folder import MediaFileError, MediaFolder
from device_client.adapters.trust import Trusted
from device_client.core.codes import ErrorCode
from device_client.core.effects import Source
from device_client.core.events import Event, MediaOrderFound, MediaRejected, MediaSeen, RootChanged
from device_client.core.record import MediaOrderTaken
from schemas.chunks import Chunk
from schemas.codec import TRUST, decode
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.media import ORDER, ORDERS, TRUST_FILE, MediaOrder, order_name

LOOK_SECONDS: Final = 5.0
FOLDERS_MAX: Final = 8
REJECTED_MAX: Final = 4
"""So many things that are no orders are told of each look."""


class Media:
    """What lies on media.

    Args:
        pattern: Where they appear: a folder, or a pattern for several of them.
        trust: Whose orders count; told newer trust roots that lie on a medium.
    """

    def __init__(self, pattern: str, trust: Trusted) -> None:
        self._pattern = pattern
        self._trust = trust

    def look(self, clock: float) -> list[Event]:
        """Return what is there: newer trust roots, what is no order, and last the orders.

        Args:
            clock: What the device's clock shows, in seconds since the epoch.
        """
        roots: list[Event] = []
        rejected: list[Event] = []
        found: dict[str, MediaOrderFound] = {}
        for folder in self._folders():
            try:
                roots += self._learn(folder)
                numbers = folder.order_numbers()
            except (OSError, MediaFileError, DecodeError, TrustError) as error:
                rejected.append(_rejected(os.fsencode(folder.path), _code_of(error), folder, _words(error)))
                continue
            for number in numbers:
                order = self._read_order(folder, number)
                if isinstance(order, MediaOrderFound):
                    found[order.sha256] = order
                else:
                    rejected.append(order)
        return [*roots, *rejected[:REJECTED_MAX], MediaSeen(tuple(found.values()), clock)]

    def chunk_sources(self, source: Source) -> Sequence[ChunkSource]:
        """Return the medium where the chunks of an order lie."""
        assert source.media is not None, "only an order from a medium has its chunks there"
        return (MediaChunks(self, source.media),)

    def copy(
        self,
        order: MediaOrderTaken,
        folder: str,
        path: Path,
        *,
        size_bytes: int,
        sha256: str,
        is_cancelled: Callable[[], bool],
        on_progress: Progress = lambda _percentage: None,
    ) -> None:
        """Bring a file from the order's medium to ``path``; what is there already is not read again.

        Raises:
            StepError: ``media_missing``: it is not there at present. Or it is another file, or the disk's fault.
            CancelledError: ``is_cancelled`` said so.
        """
        if path.is_file() and path.stat().st_size == size_bytes and file_digest(path) == sha256:
            return
        part, digest, copied_bytes = path.with_name(f"{path.name}.part"), hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for block in self.blocks(order, folder, sha256, size_bytes):
                    if is_cancelled():
                        raise CancelledError
                    file.write(block)
                    digest.update(block)
                    copied_bytes += len(block)
                    on_progress(100 * copied_bytes / size_bytes)
            if digest.hexdigest() != sha256:
                part.unlink()
                raise StepError(ErrorCode.CHECKSUM_MISMATCH, f"{folder}/{sha256[:12]}: the medium has other bytes")
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise from_os_error(error) from error

    def blocks(self, order: MediaOrderTaken, folder: str, sha256: str, bytes_max: int) -> Iterator[bytes]:
        """Yield a file of the order's medium piece by piece, as it is there.

        Raises:
            StepError: ``media_missing``: the medium, or the file, is not there at present. Else the medium's fault.
        """
        place = f"{folder}/{sha256[:12]}"
        medium = self._medium_of(order)
        try:
            yield from medium.blocks(folder, sha256, bytes_max=bytes_max)
        except FileNotFoundError as error:
            self._medium_of(order)
            missing = f"{place}: is not on the medium of order {order.number}; copy it there whole"
            raise StepError(ErrorCode.MEDIA_MISSING, missing) from error
        except (OSError, MediaFileError) as error:
            self._medium_of(order)  # one that was pulled out fails in many ways
            raise StepError(ErrorCode.IO_ERROR, f"{place}: {_words(error)}") from error

    def _medium_of(self, order: MediaOrderTaken) -> MediaFolder:
        for folder in self._folders():
            try:
                envelope = folder.read(ORDERS, order_name(order.number), bytes_max=ORDER.bytes_max)
            except (OSError, MediaFileError):
                continue
            if hashlib.sha256(envelope).hexdigest() == order.sha256:
                return folder
        raise StepError(ErrorCode.MEDIA_MISSING, f"no medium with order {order.number} is there; plug it in again")

    def _folders(self) -> list[MediaFolder]:
        if not glob.has_magic(self._pattern):
            return [MediaFolder(Path(self._pattern))]
        return [MediaFolder(Path(path)) for path in sorted(glob.glob(self._pattern))[:FOLDERS_MAX]]  # noqa: PTH207 - absolute

    def _learn(self, folder: MediaFolder) -> list[Event]:
        """Follow the trust roots on a medium, if there are newer ones; they must follow from ours."""
        try:
            document = folder.read(TRUST_FILE, bytes_max=TRUST.bytes_max)
        except FileNotFoundError:
            return []
        root = self._trust.learn(document)
        return [] if root is None else [RootChanged(root)]

    def _read_order(self, folder: MediaFolder, number: int) -> MediaOrderFound | MediaRejected:
        name = order_name(number)
        try:
            envelope = folder.read(ORDERS, name, bytes_max=ORDER.bytes_max)
        except (OSError, MediaFileError) as error:
            return _rejected(os.fsencode(folder.path / name), _code_of(error), folder, f"{name}: {_words(error)}")
        try:
            order = decode(MediaOrder, self._trust.open_media_order(envelope), ORDER)
        except SignatureError as error:
            return _rejected(envelope, ErrorCode.SIGNATURE_INVALID, folder, f"{name}: {error}")
        except DecodeError as error:
            return _rejected(envelope, ErrorCode.INVALID_ORDER, folder, f"{name}: {error}")
        if order.number != number:
            return _rejected(envelope, ErrorCode.INVALID_ORDER, folder, f"{name}: is order {order.number}; rename it")
        return MediaOrderFound(order, hashlib.sha256(envelope).hexdigest())


class MediaChunks:
    """The chunks on the medium of one order.

    Args:
        media: Where it is.
        order: Which one.
    """

    name = "media"

    def __init__(self, media: Media, order: MediaOrderTaken) -> None:
        self._media = media
        self._order = order

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return what the medium has under the name of ``chunk``.

        Raises:
            StepError: ``media_missing``: the medium is gone, or not complete; that is no reason to give it up.
            ChunkFailedError: Anything else.
        """
        go_on()
        try:
            return b"".join(self._media.blocks(self._order, "chunks", chunk.sha256, chunk.size_bytes))
        except StepError as error:
            if error.code is ErrorCode.MEDIA_MISSING:
                raise
            raise ChunkFailedError(str(error)) from error

    def close(self) -> None:
        """Nothing is kept open."""


class MediaWatch:
    """Looks at the media, on a thread of its own.

    Args:
        media: They.
        clock: What the device's clock shows, in seconds since the epoch.
        post: Takes what was seen.
    """

    def __init__(self, media: Media, clock: Callable[[], float], post: Callable[[Event], None]) -> None:
        self._media = media
        self._clock = clock
        self._post = post
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="media", daemon=True)

    def start(self) -> None:
        """Look at once, and then now and then."""
        self._thread.start()

    def end(self) -> None:
        """Look no more; a look at a medium that does not answer is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            for event in self._media.look(self._clock()):
                self._post(event)
            self._ended.wait(LOOK_SECONDS)


def _rejected(data: bytes, code: ErrorCode, folder: MediaFolder, message: str) -> MediaRejected:
    # The name of a mounted medium is its maker's: no bytes that are no text, and no new line in a log.
    place = os.fsencode(folder.path).decode(errors="replace")
    text = f"{place}: {message}".encode("unicode_escape").decode()
    return MediaRejected(hashlib.sha256(data).hexdigest(), code, text)


def _code_of(error: Exception) -> ErrorCode:
    if isinstance(error, DecodeError | TrustError):
        return ErrorCode.SIGNATURE_INVALID
    is_fault = isinstance(error, OSError) and error.errno not in (errno.ELOOP, errno.ENOTDIR)
    return ErrorCode.IO_ERROR if is_fault else ErrorCode.INVALID_ORDER


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
