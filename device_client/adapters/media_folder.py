"""Reading one medium: plain files in plain folders, and never more of them than announced.

A medium is the most hostile thing that a device reads: whoever has it in his hands wrote its file system. So nothing on
it is followed (no symbolic link, also not the folder itself), opened (no device, no pipe), executed or written.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from schemas.media import ORDERS

ORDERS_MAX: Final = 64
"""So many orders of a medium are read, the newest by their names."""
_ENTRIES_MAX: Final = 4096
_BLOCK_BYTES: Final = 256 * 1024
_ORDER_NAME: Final = re.compile(r"([1-9][0-9]{0,15})\.json")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MediaFileError(Exception):
    """The medium's fault: what is there is no plain file, or larger than it may be. The text names the place."""


class MediaFolder:
    """A folder on a medium; opened anew for each read, so that the medium can be unmounted in between.

    Args:
        path: Where it is; only its last part may be on the medium.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def order_numbers(self) -> list[int]:
        """Return the numbers of the orders there, the highest first; none if there is no medium.

        Raises:
            OSError: It cannot be read, or a folder is none.
        """
        try:
            with self._open(ORDERS) as folder, os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, _ENTRIES_MAX)]
        except FileNotFoundError:
            return []
        found = (_ORDER_NAME.fullmatch(name) for name in names)
        return sorted((int(match[1]) for match in found if match is not None), reverse=True)[:ORDERS_MAX]

    def read(self, *place: str, bytes_max: int) -> bytes:
        """Return a whole file.

        Args:
            place: Its folder, if it is in one, and its name.
            bytes_max: How large it may be.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be read.
            MediaFileError: It is no file, or too large.
        """
        return b"".join(self.blocks(*place, bytes_max=bytes_max))

    def blocks(self, *place: str, bytes_max: int) -> Iterator[bytes]:
        """Yield a file piece by piece; see ``read``."""
        *folders, name = place
        with self._open(*folders) as folder:
            _check(os.stat(name, dir_fd=folder, follow_symlinks=False), "/".join(place), bytes_max)
            descriptor = os.open(name, _FILE, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            _check(os.fstat(descriptor), "/".join(place), bytes_max)
            left = bytes_max
            while block := file.read(min(_BLOCK_BYTES, left + 1)):
                left -= len(block)
                if left < 0:
                    raise MediaFileError(f"{'/'.join(place)}: has more than {bytes_max} bytes")
                yield block

    @contextmanager
    def _open(self, *folders: str) -> Iterator[int]:
        descriptor = os.open(self.path, _FOLDER)
        try:
            for name in folders:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def _check(found: os.stat_result, place: str, bytes_max: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise MediaFileError(f"{place}: is no plain file")
    if found.st_size > bytes_max:
        raise MediaFileError(f"{place}: has {found.st_size} bytes, at most {bytes_max} are read")
