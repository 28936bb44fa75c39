"""The database: what it loads is what the core remembers, and a bad file is refused."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_broker.core import Broker
from embedded_broker.errors import StoreError
from embedded_broker.outputs import RetainedSaved, SessionRemoved
from embedded_broker.packets import Publish, Subscription
from embedded_broker.state import BrokerConfig, BrokerState, Message, SessionKey
from embedded_broker.store import Store
from tests.broker.broker_script import STAY, Script
from tests.broker.test_broker_core import random_run

USERS = (None, "ann", "bob")
TO_VERSION_1 = """
CREATE TABLE a (client_id TEXT PRIMARY KEY, user TEXT, expiry_seconds INTEGER, expires_at REAL) STRICT;
CREATE TABLE b (
  client_id TEXT, filter TEXT, qos INTEGER, no_local INTEGER, retain_as_published INTEGER, retain_handling INTEGER,
  identifier INTEGER, PRIMARY KEY (client_id, filter)
) STRICT;
CREATE TABLE c (
  client_id TEXT, position INTEGER, packet BLOB, source TEXT, expires_at REAL, qos INTEGER, retain INTEGER,
  identifiers TEXT, packet_id INTEGER, stage INTEGER, PRIMARY KEY (client_id, position)
) STRICT;
CREATE TABLE d (client_id TEXT, packet_id INTEGER, PRIMARY KEY (client_id, packet_id)) STRICT;
CREATE TABLE e (topic TEXT PRIMARY KEY, packet BLOB, source TEXT, expires_at REAL) STRICT;
INSERT INTO a SELECT client_id, user, expiry_seconds, expires_at FROM sessions ORDER BY rowid;
INSERT INTO b SELECT client_id, filter, qos, no_local, retain_as_published, retain_handling, identifier
  FROM subscriptions ORDER BY rowid;
INSERT INTO c SELECT client_id, position, packet, 'a', expires_at, qos, retain, identifiers, packet_id, stage
  FROM outgoing ORDER BY rowid;
INSERT INTO d SELECT client_id, packet_id FROM incoming ORDER BY rowid;
INSERT INTO e SELECT topic, packet, 'a', expires_at FROM retained ORDER BY rowid;
DROP TABLE sessions; DROP TABLE subscriptions; DROP TABLE outgoing; DROP TABLE incoming; DROP TABLE retained;
ALTER TABLE a RENAME TO sessions; ALTER TABLE b RENAME TO subscriptions; ALTER TABLE c RENAME TO outgoing;
ALTER TABLE d RENAME TO incoming; ALTER TABLE e RENAME TO retained;
PRAGMA user_version = 1;
"""
"""Makes of a database one as version 1 wrote it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(path)) as opened:
        yield opened


def _comparable(state: BrokerState) -> BrokerState:
    """Without what has no meaning once a message is accepted: the publisher's packet id and DUP."""

    def plain(message: Message) -> Message:
        return message._replace(packet=message.packet._replace(dup=False, packet_id=0))

    sessions = tuple(
        replace(one, outgoing=tuple(out._replace(message=plain(out.message)) for out in one.outgoing))
        for one in state.sessions
    )
    return BrokerState(
        tuple(sorted(sessions, key=lambda one: (one.key.client_id, one.key.user or ""))),
        tuple(map(plain, state.retained)),
    )


@pytest.mark.parametrize("seed", range(20))
def test_database_holds_what_the_core_remembers(store: Store, path: Path, seed: int) -> None:
    script = Script(BrokerConfig(is_durable=True, queued_max=5, inflight_max=3))
    random_run(script, seed, 400)
    store.write(script.changes)
    assert _comparable(store.load()) == _comparable(script.core.snapshot())
    assert script.core.snapshot().retained
    store.close()
    with closing(Store(path)) as again:
        assert _comparable(again.load()) == _comparable(script.core.snapshot())


def test_users_with_one_client_id_find_their_own_after_a_restart(store: Store) -> None:
    script = Script(BrokerConfig(is_durable=True))
    for number, user in enumerate(USERS, 1):
        script.connect(number, "r", clean_start=False, user=user, properties=STAY)
        script.subscribe(number, f"for/{user}", 1)
        script.publish(number, f"for/{user}", f"to {user}".encode(), 1)
        script.subscribe(number, f"for/{user}", 2)  # in place of the one before, and of nobody else's
    script.connect(4, "r")  # the anonymous one begins anew, and only that one
    store.write(script.changes)
    script.core = Broker.restore(script.config, store.load(), script.now)
    heard = [
        script.connect(5 + at, "r", clean_start=False, user=user, properties=STAY) for at, user in enumerate(USERS)
    ]
    found = [[one.payload for one in packets if isinstance(one, Publish)] for packets in heard]
    assert found == [[], [b"to ann"], [b"to bob"]]
    assert [one.subscriptions for one in store.load().sessions] == [
        (Subscription(f"for/{user}", 2),) for user in ("ann", "bob")
    ]


def test_sessions_of_a_database_of_version_1_belong_to_the_user_who_had_them(path: Path) -> None:
    script = Script(BrokerConfig(is_durable=True, inflight_max=1))
    for number, (client_id, user) in enumerate((("a", "ann"), ("b", None)), 1):
        script.connect(number, client_id, clean_start=False, user=user, properties=STAY)
        script.subscribe(number, "t", 1)
        script.send(number, Publish("open", b"x", 2, packet_id=7))
    for payload in (b"sent", b"queued"):
        script.publish(1, "t", payload, 1, retain=True)
    script.lose(2)
    with closing(Store(path)) as store:
        store.write(script.changes)
        expected = store.load()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(TO_VERSION_1)
    for _ in range(2):  # The second time it is of this version.
        with closing(Store(path)) as store:
            assert store.load() == expected
    with closing(Store(path)) as store:
        store.write([SessionRemoved(SessionKey("ann", "a"))])
        assert store.load().sessions == expected.sessions[1:]


def test_failed_write_leaves_nothing_of_it(store: Store) -> None:
    good = RetainedSaved(Message(Publish("a", b"x"), None))
    bad = RetainedSaved(Message(Publish("b", b"x"), "no number"))  # type: ignore[arg-type] # what a bug would do
    with pytest.raises(StoreError):
        store.write([good, bad])
    assert store.load() == BrokerState()
    store.write([good])
    assert len(store.load().retained) == 1


def test_commits_are_forced_to_the_disk(store: Store) -> None:
    """What a test cannot show without cutting the power."""
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [("PRAGMA user_version = 99", "newer than this program"), ("PRAGMA application_id = 1", "another program's")],
)
def test_foreign_or_newer_database_is_refused(path: Path, statement: str, complaint: str) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()
    with pytest.raises(StoreError, match=complaint):
        Store(path)


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough to be read as one" * 20, None])
def test_corrupt_database_is_refused(path: Path, damage: bytes | None) -> None:
    with closing(Store(path)) as store:
        store.write([RetainedSaved(Message(Publish(f"t/{n}", b"x" * 500), None)) for n in range(200)])
    data = path.read_bytes()
    path.write_bytes(damage or data[:8192] + b"\xff" * 8192 + data[16384:])
    with pytest.raises(StoreError, match="corrupt"):
        Store(path)


def test_message_that_cannot_be_read_is_reported_as_corruption(store: Store) -> None:
    store._database.execute("INSERT INTO retained VALUES ('a', x'c000', NULL)")
    with pytest.raises(StoreError, match="corrupt"):
        store.load()


@pytest.mark.usefixtures("store")
def test_database_in_use_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="in use by another broker"):
        Store(path)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check the disk and the rights"):
        Store(tmp_path / "nowhere" / "broker.db")
