import pytest

from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.summary import GroupSummary, summarize
from tests.telemetry.telemetry_streams import feed, sketch_of


def test_summary_says_how_each_group_is_whatever_version_it_runs() -> None:
    monitor = Monitor()
    feed(monitor, "a", "one", version="1", errors_total=lambda seq: seq, latency=sketch_of([0.1]))
    now = feed(monitor, "b", "one", version="2", healthy=False, latency=sketch_of([0.1]))
    summaries = summarize({"one": 3, "two": 1}, monitor, now=now)
    latency = pytest.approx(0.1, rel=0.02)
    assert summaries["one"].model_dump() == {
        "group": "one",
        "devices": 3,
        "fresh": 2,
        "healthy": 1,
        "requests": 2000,
        "error_rate": 0.005,
        "latency_p50_seconds": latency,
        "latency_p95_seconds": latency,
        "latency_p99_seconds": latency,
    }
    assert summaries["two"] == GroupSummary(
        group="two",
        devices=1,
        fresh=0,
        healthy=0,
        requests=0,
        error_rate=None,
        latency_p50_seconds=None,
        latency_p95_seconds=None,
        latency_p99_seconds=None,
    )


def test_summary_holds_the_last_five_minutes() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=30)
    assert summarize({"g": 1}, monitor, now=now)["g"].requests == 1200, "and what lies in the cell it begins in"
