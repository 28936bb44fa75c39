import pytest

from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.summary import summarize, summarize_waves
from schemas.documents import GroupSummary
from tests.telemetry.telemetry_streams import feed, sample, sketch_of, tell


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


def test_a_wave_is_summarized_over_all_its_groups_on_the_new_version_only() -> None:
    monitor = Monitor()
    for seq in range(6):
        at = 30.0 * seq
        tell(monitor, "a", "one", sample(seq), at, wave="r-1/0", is_normal=False)
        tell(monitor, "b", "two", sample(seq, errors_total=seq, healthy=False), at, wave="r-1/0", is_normal=False)
        tell(monitor, "c", "two", sample(seq, version="1"), at, wave="r-1/0")
        tell(monitor, "d", "two", sample(seq, version="1"), at, wave="r-1/1")
        tell(monitor, "e", "two", sample(seq), at)

    found = summarize_waves("2", monitor, now=150.0)

    assert set(found) == {"r-1/0"}, "nothing is known of the wave whose devices run the old one"
    canary = found["r-1/0"]
    assert (canary.fresh, canary.healthy, canary.requests, canary.error_rate) == (2, 1, 1000, 0.005)
    assert summarize_waves("3", monitor, now=150.0) == {}
