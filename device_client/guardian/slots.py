"""The slots in the guardian's hands: read one again, end what runs, start another.

Which processes are ours, how they are started and how the link is written are the agent's own functions.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.launch import SERVING, launch
from device_client.adapters.layout import APPLICATION_LOG, MARKER, STATE, VERSION, tree_digest
from device_client.adapters.processes import end_group, find

GRACE_SECONDS: Final = 10.0
SLOT_NAMES: Final = ("blue", "green")


@dataclass(frozen=True, slots=True)
class Content:
    """What a slot holds, as far as it takes to start it."""

    version: str
    command: tuple[str, ...]


def check(root: Path, slot: str) -> Content | None:
    """Read every file of ``slot`` and return what it holds; None if it is not what was verified."""
    folder = root / slot
    if slot not in SLOT_NAMES:
        return None
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        described = json.loads((folder / VERSION).read_bytes())
        proofs = (tree_digest(folder), described["manifest_sha256"])
        if proofs != (marker["tree_digest"], marker["manifest_sha256"]):
            return None
        return Content(str(described["version"]), tuple(str(part) for part in described["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running(root: Path) -> str | None:
    """Return the slot whose application runs."""
    return next((slot for _, slot, role in find(root) if role == SERVING), None)


def end_others(root: Path, slot: str) -> None:
    """End every application of this device but the one that serves from ``slot``.

    Raises:
        OSError: Something does not end even when it is killed.
    """
    is_kept = False
    for process, name, role in find(root):
        if (name, role) == (slot, SERVING) and not is_kept:
            is_kept = True
        elif not end_group(process.pid, GRACE_SECONDS):
            raise OSError(f"process group {process.pid} does not end")


def start(root: Path, slot: str, content: Content, port: int) -> subprocess.Popen[bytes]:
    """Start the application of ``slot``.

    Raises:
        OSError: It cannot be started.
    """
    log_path = root / STATE / APPLICATION_LOG
    return launch(root, slot, content.command, version=content.version, port=port, role=SERVING, log_path=log_path)
