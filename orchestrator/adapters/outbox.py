"""What is still to be sent, and what was seen: one SQLite file, so that both change together or not at all.

A notification is made in the same transaction in which what it is about is remembered: a process that is killed at any
moment has either both remembered and queued it, or neither, and then finds it again. It leaves the file only once the
receiver has it; killed between the two, it is sent again with the same id.
"""

import fcntl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from sqlite_utils import Database

from orchestrator.adapters.database import open_for_writing, transaction, translated
from schemas.errors import FleetError

PER_DESTINATION_MAX: Final = 1_000
"""So many notifications wait for one destination; of more the oldest goes."""
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS waiting (
        destination TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, body BLOB NOT NULL,
        made_at REAL NOT NULL, due_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (destination, id)) STRICT""",
)


class OutboxError(FleetError):
    """The caller's fault: two processes on one queue would send everything twice."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification on its way to one destination.

    Attributes:
        body: What is sent, the same bytes with every attempt.
        made_at: When it was queued, in seconds since the epoch.
        due_at: When it is tried next.
        attempts: How many have failed.
    """

    destination: str
    id: str
    title: str
    body: bytes
    made_at: float
    due_at: float
    attempts: int = 0


class Outbox:
    """The file; one process at a time.

    Args:
        path: Made if it does not exist, for its owner alone; None keeps all in memory.

    Raises:
        OutboxError: Another process has it.
        JournalError: It cannot be opened or written, here and in all methods.
    """

    def __init__(self, path: Path | None) -> None:
        self._place = ":memory:" if path is None else str(path)
        self._lock: IO[bytes] | None = None
        if path is not None:
            self._lock = _locked(path)
        self._database = _opened(self._place)

    def __enter__(self) -> Self:
        """Use it for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def seen(self) -> dict[str, str]:
        """Return what was remembered."""
        with translated(self._place):
            return {row["key"]: row["text"] for row in self._database.query("SELECT key, text FROM seen")}

    def record(self, changes: Mapping[str, str | None], deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Remember ``changes`` (None forgets) and queue ``deliveries``, all or nothing, durably.

        Returns:
            What had to go because too much waits for its destination.
        """
        dropped: list[Delivery] = []
        with transaction(self._database, self._place):
            for key, text in changes.items():
                if text is None:
                    self._database.execute("DELETE FROM seen WHERE key = ?", [key])
                else:
                    self._database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", [key, text])
            for each in deliveries:
                row = (each.destination, each.id, each.title, each.body, each.made_at, each.due_at, each.attempts)
                self._database.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                dropped += self._make_room(each.destination)
        return dropped

    def keep_only(self, destinations: Iterable[str]) -> int:
        """Forget what waits for destinations that are gone; return how much that was."""
        names = list(destinations)
        marks = ", ".join("?" for _ in names)
        with transaction(self._database, self._place):
            query = f"DELETE FROM waiting WHERE destination NOT IN ({marks})"  # noqa: S608 - marks only
            return int(self._database.execute(query, names).rowcount)

    def due(self, destination: str, now: float) -> Delivery | None:
        """Return what is to be tried now, the oldest first."""
        query = "SELECT * FROM waiting WHERE destination = ? AND due_at <= ? ORDER BY made_at, rowid LIMIT 1"
        with translated(self._place):
            return next((Delivery(**row) for row in self._database.query(query, [destination, now])), None)

    def next_due(self, destination: str) -> float | None:
        """Return when something is to be tried next; None if nothing waits."""
        query = "SELECT min(due_at) AS at FROM waiting WHERE destination = ?"
        with translated(self._place):
            (row,) = self._database.query(query, [destination])
        return None if row["at"] is None else float(row["at"])

    def done(self, delivery: Delivery) -> None:
        """Forget a delivery: it has arrived, or never will."""
        with transaction(self._database, self._place):
            self._database.execute("DELETE FROM waiting WHERE destination = ? AND id = ?", _key(delivery))

    def postpone(self, delivery: Delivery, due_at: float) -> None:
        """Note an attempt that failed and when the next is due."""
        with transaction(self._database, self._place):
            self._database.execute(
                "UPDATE waiting SET attempts = attempts + 1, due_at = ? WHERE destination = ? AND id = ?",
                [due_at, *_key(delivery)],
            )

    def close(self) -> None:
        """Close the file and let others have it."""
        self._database.conn.close()
        if self._lock is not None:
            self._lock.close()

    def _make_room(self, destination: str) -> list[Delivery]:
        query = "SELECT * FROM waiting WHERE destination = ? ORDER BY made_at DESC, rowid DESC LIMIT -1 OFFSET ?"
        over = [Delivery(**row) for row in self._database.query(query, [destination, PER_DESTINATION_MAX])]
        for each in over:
            self._database.execute("DELETE FROM waiting WHERE destination = ? AND id = ?", _key(each))
        return over


def _key(delivery: Delivery) -> list[str]:
    return [delivery.destination, delivery.id]


def _opened(place: str) -> Database:
    database = open_for_writing(place)
    with transaction(database, place):
        for table in _TABLES:
            database.execute(table)
    return database


def _locked(path: Path) -> IO[bytes]:
    try:
        path.touch(mode=0o600)
        lock = path.with_name(path.name + ".lock").open("wb")
    except OSError as error:
        raise OutboxError(f"{path}: {error.strerror}; name another file under 'queue:'") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OutboxError(
            f"{path}: another process sends from it; end that one, or name another under 'queue:'"
        ) from error
    return lock
