"""Writing media: a release and a signed order into a folder that somebody carries to devices without a network.

The order comes last, after everything that it needs was handed to the medium, so half a medium orders nothing. A copy
of each order stays in the orchestrator's folder, in ``media/``: it says what was ordered, and no number is used twice.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.adapters.durable import sync_folder
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.staged_files import files_of
from orchestrator.adapters.staging import StagedFile
from orchestrator.core.releases import ReleaseError, StoredRelease
from schemas.codec import encode
from schemas.dsse import MEDIA_ORDER_TYPE, seal
from schemas.errors import FleetError
from schemas.media import ORDER, ORDERS, TRUST_FILE, MediaOrder, order_name

ISSUED: Final = "media"
_BLOCK_BYTES: Final = 1024 * 1024


class MediaError(FleetError):
    """The operator's fault: a medium that cannot be written or is too small, or an order for too many."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is on a medium for a release.

    Attributes:
        files: How many,
        size_bytes: and what they have.
        written_bytes: What of it was not there before.
    """

    files: int
    size_bytes: int
    written_bytes: int


def issued_numbers(folder: Path) -> list[int]:
    """Return the numbers of all orders that were made with an orchestrator's folder."""
    return sorted(int(path.stem) for path in (folder / ISSUED).glob("*.json") if path.stem.isdecimal())


def next_number(folder: Path, now: float) -> int:
    """Return a number above all that were given: the Unix time, so also above those that a lost folder knew of."""
    return max(int(now), *(number + 1 for number in [0, *issued_numbers(folder)[-1:]]))


def write_release(
    medium: Path,
    store: ReleaseStore,
    release: StoredRelease,
    archs: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Written:
    """Put a release on a medium, laid out like the store; what is there already and right is left as it is.

    Args:
        medium: The folder; made if it does not exist.
        store: Has the release.
        release: Which one.
        archs: Only for these; none means all.
        on_progress: Told how many files are there, and of how many.

    Raises:
        MediaError: It is full, or cannot be written.
        ReleaseError: A file of the release is missing or damaged.
    """
    with_archive = any(each.unpacked_bytes == 0 for each in release.by_arch.values())  # no content has no chunks
    files = files_of(store, release, archs, with_archive=with_archive)
    try:
        medium.mkdir(parents=True, exist_ok=True)
        missing = [each for each in files if not _is_there(medium, each)]
        _check_room(medium, store, missing)
        written_bytes = 0
        for number, each in enumerate(missing, start=1 + len(files) - len(missing)):
            written_bytes += _copy(store, medium, each)
            on_progress(number, len(files))
        for each in missing:  # after all were written: a stick is slow when it is waited for in between
            _sync(medium / str(each.item))
        size_bytes = sum((medium / str(each.item)).stat().st_size for each in files)
    except OSError as error:
        raise _explain(error, medium) from error
    return Written(len(files), size_bytes, written_bytes)


def write_order(medium: Path, folder: Path, order: MediaOrder, key: Ed25519PrivateKey, roots: bytes | None) -> None:
    """Sign an order and put it on a medium that has its release, with the trust roots.

    Args:
        medium: The folder.
        folder: The orchestrator's, where a copy is kept.
        order: Its number is not used yet.
        key: The command key.
        roots: As devices are told them; None if there are none.

    Raises:
        MediaError: The medium cannot be written, or the order names too many devices.
    """
    envelope = seal(MEDIA_ORDER_TYPE, encode(order), key)
    if len(envelope) > ORDER.bytes_max:
        raise MediaError(
            f"the order has {len(envelope)} bytes, at most {ORDER.bytes_max}: name a group, or make several"
        )
    issued = folder / ISSUED / order_name(order.number)
    try:
        issued.parent.mkdir(exist_ok=True)
        with issued.open("xb") as file:  # two who export at once do not get the same number
            file.write(envelope)
    except OSError as error:
        raise MediaError(f"{issued}: {error.strerror}; make it writable, or type the same command again") from error
    try:
        if roots is not None:
            _write_durably(medium / TRUST_FILE, roots)
        _write_durably(medium / ORDERS / order_name(order.number), envelope)
    except OSError as error:
        issued.unlink()
        raise _explain(error, medium) from error


def _is_there(medium: Path, file: StagedFile) -> bool:
    path = medium / str(file.item)
    return path.is_file() and not path.is_symlink() and file.item.is_at(path)


def _check_room(medium: Path, store: ReleaseStore, files: Sequence[StagedFile]) -> None:
    """Say beforehand if a medium is too small.

    Raises:
        MediaError: It is.
        ReleaseError: A file is missing.
    """
    block = os.statvfs(medium).f_frsize or 1
    try:
        sizes = [(store.folder / str(each.item)).stat().st_size for each in files]
    except FileNotFoundError as error:
        raise ReleaseError(f"{error.filename}: is missing; publish the release again") from error
    needed_bytes = sum(-(-size // block) * block for size in sizes)
    free_bytes = shutil.disk_usage(medium).free
    if needed_bytes > free_bytes:
        raise MediaError(
            f"{medium}: {needed_bytes} bytes are needed and {free_bytes} are free; nothing was written. "
            "Free some space there or take a larger medium, and type the same command again"
        )


def _copy(store: ReleaseStore, medium: Path, file: StagedFile) -> int:
    """Copy a file, proven, and return its size.

    Raises:
        OSError: The medium's fault.
        ReleaseError: The store's.
    """
    source, copied_bytes = store.folder / str(file.item), 0
    if not file.item.is_at(source):
        raise ReleaseError(f"{source}: is damaged; publish the release again")
    with source.open("rb") as given, _replacing(medium / str(file.item)) as taken:
        while block := given.read(_BLOCK_BYTES):
            taken.write(block)
            copied_bytes += len(block)
    return copied_bytes


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that gets the name ``path`` when it is whole; who made the medium does not say where it is written.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    if path.parent.is_symlink():
        raise MediaError(f"{path.parent}: is a symbolic link; remove it, or take another folder")
    pending = path.with_name(f".{path.name}.pending")
    pending.unlink(missing_ok=True)
    try:
        with pending.open("xb") as file:
            yield file
        pending.replace(path)
    except BaseException:
        with suppress(OSError):
            pending.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    with _replacing(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _explain(error: OSError, medium: Path) -> MediaError:
    where = error.filename or medium
    return MediaError(
        f"{where}: {error.strerror or error}; no order was written. Take a medium that can be written and has "
        "room, and type the same command again: what is there already is not copied twice"
    )
