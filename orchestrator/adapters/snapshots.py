"""The state on disk, beside the journal: a restart folds only what was written since.

A snapshot is a cache. It is used only if it is whole, was made by this very program, and names an entry that the
journal holds; otherwise the journal is folded from its beginning, which takes longer and ends in the same state.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Final

import orchestrator
import schemas
from orchestrator.adapters.journal import JournalReader
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.core.state import State

log = logging.getLogger(__name__)

SNAPSHOT_NAME: Final = "state.snapshot"
EACH_ENTRIES: Final = 10_000
"""A snapshot is due when the journal has grown by so much: that is what a restart has to fold at most."""


class Snapshots:
    """The one snapshot of an orchestrator.

    Args:
        path: Its file.
        journal: Whose state it is.
    """

    def __init__(self, path: Path, journal: JournalReader) -> None:
        self._path = path
        self._journal = journal
        self._writing = Lock()

    def load(self) -> tuple[State, int] | None:
        """Return the state and the last entry that it holds; None if there is none that can be used."""
        try:
            head, _, data = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("snapshot not read, the journal is folded: %s", error)
            return None
        try:
            about = json.loads(head)
            is_whole = about["sha256"] == hashlib.sha256(data).hexdigest()
            is_ours = about["program"] == program() and self._journal.hash_at(about["seq"]) == about["hash"]
            if is_whole and is_ours:
                return thaw(data), int(about["seq"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("snapshot not used, the journal is folded: %s", error)
            return None
        log.info("snapshot not used, the journal is folded: %s", "damaged" if not is_whole else "of another program")
        return None

    def make(self, state: State, seq: int) -> bytes:
        """Return the file of a state that holds all entries up to ``seq``."""
        data = freeze(state)
        about = {
            "program": program(),
            "seq": seq,
            "hash": self._journal.hash_at(seq),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        return json.dumps(about).encode() + b"\n" + data

    def write(self, made: bytes) -> None:
        """Put a file from ``make`` in the place of the one before; if the disk refuses, only a restart takes longer.

        Any thread may call it; one is written at a time.
        """
        new = self._path.with_suffix(".new")
        try:
            with self._writing, new.open("wb") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
                new.replace(self._path)
        except OSError as error:
            log.warning("snapshot not written: %s", error)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)


@cache
def program() -> str:
    """Return the digest of everything that the state's form follows from: our own source."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for package, folders in ((schemas, ("",)), (orchestrator, ("core", "planning", "telemetry"))):
        root = Path(str(package.__file__)).parent
        for folder in folders:
            yield from sorted((root / folder).glob("*.py"))
