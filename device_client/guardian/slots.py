"""The slots in the guardian's hands: read one again, end what runs, start another.

How an application is started and ended and how the link is written are the agent's own functions.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import SERVING, SLOTS, Application, Host, Instance
from device_client.adapters.layout import DAMAGED, MARKER, VERSION, tree_digest

GRACE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Content:
    """What a slot holds, as far as it takes to start it."""

    version: str
    command: tuple[str, ...]


def check(root: Path, slot: str) -> Content | None:
    """Read every file of ``slot`` and return what it holds; None if it is not what was verified."""
    content = described(root, slot)
    try:
        marker = json.loads((root / slot / MARKER).read_bytes())
        return content if content is not None and marker["tree_digest"] == tree_digest(root / slot) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def described(root: Path, slot: str) -> Content | None:
    """Return what ``slot`` says that it holds; None if it bears no marker for that."""
    folder = root / slot
    if slot not in SLOTS:
        return None
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        described = json.loads((folder / VERSION).read_bytes())
        if described["manifest_sha256"] != marker["manifest_sha256"]:
            return None
        return Content(str(described["version"]), tuple(str(part) for part in described["command"]))
    except (OSError, *DAMAGED):
        return None


def serving(host: Host) -> Instance | None:
    """Return the application that serves.

    Raises:
        OSError: Nobody knows.
    """
    return next((found for found in host.find() if found.role == SERVING), None)


def end_others(host: Host, slot: str) -> None:
    """End every application of this device but the one that serves from ``slot``.

    Raises:
        OSError: Something does not end even when it is killed.
    """
    kept = next((found for found in host.find() if (found.slot, found.role) == (slot, SERVING)), None)
    if not host.end_others(kept, GRACE_SECONDS):
        raise OSError("something that an application has started does not end")


def start(host: Host, slot: str, content: Content, port: int) -> Instance:
    """Start the application of ``slot``.

    Raises:
        OSError: It cannot be started.
    """
    return host.start(Application(slot, content.version, content.command, port, SERVING))
