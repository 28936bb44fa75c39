"""The database: what it loads is what the core remembers, and a bad file is refused."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_broker.errors import StoreError
from embedded_broker.outputs import RetainedSaved
from embedded_broker.packets import Publish
from embedded_broker.state import BrokerConfig, BrokerState, Message
from embedded_broker.store import Store
from tests.broker.broker_script import Script
from tests.broker.test_broker_core import random_run


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
    return BrokerState(tuple(sorted(sessions, key=lambda one: one.client_id)), tuple(map(plain, state.retained)))


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


def test_failed_write_leaves_nothing_of_it(store: Store) -> None:
    good = RetainedSaved(Message(Publish("a", b"x"), "c", None))
    bad = RetainedSaved(Message(Publish("b", b"x"), "c", "no number"))  # type: ignore[arg-type] # what a bug would do
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
        store.write([RetainedSaved(Message(Publish(f"t/{n}", b"x" * 500), "c", None)) for n in range(200)])
    data = path.read_bytes()
    path.write_bytes(damage or data[:8192] + b"\xff" * 8192 + data[16384:])
    with pytest.raises(StoreError, match="corrupt"):
        Store(path)


def test_message_that_cannot_be_read_is_reported_as_corruption(store: Store) -> None:
    store._database.execute("INSERT INTO retained VALUES ('a', x'c000', 'c', NULL)")
    with pytest.raises(StoreError, match="corrupt"):
        store.load()


@pytest.mark.usefixtures("store")
def test_database_in_use_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="in use by another broker"):
        Store(path)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check the disk and the rights"):
        Store(tmp_path / "nowhere" / "broker.db")
