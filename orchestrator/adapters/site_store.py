"""What a site's cache has on its disk: never more than it may, and the least recently used goes first.

The folder is laid out like a release store, so either can be copied into the other. A file stands under its name only
once it is whole, proven and safe from a power cut; what is still coming lies in ``incoming/``. What was there before a
start is proven again before it is given away, so a disk that rots costs a download and no more.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final

from orchestrator.adapters.content import KINDS, Item, item_at
from orchestrator.adapters.durable import sync_folder
from schemas.errors import FleetError

_INCOMING: Final = "incoming"
_TOUCHED_EACH_SECONDS: Final = 60.0
_PART_SECONDS: Final = 24 * 3600.0
"""What was not fetched to its end is kept so long, to go on from."""


class SiteStoreError(FleetError):
    """The operator's fault: a folder that cannot be used. Names it and the remedy."""


class SiteStore:
    """Used inside one event loop, by one process.

    Args:
        folder: Where it is; made if it does not exist.
        bytes_max: What may lie in it.

    Raises:
        SiteStoreError: The folder cannot be written, or another cache uses it.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self.bytes_max = bytes_max
        self.used_bytes = self.evicted_bytes = 0
        self._kept: OrderedDict[Item, int] = OrderedDict()
        self._parts: dict[Item, int] = {}
        self._busy: set[Item] = set()
        self._proven: set[Item] = set()
        self._touched: dict[Item, float] = {}
        try:
            for name in (*KINDS, _INCOMING):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / ".lock")
        except BlockingIOError as error:
            raise SiteStoreError(f"{folder}: another cache uses it; give this one a folder of its own") from error
        except OSError as error:
            raise SiteStoreError(f"{folder}: {error.strerror}; name a folder that can be written") from error
        self._take_stock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, item: Item) -> bool:
        return item in self._kept

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    async def open(self, item: Item) -> tuple[int, int] | None:
        """Return a descriptor and the size of what is there under this name, and note that it is used; else None.

        The caller closes the descriptor; what it reads stays, whatever is evicted meanwhile.
        """
        if item not in self._kept:
            return None
        path = self._folder / str(item)
        try:
            if item not in self._proven:
                if not await asyncio.to_thread(item.is_at, path):
                    self._drop(item)
                    return None
                self._proven.add(item)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            self._drop(item)
            return None
        self._touch(item, path)
        return descriptor, os.fstat(descriptor).st_size

    def open_part(self, item: Item) -> tuple[int, int]:
        """Return a descriptor of the part that is there, or is made, and its size; it is busy until it is left.

        Raises:
            OSError: The disk's fault.
        """
        descriptor = os.open(self._part_path(item), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self._busy.add(item)
        size_bytes = os.fstat(descriptor).st_size
        self._count_part(item, size_bytes)
        return descriptor, size_bytes

    def leave_part(self, item: Item, *, drop: bool) -> None:
        """Nobody writes to the part any more; it is kept to go on from, or removed."""
        self._busy.discard(item)
        if drop:
            self._drop_part(item)

    def make_room(self, item: Item, size_bytes: int) -> bool:
        """Allow the part of ``item`` to grow to ``size_bytes``, at the cost of what was least recently used."""
        while self.used_bytes + size_bytes - self._parts[item] > self.bytes_max:
            if not self.give_up_one():
                return False
        self._count_part(item, size_bytes)
        return True

    def give_up_one(self) -> bool:
        """Remove what is least needed; False if there is nothing that nobody writes to."""
        idle = next((item for item in self._parts if item not in self._busy), None)
        if idle is not None:
            self._drop_part(idle)
            return True
        if not self._kept:
            return False
        item = next(iter(self._kept))
        self.evicted_bytes += self._kept[item]
        self._drop(item)
        return True

    async def keep(self, item: Item, descriptor: int) -> None:
        """Give a part that is whole and proven its name.

        Raises:
            OSError: The disk's fault; there is nothing under that name then.
        """
        part, path = self._part_path(item), self._folder / str(item)

        def move() -> None:
            os.fsync(descriptor)
            part.replace(path)
            sync_folder(path.parent)

        await asyncio.to_thread(move)
        size_bytes = self._parts.pop(item)
        self._busy.discard(item)
        self._kept[item] = size_bytes
        self._proven.add(item)

    def _touch(self, item: Item, path: Path) -> None:
        """Note the use, and after a minute on the disk too, so that a restart knows the order."""
        self._kept.move_to_end(item)
        now = time.monotonic()
        if now - self._touched.get(item, -_TOUCHED_EACH_SECONDS) >= _TOUCHED_EACH_SECONDS:
            self._touched[item] = now
            with contextlib.suppress(OSError):
                os.utime(path)

    def _take_stock(self) -> None:
        """Learn what is there, the least recently used first; whatever has no such name is left alone."""
        found: list[tuple[float, Item, int]] = []
        for folder in KINDS:
            for entry in os.scandir(self._folder / folder):
                item = item_at(folder, entry.name)
                if item is not None and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime, item, about.st_size))
        for _, item, size_bytes in sorted(found, key=lambda each: each[0]):
            self._kept[item] = size_bytes
            self.used_bytes += size_bytes
        now = time.time()  # noqa: TID251 - it is compared with times of the file system
        for entry in os.scandir(self._folder / _INCOMING):
            item = item_at(*entry.name.removesuffix(".part").partition("-")[::2])
            about = entry.stat(follow_symlinks=False)
            if item is not None:
                self._count_part(item, about.st_size)
                if now - about.st_mtime > _PART_SECONDS:
                    self._drop_part(item)
        while self.used_bytes > self.bytes_max and self.give_up_one():
            pass

    def _part_path(self, item: Item) -> Path:
        return self._folder / _INCOMING / f"{item.folder}-{item.sha256}.part"

    def _count_part(self, item: Item, size_bytes: int) -> None:
        self.used_bytes += size_bytes - self._parts.get(item, 0)
        self._parts[item] = size_bytes

    def _drop_part(self, item: Item) -> None:
        self.used_bytes -= self._parts.pop(item, 0)
        with contextlib.suppress(OSError):
            self._part_path(item).unlink()

    def _drop(self, item: Item) -> None:
        self.used_bytes -= self._kept.pop(item, 0)
        self._proven.discard(item)
        self._touched.pop(item, None)
        with contextlib.suppress(OSError):
            (self._folder / str(item)).unlink()


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
