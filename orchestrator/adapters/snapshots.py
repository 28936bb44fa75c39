"""The state on disk, beside the journal: a restart folds only what was written since.

A snapshot is a cache. It is used only if it is whole, was made by this very program, and names an entry that the
journal holds; otherwise the journal is folded from its beginning, which takes longer and ends in the same state.
"""

import hashlib
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import orchestrator
import schemas
from orchestrator.adapters.caches import Cache
from orchestrator.adapters.journal import JournalReader
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.core.state import State

log = logging.getLogger(__name__)

SNAPSHOT_NAME: Final = "state.snapshot"
EACH_ENTRIES: Final = 10_000
"""A snapshot is due when the journal has grown by so much: that is what a restart has to fold at most."""

Made = tuple[dict[str, Any], bytes]


class Snapshots:
    """The one snapshot of an orchestrator.

    Args:
        path: Its file.
        journal: Whose state it is.
    """

    def __init__(self, path: Path, journal: JournalReader) -> None:
        self._cache = Cache(path, "the journal is folded")
        self._journal = journal

    def load(self) -> tuple[State, int] | None:
        """Return the state and the last entry that it holds; None if there is none that can be used."""
        read = self._cache.read()
        if read is None:
            return None
        about, data = read
        try:
            held = self._journal.hash_at(about["seq"])  # None as well if what it was made of was never committed.
            if about["program"] == program() and held is not None and held == about["hash"]:
                return thaw(data), int(about["seq"])
        except (ValueError, KeyError, TypeError) as error:
            self._cache.refuse(error)
            return None
        log.info("snapshot not used, the journal is folded: of another program or another journal")
        return None

    def make(self, state: State, seq: int) -> Made:
        """Return what is kept of a state that holds all entries up to ``seq``."""
        return {"program": program(), "seq": seq, "hash": self._journal.hash_at(seq)}, freeze(state)

    def write(self, made: Made) -> None:
        """Keep what ``make`` returned; any thread may call it. If the disk refuses, only a restart takes longer."""
        self._cache.write(*made)


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
