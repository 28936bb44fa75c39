"""The journal: every fact the orchestrator decided, appended durably before anything is done about it.

It is the audit and the outbox in one. Each entry holds the hash of the one before::

    hash = SHA-256(previous_hash + JSON [seq, at, epoch, kind, body])

so that a changed, inserted or missing entry breaks the chain at its place. Entries above ``performed_seq`` may not have
had their effects yet; after a crash these are performed again, which is harmless because effects are idempotent.

One process writes. Who starts takes the next epoch, and from then on the one before is refused: it must exit.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sqlite_utils import Database

from orchestrator.adapters.database import (
    JournalCorruptError,
    JournalError,
    check,
    open_for_reading,
    open_for_writing,
    transaction,
    translated,
    user_version,
)
from schemas.documents import AuditRecord
from schemas.errors import FleetError
from schemas.times import format_timestamp

__all__ = [
    "FIRST_HASH",
    "FencedError",
    "Journal",
    "JournalCorruptError",
    "JournalError",
    "JournalReader",
    "StoredEntry",
    "Verification",
]

JOURNAL_NAME: Final = "journal.db"
"""In the orchestrator's folder."""
SCHEMA_VERSION: Final = 1
FIRST_HASH: Final = "0" * 64
"""What the first entry holds as the hash before it."""
_PAGE_ENTRIES: Final = 500


class FencedError(FleetError):
    """Another process took over with a higher epoch; this one must exit and touch nothing."""


class Verification(NamedTuple):
    """How far a chain is whole: worth remembering elsewhere, because only that shows that a tail was cut off."""

    entry_count: int
    head_hash: str


class StoredEntry(NamedTuple):
    """One entry as it stands in the journal, column by column.

    Attributes:
        seq: Place in the journal, from 1 without gaps.
        at: When it was decided, in seconds since the epoch.
        epoch: Of the process that decided.
        kind: What happened.
        body: The details as JSON text.
        previous_hash: Of the entry before.
        hash: Of this entry and, through the chain, of all before.
    """

    seq: int
    at: float
    epoch: int
    kind: str
    body: str
    previous_hash: str
    hash: str

    def record(self) -> AuditRecord:
        """Return the entry as it is published."""
        return AuditRecord(
            seq=self.seq,
            at=format_timestamp(self.at),
            epoch=self.epoch,
            kind=self.kind,
            body=json.loads(self.body),
            previous_hash=self.previous_hash,
            hash=self.hash,
        )


class JournalReader:
    """What can be read of a journal, also while its orchestrator runs; made by ``Journal.open_reader``.

    Args:
        database: Open connection.
        place: How errors name the journal.
    """

    def __init__(self, database: Database, place: str) -> None:
        self._database = database
        self._place = place

    @property
    def performed_seq(self) -> int:
        """The last entry whose effects are known to be performed; 0 at first."""
        with translated(self._place):
            (row,) = self._database.query("SELECT performed_seq FROM outbox")
            return int(row["performed_seq"])

    def hash_at(self, seq: int) -> str | None:
        """Return the hash of one entry; None if there is no such entry."""
        with translated(self._place):
            found = list(self._database.query("SELECT hash FROM entries WHERE seq = ?", (seq,)))
            return str(found[0]["hash"]) if found else None

    def read(self, after_seq: int = 0) -> Iterator[StoredEntry]:
        """Yield the entries above ``after_seq`` in order; holds no lock between pages."""
        while True:
            with translated(self._place):
                rows = self._database.execute(
                    "SELECT seq, at, epoch, kind, body, previous_hash, hash FROM entries WHERE seq > ?"
                    " ORDER BY seq LIMIT ?",
                    (after_seq, _PAGE_ENTRIES),
                )
                page = list(map(StoredEntry._make, rows))
            yield from page
            if len(page) < _PAGE_ENTRIES:
                return
            after_seq = page[-1].seq

    def verify(self, remembered: Verification | None = None) -> Verification:
        """Recompute the whole chain.

        Args:
            remembered: An earlier result; the journal must still hold that head.

        Raises:
            JournalCorruptError: At the first entry that is missing, changed or out of order, or if the journal ends
                before what was performed or remembered.
        """
        performed_seq = self.performed_seq
        count, head = 0, FIRST_HASH
        for entry in self.read():
            if entry.seq != count + 1:
                raise JournalCorruptError(f"{self._place}: entry {count + 1} is missing; restore the last backup")
            recomputed = _hash(head, entry.seq, entry.at, entry.epoch, entry.kind, entry.body)
            if (entry.previous_hash, entry.hash) != (head, recomputed):
                raise JournalCorruptError(f"{self._place}: entry {entry.seq} was changed; restore the last backup")
            count, head = entry.seq, entry.hash
            if remembered and count == remembered.entry_count and head != remembered.head_hash:
                raise JournalCorruptError(
                    f"{self._place}: entry {count} is not the one remembered; history was rewritten"
                )
        expected = max(performed_seq, remembered.entry_count if remembered else 0)
        if count < expected:
            raise JournalCorruptError(
                f"{self._place}: entry {count + 1} is missing, it once reached {expected}; restore the last backup"
            )
        return Verification(count, head)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class Journal(JournalReader):
    """The journal as its one writer sees it.

    Args:
        path: The file, made if it is not there; None keeps everything in memory.
        note_commit: Told how long each commit of entries took, in seconds.

    Raises:
        JournalError: It cannot be opened or is of a newer version.
        JournalCorruptError: SQLite finds the file damaged.
    """

    def __init__(self, path: Path | None, note_commit: Callable[[float], None] = lambda _seconds: None) -> None:
        place = str(path or ":memory:")
        super().__init__(open_for_writing(place), place)
        self._epoch: int | None = None
        self._head: tuple[int, str] | None = None
        """Number and hash of the last entry, as long as nobody else may have written one."""
        self._is_together = False
        self._note_commit = note_commit
        try:
            self._set_up()
            check(self._database, place, SCHEMA_VERSION)
            self._performed_seq = self._performed_seq_stored = super().performed_seq
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def open_reader(cls, path: Path) -> JournalReader:
        """Open an existing journal for reading only; its writer may be running.

        Raises:
            JournalError: It is not there, cannot be read or is of a newer version.
            JournalCorruptError: SQLite finds the file damaged.
        """
        database = open_for_reading(path)
        try:
            check(database, str(path), SCHEMA_VERSION)
        except BaseException:
            database.close()
            raise
        return JournalReader(database, str(path))

    @property
    def performed_seq(self) -> int:
        """The last entry whose effects are performed; after a crash possibly lower, never higher, than before it."""
        return self._performed_seq

    def mark_performed(self, seq: int) -> None:
        """Note that the effects of all entries up to ``seq`` are performed; reaches the disk with the next append."""
        self._performed_seq = max(self._performed_seq, seq)

    def open_epoch(self, at: float, above: int = 0) -> int:
        """Take over as the only writer and return the new epoch, one above all before and ``above``.

        Raises:
            JournalError: It cannot be written.
        """
        with transaction(self._database, self._place):
            (row,) = self._database.query("SELECT coalesce(max(epoch), 0) AS epoch FROM epochs")
            epoch = max(int(row["epoch"]), above) + 1
            self._database.execute("INSERT INTO epochs (epoch, opened_at) VALUES (?, ?)", (epoch, at))
        self._epoch, self._head = epoch, None
        self._performed_seq = self._performed_seq_stored = super().performed_seq
        return epoch

    def confirm(self) -> None:
        """Do nothing as long as this is the only writer.

        Raises:
            FencedError: Another process took over.
        """
        self._check_epoch()

    def probe(self) -> None:
        """Write what was performed, as often as asked, to see that the disk still takes it.

        Raises:
            FencedError: Another process took over.
            JournalError: Disk full, read-only, locked or broken.
        """
        with transaction(self._database, self._place):
            if self._epoch is not None:
                self._check_epoch()
            self._database.execute("UPDATE outbox SET performed_seq = max(performed_seq, ?)", (self._performed_seq,))

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        """Append entries, all or none; when it returns they survive a power cut.

        Args:
            rows: Kind and body as JSON text of an object, in order.
            at: When they were decided, in seconds since the epoch.

        Returns:
            The records to publish, one for each row.

        Raises:
            FencedError: Another process took over; nothing was appended.
            JournalError: Disk full, read-only, locked or broken; act on none of the rows.
        """
        assert math.isfinite(at), "a moment is a finite number"
        if not rows:
            return ()
        with self.together(), translated(self._place):
            epoch = self._begin()
            entries = self._chain(rows, float(at), epoch)
            records = tuple(entry.record() for entry in entries)
            self._database.conn.executemany(
                "INSERT INTO entries (seq, at, epoch, kind, body, previous_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
                entries,
            )
            self._head = entries[-1].seq, entries[-1].hash
        return records

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make everything that is appended within one transaction: durable when the block ends, all or none.

        Until then act on none of it. If the block fails, what was decided in it was not: the process must end.

        Raises:
            JournalError: It could not be committed.
        """
        if self._is_together:
            yield
            return
        self._is_together = True
        try:
            yield
            if self._database.conn.in_transaction:
                with translated(self._place):
                    began = time.perf_counter()
                    self._store_performed()
                    self._database.execute("COMMIT")
                    self._note_commit(time.perf_counter() - began)
        except BaseException:
            self._head = None
            self._database.rollback()
            raise
        finally:
            self._is_together = False

    def _begin(self) -> int:
        """Begin the transaction if there is none yet; return our epoch, which is still the newest."""
        if self._database.conn.in_transaction:
            assert self._epoch is not None, "open_epoch comes first"
            return self._epoch
        self._database.execute("BEGIN IMMEDIATE")
        return self._check_epoch()

    def close(self) -> None:
        """Store what was performed and let go of the file; doing it twice changes nothing."""
        try:
            if self._epoch is not None:
                with contextlib.suppress(FencedError), transaction(self._database, self._place):
                    self._check_epoch()
                    self._store_performed()
        finally:
            self._epoch = None
            super().close()

    def _check_epoch(self) -> int:
        assert self._epoch is not None, "open_epoch comes first"
        (newest,) = self._database.execute("SELECT max(epoch) FROM epochs").fetchone()
        if newest != self._epoch:
            raise FencedError(f"{self._place}: epoch {newest} took over from {self._epoch}; this process must exit")
        return self._epoch

    def _chain(self, rows: Sequence[tuple[str, str]], at: float, epoch: int) -> list[StoredEntry]:
        if self._head is None:
            last = next(self._database.query("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"), None)
            self._head = (last["seq"], last["hash"]) if last else (0, FIRST_HASH)
        seq, previous = self._head
        entries: list[StoredEntry] = []
        for kind, body in rows:
            seq += 1
            digest = _hash(previous, seq, at, epoch, kind, body)
            entries.append(StoredEntry(seq, at, epoch, kind, body, previous, digest))
            previous = digest
        return entries

    def _store_performed(self) -> None:
        if self._performed_seq != self._performed_seq_stored:
            self._database.execute("UPDATE outbox SET performed_seq = ?", (self._performed_seq,))
            self._performed_seq_stored = self._performed_seq

    def _set_up(self) -> None:
        """Make the tables of a new file; two processes may try it at the same time."""
        with translated(self._place):
            if user_version(self._database):
                return
        with transaction(self._database, self._place):
            if user_version(self._database) or self._database.table_names():
                return
            self._database.table("epochs").create({"epoch": int, "opened_at": float}, pk="epoch", strict=True)
            self._database.table("entries").create(
                {"seq": int, "at": float, "epoch": int, "kind": str, "body": str, "previous_hash": str, "hash": str},
                pk="seq",
                not_null={"at", "epoch", "kind", "body", "previous_hash", "hash"},
                foreign_keys=[("epoch", "epochs", "epoch")],
                strict=True,
            )
            self._database.table("outbox").create({"performed_seq": int}, pk="performed_seq", strict=True)
            self._database.execute("INSERT INTO outbox (performed_seq) VALUES (0)")
            self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


_ROW: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _hash(previous: str, *row: object) -> str:
    """Return the hash of a row of seq, at, epoch, kind and body."""
    text = _ROW.encode(row)
    return hashlib.sha256(previous.encode() + text.encode()).hexdigest()
