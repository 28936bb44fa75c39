from pathlib import Path

import pytest

from orchestrator.adapters import histories as module
from orchestrator.adapters.histories import HISTORY_NAME, KeptHistories
from orchestrator.telemetry.monitor import Monitor
from tests.telemetry.telemetry_streams import feed, sketch_of

HOUR = 3600.0


def watched() -> tuple[Monitor, float]:
    monitor = Monitor()
    now = feed(
        monitor, "a", "g", version="1", count=400, latency=sketch_of([0.02, 0.08, 0.3]), quality={"accuracy": 0.9}
    )
    now = feed(monitor, "b", "h", start=now, version="1", count=400, latency_p50_seconds=0.1, cpu_ratio=0.25)
    assert monitor.baseline("g", now=now, seconds=24 * HOUR, excluding_version="2", min_samples=20) is not None
    return monitor, now


def kept_in(folder: Path) -> KeptHistories:
    return KeptHistories(folder / HISTORY_NAME)


def test_baselines_are_the_same_after_a_restart_up_to_the_cell_that_was_open(tmp_path: Path) -> None:
    before, now = watched()
    kept_in(tmp_path).write(before.histories())
    after = Monitor()
    after.remember(kept_in(tmp_path).load(), now)

    closed = Monitor()
    closed.remember(before.histories(), now)
    for group in ("g", "h"):
        found, expected = (
            each.baseline(group, now=now, seconds=24 * HOUR, excluding_version="2", min_samples=20)
            for each in (after, closed)
        )
        assert found is not None
        assert found == expected
        assert found.sample_count >= 395


def test_what_comes_after_a_restart_counts_with_what_was_kept(tmp_path: Path) -> None:
    before, now = watched()
    kept_in(tmp_path).write(before.histories())
    after = Monitor()
    after.remember(kept_in(tmp_path).load(), now)
    end = feed(after, "a", "g", version="1", start=now + 1, count=100)

    found = after.baseline("g", now=end, seconds=24 * HOUR, excluding_version="2", min_samples=20)

    assert found is not None
    assert 490 <= found.sample_count <= 500


def test_a_clock_that_went_back_does_not_make_the_future_normal(tmp_path: Path) -> None:
    before, now = watched()
    kept_in(tmp_path).write(before.histories())
    after = Monitor()
    after.remember(kept_in(tmp_path).load(), now - 1e6)

    assert after.baseline("g", now=now, seconds=24 * HOUR, excluding_version="2", min_samples=20) is None


def test_there_is_nothing_at_first(tmp_path: Path) -> None:
    assert kept_in(tmp_path).load() == {}


def test_a_file_that_is_damaged_or_of_another_version_costs_only_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept_in(tmp_path).write(watched()[0].histories())
    monkeypatch.setattr(module, "_FORMAT", 99)
    assert kept_in(tmp_path).load() == {}
    monkeypatch.undo()
    path = tmp_path / HISTORY_NAME
    path.write_bytes(path.read_bytes()[:-1])
    assert kept_in(tmp_path).load() == {}

    assert [record.message for record in caplog.records] == [
        "baselines.history not used, baselines are taken anew: another version's",
        "baselines.history not used, baselines are taken anew: damaged",
    ]
