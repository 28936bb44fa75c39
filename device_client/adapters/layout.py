"""What of a device's folder agent and guardian must do in the same way; imports nothing but Python.

``active`` is a relative link to a slot. A slot's digest is over path, mode and contents of every file but its marker.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from device_client.adapters.durable import sync_folder

VERSION: Final = ".version"
MARKER: Final = ".verified"
ACTIVE: Final = "active"
ROUTER: Final = "router.conf"
STATE: Final = "state"
RECORD: Final = "record.json"
LOCK: Final = "lock"
APPLICATION_LOG: Final = "application.log"
SMOKE_TEST_LOG: Final = "smoke_test.log"
DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading one of our documents may raise after somebody or something damaged it."""
_BLOCK_BYTES: Final = 1024 * 1024


def read_link(root: Path) -> str | None:
    """Return where the ``active`` link points; None if there is none."""
    try:
        return str((root / ACTIVE).readlink())
    except OSError:
        return None


def write_link(root: Path, slot: str) -> None:
    """Let the link point to ``slot``; a power cut leaves the old link or the new one, never none.

    Raises:
        OSError: It cannot be written.
    """
    pending = root / f"{ACTIVE}.pending"
    pending.unlink(missing_ok=True)
    pending.symlink_to(slot)  # relative, so that the whole folder can be moved
    pending.replace(root / ACTIVE)
    sync_folder(root)


def tree_digest(folder: Path) -> str:
    """Return the digest over path, mode and contents of every file below ``folder`` but its marker.

    Raises:
        ValueError: Something there is neither a file nor a folder.
        OSError: It cannot be read.
    """
    whole = hashlib.sha256()
    for path in sorted(_files(folder)):
        relative = path.relative_to(folder).as_posix()
        if relative in (MARKER, f"{MARKER}.pending"):
            continue
        mode = stat.S_IMODE(path.lstat().st_mode)
        whole.update(f"{relative}\0{mode:o}\0{file_digest(path)}\n".encode())
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a whole file, from its first byte."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, subfolders, names in os.walk(folder, onerror=_raise):
        for name in (*subfolders, *names):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path
            elif not stat.S_ISDIR(mode):
                raise ValueError(f"{path.name} is neither a file nor a folder")


def _raise(error: OSError) -> None:
    raise error
