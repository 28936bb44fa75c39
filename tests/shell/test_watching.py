"""``/healthz`` and ``/readyz``: each reason for a 503, and the port on which nobody listens."""

import logging
import socket
from pathlib import Path

import pytest

from orchestrator.adapters.journal import Journal
from orchestrator.adapters.registry import RegistryError
from orchestrator.adapters.watching import DEFAULT_PORT, Endpoint, serve_watching
from tests.shell.metrics_bench import Watch, ask, make_watch


async def probe(watch: Watch, path: str) -> tuple[int, str]:
    async with watch.served() as url:
        status, _, text = await ask(f"{url}{path}")
    return status, text


async def test_an_orchestrator_that_does_its_work_is_healthy_and_ready() -> None:
    watch = make_watch()

    assert await probe(watch, "/healthz") == (200, "ok")
    assert await probe(watch, "/readyz") == (200, "ok")


async def test_without_a_broker_it_is_healthy_and_not_ready() -> None:
    watch = make_watch()
    watch.bus.is_connected = False

    assert await probe(watch, "/healthz") == (200, "ok")
    assert await probe(watch, "/readyz") == (503, "it is not connected to the broker")


async def test_it_is_not_ready_while_it_settles() -> None:
    watch = make_watch()
    watch.bench.boot(settle_seconds=5)
    assert await probe(watch, "/readyz") == (503, "it settles: the fleet has not spoken again yet")

    watch.bench.now += 5

    assert await probe(watch, "/readyz") == (200, "ok")


async def test_it_is_ill_once_another_has_taken_over_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    watch = make_watch(journal=Journal(path))
    assert (await probe(watch, "/healthz"))[0] == 200
    other = Journal(path)
    other.open_epoch(watch.bench.now)
    other.close()

    for at in ("/healthz", "/readyz"):
        status, text = await probe(watch, at)
        assert status == 503
        assert "took over" in text


async def test_it_is_ill_when_its_journal_cannot_be_written_and_well_again_when_it_can(tmp_path: Path) -> None:
    watch = make_watch(journal=Journal(tmp_path / "journal.db"))
    database = watch.bench.journal._database
    database.execute("PRAGMA query_only=ON")

    status, text = await probe(watch, "/healthz")

    assert status == 503
    assert "make the file and its folder writable" in text
    database.execute("PRAGMA query_only=OFF")
    assert await probe(watch, "/healthz") == (200, "ok")


async def test_it_is_ill_when_nothing_was_decided_by_time_for_long_and_not_because_there_was_no_broker() -> None:
    watch = make_watch()  # It should tick every 30 s.
    watch.bench.now += 61
    assert await probe(watch, "/healthz") == (503, "nothing was decided by time for 31 s")

    watch.bench.engine.reconnected(watch.bench.now)

    assert await probe(watch, "/healthz") == (200, "ok")


async def test_it_is_ill_after_an_error_of_the_engine() -> None:
    watch = make_watch()
    watch.bus.failure = RuntimeError("disk gone")

    assert await probe(watch, "/healthz") == (503, "it has failed: disk gone")


async def test_the_disk_is_written_once_a_second_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = make_watch()
    probes: list[float] = []
    monkeypatch.setattr(watch.bench.journal, "probe", lambda: probes.append(watch.bench.now))
    async with watch.served() as url:
        for _ in range(5):
            assert (await ask(f"{url}/healthz"))[0] == 200
        watch.bench.now += 1
        await ask(f"{url}/healthz")

    assert len(probes) == 2


def test_a_probe_writes_what_was_performed_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.open_epoch(0.0)
    journal.append([("a", "{}"), ("b", "{}")], 0.0)
    journal.mark_performed(2)

    journal.probe()

    reader = Journal.open_reader(tmp_path / "journal.db")
    assert (reader.performed_seq, reader.verify().entry_count) == (2, 2)
    reader.close()
    journal.close()


def test_a_commit_is_timed() -> None:
    noted: list[float] = []
    journal = Journal(None, noted.append)
    journal.open_epoch(0.0)
    journal.append([("a", "{}")], 0.0)
    with journal.together():
        journal.append([("b", "{}")], 0.0)
        journal.append([("c", "{}")], 0.0)

    assert len(noted) == 2
    assert all(0 < seconds < 60 for seconds in noted)
    journal.close()


async def test_usual_port_that_is_taken_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, caplog.at_level(logging.WARNING):
        monkeypatch.setattr("orchestrator.adapters.watching.DEFAULT_PORT", taken.getsockname()[1])
        async with serve_watching(make_watch().watched, Endpoint()) as url:
            assert url is None
    assert "no metrics are served" in caplog.text
    assert DEFAULT_PORT == 9464


async def test_port_that_was_asked_for_and_is_taken_is_named_with_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RegistryError, match=f"metrics cannot listen on .*{port}.*--metrics-port"):
            async with serve_watching(make_watch().watched, Endpoint(port=port)):
                pass


async def test_nobody_listens_if_nobody_shall() -> None:
    async with serve_watching(make_watch().watched, None) as url:
        assert url is None
