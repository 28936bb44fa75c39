"""The tables of the broker's database, and the way from the version before."""

from typing import Final

SCHEMA_VERSION: Final = 2
OWNED: Final = ("subscriptions", "outgoing", "incoming")
"""What belongs to a session."""
SCHEMA: Final = """
CREATE TABLE sessions (
  user TEXT, client_id TEXT, expiry_seconds INTEGER, expires_at REAL, UNIQUE (client_id, user)
) STRICT;
CREATE TABLE subscriptions (
  user TEXT, client_id TEXT, filter TEXT, qos INTEGER, no_local INTEGER, retain_as_published INTEGER,
  retain_handling INTEGER, identifier INTEGER, UNIQUE (client_id, user, filter)
) STRICT;
CREATE TABLE outgoing (
  user TEXT, client_id TEXT, position INTEGER, packet BLOB, expires_at REAL, qos INTEGER, retain INTEGER,
  identifiers TEXT, packet_id INTEGER, stage INTEGER, UNIQUE (client_id, user, position)
) STRICT;
CREATE TABLE incoming (user TEXT, client_id TEXT, packet_id INTEGER, UNIQUE (client_id, user, packet_id)) STRICT;
CREATE TABLE retained (topic TEXT PRIMARY KEY, packet BLOB, expires_at REAL) STRICT;
"""
"""``user`` is NULL for who gave no name; what is unique may stand twice with a NULL, so whoever writes sees to that."""

_KEPT: Final[dict[str, tuple[str, ...]]] = {
    "sessions": ("expiry_seconds", "expires_at"),
    "subscriptions": ("filter", "qos", "no_local", "retain_as_published", "retain_handling", "identifier"),
    "outgoing": ("position", "packet", "expires_at", "qos", "retain", "identifiers", "packet_id", "stage"),
    "incoming": ("packet_id",),
}
"""Columns of version 1, in which a client id had one session, whoever gave it, and only that knew its user."""


def migration() -> str:
    """Return what gives each session of version 1, and all that belongs to it, to the user who had it last."""
    renamed = "".join(f"ALTER TABLE {table} RENAME TO old_{table};" for table in (*_KEPT, "retained"))
    dropped = "".join(f"DROP TABLE old_{table};" for table in (*_KEPT, "retained"))
    retained = "INSERT INTO retained SELECT topic, packet, expires_at FROM old_retained ORDER BY rowid;"
    return renamed + SCHEMA + "".join(map(_moved, _KEPT)) + retained + dropped


def _moved(table: str) -> str:
    columns = ", ".join(f"old.{column}" for column in _KEPT[table])
    return (
        f"INSERT INTO {table} SELECT owner.user, owner.client_id, {columns}"  # noqa: S608 - our own names
        f" FROM old_{table} old JOIN old_sessions owner USING (client_id) ORDER BY old.rowid;"
    )
