"""The broker's memory in SQLite: every change is on disk before the packets that depend on it are sent.

One process owns the database (exclusive lock). WAL with ``synchronous=FULL`` makes each commit one fsync; the server
commits once per turn of its loop, however many messages came in it.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, assert_never

from embedded_broker.codec import Parser, encode
from embedded_broker.errors import PacketError, StoreError
from embedded_broker.outputs import (
    Change,
    IncomingRemoved,
    IncomingSaved,
    OutgoingMoved,
    OutgoingRemoved,
    OutgoingSaved,
    RetainedRemoved,
    RetainedSaved,
    SessionRemoved,
    SessionSaved,
    SubscriptionRemoved,
    SubscriptionSaved,
)
from embedded_broker.packets import Publish, Subscription, Version
from embedded_broker.state import BrokerState, Message, Outgoing, SavedSession, Stage
from embedded_broker.wire import VARINT_MAX

_SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x74676D71  # "tgmq"
_LOCK_TIMEOUT_SECONDS: Final = 1.0
_SCHEMA: Final = """
CREATE TABLE sessions (client_id TEXT PRIMARY KEY, user TEXT, expiry_seconds INTEGER, expires_at REAL) STRICT;
CREATE TABLE subscriptions (
  client_id TEXT, filter TEXT, qos INTEGER, no_local INTEGER, retain_as_published INTEGER, retain_handling INTEGER,
  identifier INTEGER, PRIMARY KEY (client_id, filter)
) STRICT;
CREATE TABLE outgoing (
  client_id TEXT, position INTEGER, packet BLOB, source TEXT, expires_at REAL, qos INTEGER, retain INTEGER,
  identifiers TEXT, packet_id INTEGER, stage INTEGER, PRIMARY KEY (client_id, position)
) STRICT;
CREATE TABLE incoming (client_id TEXT, packet_id INTEGER, PRIMARY KEY (client_id, packet_id)) STRICT;
CREATE TABLE retained (topic TEXT PRIMARY KEY, packet BLOB, source TEXT, expires_at REAL) STRICT;
"""


class Store:
    """An open database.

    Args:
        path: The file; made if it is not there.

    Raises:
        StoreError: It is corrupt, of another program or a newer version, in use, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            self._database = sqlite3.connect(path, isolation_level=None, timeout=_LOCK_TIMEOUT_SECONDS)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def write(self, changes: Iterable[Change]) -> None:
        """Commit changes in one transaction: all are on disk on return, or none.

        Raises:
            StoreError: The disk is full or broken. Nothing that depends on the changes may be sent.
        """
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for change in changes:
                    self._apply(change)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def load(self) -> BrokerState:
        """Read everything.

        Raises:
            StoreError: What is there cannot be understood.
        """
        with self._explained():
            sessions = tuple(self._session(*row) for row in self._rows("SELECT * FROM sessions ORDER BY rowid"))
            retained = self._rows("SELECT packet, source, expires_at FROM retained ORDER BY rowid")
            return BrokerState(sessions, tuple(_message(*row) for row in retained))

    def _session(
        self, client_id: str, user: str | None, expiry_seconds: int | None, expires_at: float | None
    ) -> SavedSession:
        subscriptions = self._rows(
            "SELECT filter, qos, no_local, retain_as_published, retain_handling, identifier"
            " FROM subscriptions WHERE client_id = ? ORDER BY rowid",
            client_id,
        )
        outgoing = self._rows(
            "SELECT packet, source, expires_at, position, qos, retain, identifiers, packet_id, stage"
            " FROM outgoing WHERE client_id = ? ORDER BY position",
            client_id,
        )
        incoming = self._rows("SELECT packet_id FROM incoming WHERE client_id = ? ORDER BY rowid", client_id)
        return SavedSession(
            client_id,
            user,
            expiry_seconds,
            expires_at,
            tuple(
                Subscription(topic_filter, qos, bool(no_local), bool(as_published), handling, identifier)
                for topic_filter, qos, no_local, as_published, handling, identifier in subscriptions
            ),
            tuple(
                Outgoing(
                    position,
                    _message(packet, source, too_old_at),
                    qos,
                    bool(retain),
                    tuple(map(int, identifiers.split())),
                    packet_id,
                    Stage(stage),
                )
                for packet, source, too_old_at, position, qos, retain, identifiers, packet_id, stage in outgoing
            ),
            tuple(packet_id for (packet_id,) in incoming),
        )

    def _rows(self, query: str, *values: object) -> sqlite3.Cursor:
        return self._database.execute(query, values)

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        [(complaint,), *_] = database.execute("PRAGMA quick_check(1)").fetchall()
        if complaint != "ok":
            raise StoreError(f"{self._path}: the database is corrupt ({complaint}); restore it or move it away")
        [(version,)] = database.execute("PRAGMA user_version")
        [(application_id,)] = database.execute("PRAGMA application_id")
        [(table_count,)] = database.execute("SELECT count(*) FROM sqlite_schema")
        if table_count and application_id != _APPLICATION_ID:
            raise StoreError(f"{self._path}: this is another program's database; name a file of its own")
        if version > _SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: schema {version} is newer than this program's {_SCHEMA_VERSION}; use the newer program"
            )
        if not table_count:
            pragmas = f"PRAGMA user_version = {_SCHEMA_VERSION}; PRAGMA application_id = {_APPLICATION_ID};"
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {pragmas} COMMIT;")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StoreError(f"{self._path}: in use by another broker; stop that one or name another") from error
            raise StoreError(f"{self._path}: {error}; check the disk and the rights on file and folder") from error
        except (sqlite3.Error, PacketError, ValueError) as error:
            raise StoreError(f"{self._path}: the database is corrupt ({error}); restore it or move it away") from error

    def _apply(self, change: Change) -> None:
        match change:
            case SessionSaved(session=head):
                self._rows(
                    "INSERT INTO sessions VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " user = excluded.user, expiry_seconds = excluded.expiry_seconds, expires_at = excluded.expires_at",
                    head.client_id,
                    head.user,
                    head.expiry_seconds,
                    head.expires_at,
                )
            case SessionRemoved(client_id=client_id):
                for table in ("sessions", "subscriptions", "outgoing", "incoming"):
                    self._rows(f"DELETE FROM {table} WHERE client_id = ?", client_id)  # noqa: S608 - our own names
            case SubscriptionSaved(client_id=client_id, subscription=one):
                options = (one.qos, one.no_local, one.retain_as_published, one.retain_handling, one.identifier)
                self._rows(
                    "INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " qos = excluded.qos, no_local = excluded.no_local, identifier = excluded.identifier,"
                    " retain_as_published = excluded.retain_as_published, retain_handling = excluded.retain_handling",
                    client_id,
                    one.filter,
                    *options,
                )
            case SubscriptionRemoved(client_id=client_id, filter=topic_filter):
                self._rows("DELETE FROM subscriptions WHERE client_id = ? AND filter = ?", client_id, topic_filter)
            case RetainedSaved(message=message):
                self._rows(
                    "INSERT INTO retained VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " packet = excluded.packet, source = excluded.source, expires_at = excluded.expires_at",
                    message.packet.topic,
                    *_columns(message),
                )
            case RetainedRemoved(topic=topic):
                self._rows("DELETE FROM retained WHERE topic = ?", topic)
            case OutgoingSaved(client_id=client_id, outgoing=one):
                identifiers = " ".join(map(str, one.identifiers))
                way = (one.qos, one.retain, identifiers, one.packet_id, one.stage)
                self._rows(
                    "INSERT INTO outgoing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    client_id,
                    one.order,
                    *_columns(one.message),
                    *way,
                )
            case OutgoingMoved(client_id=client_id, order=order, packet_id=packet_id, stage=stage):
                self._rows(
                    "UPDATE outgoing SET packet_id = ?, stage = ? WHERE client_id = ? AND position = ?",
                    packet_id,
                    stage,
                    client_id,
                    order,
                )
            case OutgoingRemoved(client_id=client_id, order=order):
                self._rows("DELETE FROM outgoing WHERE client_id = ? AND position = ?", client_id, order)
            case IncomingSaved(client_id=client_id, packet_id=packet_id):
                self._rows("INSERT OR REPLACE INTO incoming VALUES (?, ?)", client_id, packet_id)
            case IncomingRemoved(client_id=client_id, packet_id=packet_id):
                self._rows("DELETE FROM incoming WHERE client_id = ? AND packet_id = ?", client_id, packet_id)
            case _:
                assert_never(change)


def _columns(message: Message) -> tuple[bytes, str, float | None]:
    given = message.packet
    # DUP and packet id mean nothing any more; made anew, because ``replace`` takes several times as long.
    packet = Publish(
        given.topic, given.payload, given.qos, given.retain, packet_id=min(given.qos, 1), properties=given.properties
    )
    return encode(packet, Version.V5), message.source, message.expires_at


def _message(packet: bytes, source: str, expires_at: float | None) -> Message:
    [publish] = Parser(Version.V5, size_max_bytes=VARINT_MAX + 5).feed(packet)
    if not isinstance(publish, Publish):
        raise ValueError(f"a stored message is a {type(publish).__name__}")  # noqa: TRY004 - the file's fault
    return Message(publish, source, expires_at)
