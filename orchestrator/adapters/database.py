"""The journal's SQLite file: how it is opened, what its transactions promise, and its errors with their remedies.

Source:
    SQLite's documentation of "Write-Ahead Logging" and "PRAGMA synchronous": in WAL mode only FULL makes a commit
    survive a power cut.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlite_utils import Database

from schemas.errors import FleetError

_PRAGMAS: Final = (
    "busy_timeout=5000",  # milliseconds; first, because the next one may already have to wait
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "wal_autocheckpoint=1000",
)
_REMEDIES: Final = {
    "SQLITE_FULL": "free some space on its disk and restart",
    "SQLITE_READONLY": "make the file and its folder writable and restart",
    "SQLITE_BUSY": "another process is writing; stop it",
    "SQLITE_CANTOPEN": "check that its folder exists and is writable",
    "SQLITE_CORRUPT": "keep the file, restore the last backup and restart",
    "SQLITE_NOTADB": "it is no journal; name another file",
    "SQLITE_IOERR": "check the disk and restart; what was written last is decided by reading the journal again",
}


class JournalError(FleetError):
    """The world's fault: disk full, read-only, locked or no journal. Act on nothing that was not appended; restart."""


class JournalCorruptError(JournalError):
    """Entries were changed, lost or damaged. The text names the first bad one."""


def open_for_writing(place: str) -> Database:
    """Open or make the file ``place``, or ``:memory:``, so that a commit survives a power cut.

    Raises:
        JournalError: It cannot be opened.
    """
    return _open(place, uri=False, pragmas=_PRAGMAS)


def open_for_reading(path: Path) -> Database:
    """Open an existing file without the right to change it.

    Raises:
        JournalError: It is not there or cannot be read.
    """
    return _open(f"file:{quote(str(path))}?mode=ro", uri=True, pragmas=("trusted_schema=OFF",))


def _open(name: str, *, uri: bool, pragmas: tuple[str, ...]) -> Database:
    with translated(name):
        connection = sqlite3.connect(name, isolation_level=None, uri=uri)
        try:
            # A damaged text must reach the check of the hashes and not end in a decoder's error.
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            database = Database(connection, execute_plugins=False)
            for pragma in pragmas:
                database.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return database


def check(database: Database, place: str, version: int) -> None:
    """Refuse what is no journal, newer than ``version``, or damaged.

    Raises:
        JournalError: Not a journal, or a newer one.
        JournalCorruptError: SQLite finds the file damaged.
    """
    with translated(place):
        found = user_version(database)
        if found > version:
            raise JournalError(f"{place}: written by a newer tidegate (version {found}); install that one")
        if found < 1:
            raise JournalError(f"{place}: {_REMEDIES['SQLITE_NOTADB']}")
        (row,) = database.query("PRAGMA quick_check(1)")
        if row["quick_check"] != "ok":
            raise JournalCorruptError(f"{place}: {row['quick_check']}; {_REMEDIES['SQLITE_CORRUPT']}")


def user_version(database: Database) -> int:
    """Return the version of the tables; 0 for a new file."""
    (row,) = database.query("PRAGMA user_version")
    return int(row["user_version"])


@contextlib.contextmanager
def transaction(database: Database, place: str) -> Iterator[None]:
    """Do all of the block or nothing; no other process writes meanwhile.

    Raises:
        JournalError: It could not be begun or committed.
    """
    with translated(place):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, once, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        family = "_".join((getattr(error, "sqlite_errorname", None) or "").split("_")[:2])
        remedy = _REMEDIES.get(family, "check the file and its disk, and restart")
        kind = JournalCorruptError if family == "SQLITE_CORRUPT" else JournalError
        raise kind(f"{place}: {error}; {remedy}") from error
