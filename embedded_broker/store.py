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
from embedded_broker.schema import OWNED, SCHEMA, SCHEMA_VERSION, migration
from embedded_broker.state import BrokerState, Message, Outgoing, SavedSession, SessionKey, Stage
from embedded_broker.wire import VARINT_MAX

_APPLICATION_ID: Final = 0x74676D71  # "tgmq"
_LOCK_TIMEOUT_SECONDS: Final = 1.0


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
            retained = self._rows("SELECT packet, expires_at FROM retained ORDER BY rowid")
            return BrokerState(sessions, tuple(_message(*row) for row in retained))

    def _session(
        self, user: str | None, client_id: str, expiry_seconds: int | None, expires_at: float | None
    ) -> SavedSession:
        key = SessionKey(user, client_id)
        subscriptions = self._rows(
            "SELECT filter, qos, no_local, retain_as_published, retain_handling, identifier"
            " FROM subscriptions WHERE user IS ? AND client_id = ? ORDER BY rowid",
            *key,
        )
        outgoing = self._rows(
            "SELECT packet, expires_at, position, qos, retain, identifiers, packet_id, stage"
            " FROM outgoing WHERE user IS ? AND client_id = ? ORDER BY position",
            *key,
        )
        incoming = self._rows("SELECT packet_id FROM incoming WHERE user IS ? AND client_id = ? ORDER BY rowid", *key)
        return SavedSession(
            key,
            expiry_seconds,
            expires_at,
            tuple(
                Subscription(topic_filter, qos, bool(no_local), bool(as_published), handling, identifier)
                for topic_filter, qos, no_local, as_published, handling, identifier in subscriptions
            ),
            tuple(
                Outgoing(
                    position,
                    _message(packet, too_old_at),
                    qos,
                    bool(retain),
                    tuple(map(int, identifiers.split())),
                    packet_id,
                    Stage(stage),
                )
                for packet, too_old_at, position, qos, retain, identifiers, packet_id, stage in outgoing
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
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: schema {version} is newer than this program's {SCHEMA_VERSION}; use the newer program"
            )
        pragmas = f"PRAGMA user_version = {SCHEMA_VERSION}; PRAGMA application_id = {_APPLICATION_ID};"
        if not table_count:
            database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {pragmas} COMMIT;")
        elif version < SCHEMA_VERSION:
            database.executescript(f"BEGIN IMMEDIATE; {migration()} {pragmas} COMMIT;")
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
                values = (head.expiry_seconds, head.expires_at, *head.key)
                if not self._rows(
                    "UPDATE sessions SET expiry_seconds = ?, expires_at = ? WHERE user IS ? AND client_id = ?", *values
                ).rowcount:
                    self._rows(
                        "INSERT INTO sessions (expiry_seconds, expires_at, user, client_id) VALUES (?, ?, ?, ?)",
                        *values,
                    )
            case SessionRemoved(key=key):
                for table in ("sessions", *OWNED):
                    statement = f"DELETE FROM {table} WHERE user IS ? AND client_id = ?"  # noqa: S608 - our own names
                    self._rows(statement, *key)
            case SubscriptionSaved(key=key, subscription=one):
                options = (one.qos, one.no_local, one.retain_as_published, one.retain_handling, one.identifier)
                if not self._rows(
                    "UPDATE subscriptions SET qos = ?, no_local = ?, retain_as_published = ?, retain_handling = ?,"
                    " identifier = ? WHERE user IS ? AND client_id = ? AND filter = ?",
                    *options,
                    *key,
                    one.filter,
                ).rowcount:
                    self._rows("INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *key, one.filter, *options)
            case SubscriptionRemoved(key=key, filter=topic_filter):
                self._rows(
                    "DELETE FROM subscriptions WHERE user IS ? AND client_id = ? AND filter = ?", *key, topic_filter
                )
            case RetainedSaved(message=message):
                self._rows(
                    "INSERT INTO retained VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " packet = excluded.packet, expires_at = excluded.expires_at",
                    message.packet.topic,
                    *_columns(message),
                )
            case RetainedRemoved(topic=topic):
                self._rows("DELETE FROM retained WHERE topic = ?", topic)
            case OutgoingSaved(key=key, outgoing=one):
                identifiers = " ".join(map(str, one.identifiers))
                way = (one.qos, one.retain, identifiers, one.packet_id, one.stage)
                self._rows(
                    "INSERT INTO outgoing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    *key,
                    one.order,
                    *_columns(one.message),
                    *way,
                )
            case OutgoingMoved(key=key, order=order, packet_id=packet_id, stage=stage):
                self._rows(
                    "UPDATE outgoing SET packet_id = ?, stage = ? WHERE user IS ? AND client_id = ? AND position = ?",
                    packet_id,
                    stage,
                    *key,
                    order,
                )
            case OutgoingRemoved(key=key, order=order):
                self._rows("DELETE FROM outgoing WHERE user IS ? AND client_id = ? AND position = ?", *key, order)
            case IncomingSaved(key=key, packet_id=packet_id):
                self._rows("INSERT OR REPLACE INTO incoming VALUES (?, ?, ?)", *key, packet_id)
            case IncomingRemoved(key=key, packet_id=packet_id):
                self._rows("DELETE FROM incoming WHERE user IS ? AND client_id = ? AND packet_id = ?", *key, packet_id)
            case _:
                assert_never(change)


def _columns(message: Message) -> tuple[bytes, float | None]:
    given = message.packet
    # DUP and packet id mean nothing any more; made anew, because ``replace`` takes several times as long.
    packet = Publish(
        given.topic, given.payload, given.qos, given.retain, packet_id=min(given.qos, 1), properties=given.properties
    )
    return encode(packet, Version.V5), message.expires_at


def _message(packet: bytes, expires_at: float | None) -> Message:
    [publish] = Parser(Version.V5, size_max_bytes=VARINT_MAX + 5).feed(packet)
    if not isinstance(publish, Publish):
        raise ValueError(f"a stored message is a {type(publish).__name__}")  # noqa: TRY004 - the file's fault
    return Message(publish, expires_at)
