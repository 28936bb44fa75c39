"""Files that survive a power cut: written beside, made durable, renamed, and the folder made durable too.

A failed fsync is never tried again, since the kernel then calls the lost pages clean; the caller gives up what it was
writing.

Source:
    Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014); Rebello et al., "Can Applications Recover from
    fsync Failures?" (ATC 2020).
"""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``; a power cut leaves the old file or the new one, never a part."""
    pending = path.with_name(f"{path.name}.pending")
    descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
    sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove ``path`` if it is there; afterwards it stays away."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
