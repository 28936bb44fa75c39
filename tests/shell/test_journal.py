import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.journal import (
    FIRST_HASH,
    FencedError,
    Journal,
    JournalCorruptError,
    JournalError,
    Verification,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(path)) as journal:
        journal.open_epoch(1.0)
        yield journal


def change(path: Path, sql: str) -> None:
    """Tamper with the file as somebody who knows SQLite would."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def fill(path: Path, count: int = 5) -> Verification:
    with contextlib.closing(Journal(path)) as journal:
        journal.open_epoch(1.0)
        for i in range(count):
            journal.append([("noted", json.dumps({"i": i}))], at=10.0 + i)
        return journal.verify()


def test_entries_are_read_back_in_order_when_the_journal_is_opened_again(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        assert journal.open_epoch(1.0) == 1
        records = journal.append([("planned", '{"a":1}'), ("started", '{"b":"ü"}')], at=12.25)

    with contextlib.closing(Journal(path)) as journal:
        entries = list(journal.read())
        assert journal.open_epoch(2.0) == 2
    assert [(e.seq, e.at, e.epoch, e.kind, e.body) for e in entries] == [
        (1, 12.25, 1, "planned", '{"a":1}'),
        (2, 12.25, 1, "started", '{"b":"ü"}'),
    ]
    assert tuple(entry.record() for entry in entries) == records
    assert [record.at for record in records] == ["1970-01-01T00:00:12.250Z"] * 2
    assert (records[0].previous_hash, records[1].previous_hash) == (FIRST_HASH, records[0].hash)


def test_reading_starts_after_the_given_entry_and_crosses_pages(journal: Journal) -> None:
    journal.append([("noted", "{}")] * 1234, at=1.0)

    assert [entry.seq for entry in journal.read(after_seq=100)] == list(range(101, 1235))
    assert list(journal.read(after_seq=1234)) == []


def test_chain_verifies_when_a_moment_is_a_whole_number(journal: Journal) -> None:
    (record,) = journal.append([("noted", "{}")], at=7)

    assert journal.verify() == Verification(1, record.hash)


def test_empty_journal_verifies(journal: Journal) -> None:
    assert journal.append([], at=1.0) == ()
    assert journal.verify() == Verification(0, FIRST_HASH)


def test_journal_in_memory_works_alike() -> None:
    with contextlib.closing(Journal(None)) as journal:
        assert journal.open_epoch(0.0) == 1
        (record,) = journal.append([("noted", "{}")], at=0.0)
        assert journal.verify() == Verification(1, record.hash)


def test_commits_are_flushed_and_foreign_keys_hold(journal: Journal) -> None:
    pragmas = ["journal_mode", "synchronous", "foreign_keys", "trusted_schema", "busy_timeout"]

    values = [
        value for pragma in pragmas for row in journal._database.query(f"PRAGMA {pragma}") for value in row.values()
    ]

    assert values == ["wal", 2, 1, 0, 5000]


def test_loser_is_fenced_when_another_process_took_over(path: Path, journal: Journal) -> None:
    journal.append([("noted", "{}")], at=1.0)
    journal.mark_performed(1)
    with contextlib.closing(Journal(path)) as winner:
        assert winner.open_epoch(2.0) == 2

        with pytest.raises(FencedError, match="epoch 2 took over from 1; this process must exit"):
            journal.append([("noted", "{}")], at=3.0)
        with pytest.raises(FencedError):
            journal.confirm()

        winner.confirm()
        winner.append([("noted", "{}")], at=3.0)
        assert [(e.seq, e.epoch) for e in winner.read()] == [(1, 1), (2, 2)]
    journal.close()
    with contextlib.closing(Journal.open_reader(path)) as reader:
        assert reader.performed_seq == 0, "a loser writes nothing, not even when it closes"
        reader.verify()


def test_append_is_refused_when_no_epoch_was_opened(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal, pytest.raises(AssertionError, match="open_epoch"):
        journal.append([("noted", "{}")], at=1.0)


@pytest.mark.parametrize("body", ["no json", "[1]", "1"])
def test_nothing_is_appended_when_one_body_is_no_object(journal: Journal, body: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        journal.append([("noted", "{}"), ("noted", body)], at=1.0)

    assert list(journal.read()) == []
    journal.append([("noted", "{}")], at=1.0)


def test_performed_seq_survives_a_clean_close(path: Path, journal: Journal) -> None:
    journal.append([("noted", "{}")] * 3, at=1.0)
    journal.mark_performed(2)
    journal.mark_performed(1)
    assert journal.performed_seq == 2
    journal.close()

    with contextlib.closing(Journal(path)) as again:
        assert again.performed_seq == 2


def test_performed_seq_reaches_the_disk_with_the_next_append(path: Path, journal: Journal) -> None:
    journal.append([("noted", "{}")], at=1.0)
    journal.mark_performed(1)
    with contextlib.closing(Journal.open_reader(path)) as reader:
        assert reader.performed_seq == 0
        journal.append([("noted", "{}")], at=2.0)
        assert reader.performed_seq == 1


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("UPDATE entries SET body = '{\"i\":9}' WHERE seq = 3", "entry 3 was changed"),
        ("UPDATE entries SET body = CAST(x'ff' AS TEXT) WHERE seq = 3", "entry 3 was changed"),
        ("UPDATE entries SET at = at + 0.001 WHERE seq = 2", "entry 2 was changed"),
        ("UPDATE entries SET kind = 'other' WHERE seq = 1", "entry 1 was changed"),
        ("UPDATE entries SET epoch = 0 WHERE seq = 5", "entry 5 was changed"),
        ("UPDATE entries SET hash = previous_hash WHERE seq = 4", "entry 4 was changed"),
        ("DELETE FROM entries WHERE seq = 3", "entry 3 is missing"),
        ("DELETE FROM entries WHERE seq = 1", "entry 1 is missing"),
        ("UPDATE entries SET seq = 9 WHERE seq = 5", "entry 5 is missing"),
    ],
)
def test_verify_names_the_first_bad_entry(path: Path, sql: str, place: str) -> None:
    fill(path)
    change(path, sql)

    with contextlib.closing(Journal.open_reader(path)) as reader, pytest.raises(JournalCorruptError, match=place):
        reader.verify()


def test_verify_notices_a_cut_tail_only_by_what_is_remembered(path: Path) -> None:
    remembered = fill(path)
    change(path, "DELETE FROM entries WHERE seq >= 4")

    with contextlib.closing(Journal.open_reader(path)) as reader:
        assert reader.verify().entry_count == 3, "the rest is a whole chain"
        with pytest.raises(JournalCorruptError, match="entry 4 is missing, it once reached 5"):
            reader.verify(remembered)


def test_verify_notices_a_cut_tail_when_its_effects_were_performed(path: Path, journal: Journal) -> None:
    journal.append([("noted", "{}")] * 3, at=1.0)
    journal.mark_performed(3)
    journal.close()
    change(path, "DELETE FROM entries WHERE seq = 3")

    with contextlib.closing(Journal.open_reader(path)) as reader, pytest.raises(JournalCorruptError, match="entry 3"):
        reader.verify()


def test_verify_notices_a_history_that_was_written_anew(path: Path, tmp_path: Path) -> None:
    fill(path, count=6)
    other = fill(tmp_path / "other.db", count=3)._replace(head_hash="f" * 64)

    with contextlib.closing(Journal.open_reader(path)) as reader, pytest.raises(JournalCorruptError, match="entry 3"):
        reader.verify(other)


def test_whoever_remembers_the_head_notices_a_change_anywhere_before_it(path: Path, tmp_path: Path) -> None:
    remembered = fill(path)
    with contextlib.closing(Journal(tmp_path / "rewritten.db")) as rewritten:
        rewritten.open_epoch(1.0)
        for i in range(5):
            rewritten.append([("noted", json.dumps({"i": i or "another"}))], at=10.0 + i)

        assert rewritten.verify().entry_count == 5, "it is a whole chain"
        with pytest.raises(JournalCorruptError, match="entry 5 is not the one remembered; history was rewritten"):
            rewritten.verify(remembered)


def test_verify_accepts_a_journal_that_grew_since(path: Path) -> None:
    remembered = fill(path)
    fill(path)

    with contextlib.closing(Journal.open_reader(path)) as reader:
        assert reader.verify(remembered).entry_count == 10


def test_damage_to_any_page_is_found_at_opening_or_by_verifying(path: Path) -> None:
    fill(path, count=200)
    intact = path.read_bytes()
    for offset in range(0, len(intact), 4096):
        damaged = bytearray(intact)
        damaged[offset : offset + 4096] = os.urandom(4096)
        path.write_bytes(damaged)
        with pytest.raises(JournalError), contextlib.closing(Journal.open_reader(path)) as reader:
            reader.verify()


def test_half_written_file_is_refused(path: Path) -> None:
    fill(path, count=200)
    path.write_bytes(path.read_bytes()[: 4096 * 3])

    with pytest.raises(JournalCorruptError, match=r"journal\.db"), contextlib.closing(Journal(path)) as journal:
        journal.verify()


def test_reader_sees_what_the_running_writer_appends_and_cannot_write(path: Path, journal: Journal) -> None:
    with contextlib.closing(Journal.open_reader(path)) as reader:
        (record,) = journal.append([("noted", "{}")], at=1.0)
        assert [entry.hash for entry in reader.read()] == [record.hash]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._database.execute("DELETE FROM entries")


def test_reader_names_the_file_when_there_is_none(path: Path) -> None:
    with pytest.raises(JournalError, match=r"journal\.db.*check that its folder exists"):
        Journal.open_reader(path)
    assert not path.exists()


def test_journal_of_a_newer_version_is_refused(path: Path) -> None:
    fill(path)
    change(path, "PRAGMA user_version=2")

    with pytest.raises(JournalError, match=r"journal\.db: written by a newer tidegate"):
        Journal(path)


def test_database_of_another_program_is_refused_unchanged(path: Path) -> None:
    change(path, "CREATE TABLE theirs (a)")

    with pytest.raises(JournalError, match="no journal"):
        Journal(path)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("dear diary, " * 100)

    with pytest.raises(JournalError, match="no journal; name another file"):
        Journal(path)


def test_journal_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="check that its folder exists"):
        Journal(tmp_path / "absent" / "journal.db")


def test_full_disk_appends_nothing_and_says_so(path: Path, journal: Journal) -> None:
    journal.append([("noted", "{}")], at=1.0)
    journal._database.execute(f"PRAGMA max_page_count={path.stat().st_size // 4096 + 2}")

    with pytest.raises(JournalError, match="full; free some space"):
        journal.append([("noted", json.dumps({"text": "x" * 100_000}))], at=2.0)

    assert journal.verify().entry_count == 1
    journal.append([("noted", "{}")], at=3.0)
    assert journal.verify().entry_count == 2


@pytest.fixture
def crashed(path: Path, journal: Journal, tmp_path: Path) -> Path:
    """A journal of 10 entries as a killed process leaves it: the last 5 stand in the -wal only."""
    for number in range(10):
        if number == 5:
            journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        journal.append([("noted", json.dumps({"i": number}))], at=1.0 + number)
    (tmp_path / "crashed").mkdir()
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{path}{suffix}", f"{tmp_path}/crashed/journal.db{suffix}")
    return tmp_path / "crashed" / "journal.db"


def entry_count(path: Path) -> int:
    """Open it as a new process would, and return how many entries it holds; the chain must hold, and take another."""
    with contextlib.closing(Journal(path)) as journal:
        count = journal.verify().entry_count
        assert [json.loads(entry.body)["i"] for entry in journal.read()] == list(range(count))
        journal.open_epoch(100.0)
        journal.append([("noted", "{}")], at=100.0)
        assert journal.verify().entry_count == count + 1
        return count


def test_write_ahead_log_that_was_cut_anywhere_loses_the_last_entries_only(crashed: Path) -> None:
    wal = Path(f"{crashed}-wal")
    database, log = crashed.read_bytes(), wal.read_bytes()
    counts = []
    for length in range(0, len(log) + 1, 1031):
        crashed.write_bytes(database)
        wal.write_bytes(log[:length])
        Path(f"{crashed}-shm").unlink(missing_ok=True)
        counts.append(entry_count(crashed))

    assert counts == sorted(counts)
    assert (counts[0], set(counts)) == (5, set(range(5, 10)) | {max(counts)})


def test_write_ahead_log_with_a_flipped_byte_loses_the_entries_from_there_on_only(crashed: Path) -> None:
    wal = Path(f"{crashed}-wal")
    database, log = crashed.read_bytes(), wal.read_bytes()
    for place in range(0, len(log), 2053):
        crashed.write_bytes(database)
        wal.write_bytes(log[:place] + bytes((log[place] ^ 0xFF,)) + log[place + 1 :])
        Path(f"{crashed}-shm").unlink(missing_ok=True)
        assert 5 <= entry_count(crashed) <= 10


@pytest.mark.parametrize(("suffix", "left"), [("-wal", 5), ("-shm", 10)])
def test_journal_without_one_of_its_other_files_holds_what_was_in_the_rest(
    crashed: Path, suffix: str, left: int
) -> None:
    Path(f"{crashed}{suffix}").unlink()

    assert entry_count(crashed) == left


def test_index_that_a_killed_process_left_is_made_anew(crashed: Path) -> None:
    shm = Path(f"{crashed}-shm")
    shm.write_bytes(bytes(byte ^ 0x55 for byte in shm.read_bytes()))

    assert entry_count(crashed) == 10


def test_journal_that_cannot_be_written_says_so_and_appends_nothing(journal: Journal) -> None:
    journal._database.execute("PRAGMA query_only=ON")  # as with a file or a disk that is read-only, and for root too

    with pytest.raises(JournalError, match="make the file and its folder writable and restart"):
        journal.append([("noted", "{}")], at=1.0)

    assert journal.verify().entry_count == 0
    journal._database.execute("PRAGMA query_only=OFF")


def test_journal_whose_other_files_cannot_be_made_is_refused(path: Path) -> None:
    Path(f"{path}-wal").mkdir()

    with pytest.raises(JournalError, match=r"journal\.db: .+; \w+"):
        Journal(path)


def test_locked_journal_says_who_is_in_the_way(path: Path, journal: Journal) -> None:
    journal._database.execute("PRAGMA busy_timeout=10")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="another process is writing"):
            journal.append([("noted", "{}")], at=1.0)
    journal.append([("noted", "{}")], at=1.0)


_WRITER = """
import sys, time
from pathlib import Path
from orchestrator.adapters.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.open_epoch(1.0)
while True:
    records = journal.append([("noted", '{"text": "' + "x" * 300 + '"}')] * 7, at=2.0)
    journal.mark_performed(records[-1].seq)
    print(records[-1].seq, flush=True)
    time.sleep(float(sys.argv[2]))  # leaves the lock to others now and then
"""


def test_everything_acknowledged_is_there_when_the_writer_is_killed_again_and_again(path: Path) -> None:
    for kill_after in (1, 3, 40, 95, 7):
        with subprocess.Popen([sys.executable, "-c", _WRITER, path, "0"], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(kill_after)]
            writer.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in writer.stdout]

        with contextlib.closing(Journal.open_reader(path)) as reader:
            count = reader.verify().entry_count
            assert count >= acknowledged[-1]
            assert count % 7 == 0, "a batch is there as a whole or not at all"
            assert reader.performed_seq <= count


def test_one_of_two_writers_is_fenced_and_the_chain_stays_whole(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, path, "0.01"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as loser:
        assert loser.stdout is not None
        loser.stdout.readline()
        with contextlib.closing(Journal(path)) as winner:
            assert winner.open_epoch(5.0) == 2
            _, errors = loser.communicate(timeout=60)
            assert b"FencedError" in errors
            winner.append([("noted", "{}")], at=6.0)
            winner.verify()
            assert [entry.epoch for entry in winner.read()][-2:] == [1, 2]
