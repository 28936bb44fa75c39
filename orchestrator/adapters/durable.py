"""Files of the orchestrator that survive a power cut."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a power cut leaves the old file or the new one, never a part."""
    path.parent.mkdir(exist_ok=True)
    pending = path.with_name(f".{path.name}.pending")
    with pending.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
