import gc
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.fold import SampleOutcome
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.readings import Signal
from orchestrator.telemetry.sketch import Sketch, merge
from tests.telemetry.telemetry_streams import (
    CELL_SECONDS,
    Brought,
    Stream,
    brought,
    counted,
    feed,
    outage_seconds,
    sample,
    shown,
    sketch_of,
    stale_after,
    streams,
    tell,
)

DEVICES = ("a", "b", "c", "never seen")


def monitor_of(stream: Stream) -> Monitor:
    monitor = Monitor(longest_seconds=30 * CELL_SECONDS)
    for device, new, at in stream:
        tell(monitor, device, "g", new, at)
    return monitor


def by_device(runs: dict[str, list[Brought]], amount: Callable[[Brought], int], limit: int) -> dict[str, int]:
    found = {device: counted(run, amount, limit) for device, run in runs.items()}
    return {device: count for device, count in found.items() if count}


def slow_window(stream: Stream, version: str, seconds: float | None, now: float) -> dict[str, Any]:
    of_device = {device: brought(stream, device) for device in DEVICES}
    runs = {device: all_[-1] for device, all_ in of_device.items() if all_ and all_[-1][0].sample.version == version}
    oldest = (now // CELL_SECONDS - 30) * CELL_SECONDS
    start = oldest if seconds is None else max((now - seconds) // CELL_SECONDS * CELL_SECONDS, oldest)
    inside = {device: [entry for entry in run if entry.at >= start] for device, run in runs.items()}
    every = [entry for run in inside.values() for entry in run]
    last_good = {device: [entry for entry in run if entry.good][-1] for device, run in runs.items()}
    age = {device: now - last_good[device].at for device in runs}
    fresh = {d for d in runs if age[d] <= stale_after(of_device[d]) and age[d] < (seconds or math.inf)}
    says = {device: False if _is_down(runs[device]) else last_good[device].sample.healthy for device in fresh}
    traffic = {d for d in fresh if None in (last_good[d].sample.requests_total, last_good[d].sample.errors_total)}

    def without(field: str) -> tuple[str, ...]:
        return tuple(sorted(device for device in fresh if getattr(last_good[device].sample, field) is None))

    return {
        "device_count": len(DEVICES),
        "fresh": tuple(sorted(fresh)),
        "silent": tuple(sorted(set(DEVICES) - fresh)),
        "suspect": tuple(sorted(d for d, run in inside.items() if counted(run, lambda e: e.bad, 15) > 2)),
        "sample_count": sum(counted(run, lambda entry: entry.good, 15) for run in inside.values()),
        "request_count": sum(entry.requests for entry in every),
        "error_count": sum(entry.errors for entry in every),
        "restarts": by_device(inside, lambda entry: entry.crashes, 15),
        "log_errors": by_device(inside, lambda entry: entry.log_errors, 255),
        "throttles": by_device(inside, lambda entry: entry.throttles, 15),
        "healthy_count": sum(value is True for value in says.values()),
        "unhealthy": tuple(sorted(device for device, value in says.items() if value is False)),
        "undecided": tuple(sorted(device for device, value in says.items() if value is None)),
        "without_traffic": tuple(sorted(traffic)),
        "without_restarts": without("restarts_total"),
        "without_log_errors": without("log_errors_total"),
        "without_throttles": without("throttle_events_total"),
        "without_cpu": without("cpu_ratio"),
        "latency": merge(*slow_latencies(of_device, version, start)) if runs else Sketch(),
    }


def slow_latencies(of_device: dict[str, list[list[Brought]]], version: str, start: float) -> list[Sketch]:
    """Return the latencies of all devices of the place while they ran the version, also of those that left it."""
    runs = [run for all_ in of_device.values() for run in all_ if run[0].sample.version == version]
    counts = [e for run in runs for e in run if e.at >= start and e.attributed and not e.first and not e.bad]
    return [Sketch.from_wire(entry.sample.latency) for entry in counts if entry.sample.latency]


def _is_down(run: Sequence[Any]) -> bool:
    said = [entry.sample.endpoint_up for entry in run if entry.good and entry.sample.endpoint_up is not None]
    return bool(said) and said[-1] is False


@given(streams(), st.sampled_from([None, 5.0, 30.0, 90.0, 600.0]), st.sampled_from([0.0, 3.0, 95.0, 1000.0]))
def test_window_is_what_a_slow_reading_of_the_stream_gives(stream: Stream, seconds: float | None, later: float) -> None:
    now = (stream[-1][2] if stream else 0.0) + later
    window = monitor_of(stream).window(DEVICES, version="2", seconds=seconds, now=now)
    expected = slow_window(stream, "2", seconds, now)
    assert {name: getattr(window, name) for name in expected} == expected


@given(streams(), st.sampled_from(["2", None]), st.sampled_from([None, 30.0, 600.0]), st.sampled_from([0.0, 95.0]))
def test_devices_are_well_that_a_window_shows_as_fresh_and_healthy_without_a_doubt(
    stream: Stream, version: str | None, seconds: float | None, later: float
) -> None:
    monitor, now = monitor_of(stream), (stream[-1][2] if stream else 0.0) + later
    window = monitor.window(DEVICES, version=version, seconds=seconds, now=now)
    asked = Devices.named(DEVICES, monitor.find(DEVICES))
    well = asked.some(monitor.well(asked, version=version, seconds=seconds, now=now))
    assert set(well) == set(window.fresh) - {*window.suspect, *window.unhealthy, *window.undecided}


@given(streams(), st.integers(1, 40))
def test_samples_folded_together_give_what_they_give_one_by_one(stream: Stream, at_once: int) -> None:
    now = stream[-1][2] if stream else 0.0
    monitor = Monitor(longest_seconds=30 * CELL_SECONDS)
    for index, (device, new, at) in enumerate(stream):
        tell(monitor, device, "g", new, at)
        if index % at_once == 0:
            monitor.version_of(device)  # any question folds in what waits
    together = monitor_of(stream)
    for seconds in (None, 90.0):
        parts = [each.window(DEVICES, version=None, seconds=seconds, now=now) for each in (monitor, together)]
        assert shown(parts[0]) == shown(parts[1])
    assert monitor.outcomes == together.outcomes


@given(streams(), st.sampled_from([0.0, 50.0, 1000.0]))
def test_device_facts_are_what_a_slow_reading_of_the_stream_gives(stream: Stream, later: float) -> None:
    monitor = monitor_of(stream)
    now = (stream[-1][2] if stream else 0.0) + later
    for device in DEVICES:
        runs = brought(stream, device)
        run = runs[-1] if runs else []
        good = [entry.at for entry in run if entry.good]
        is_fresh = bool(good) and now - good[-1] <= stale_after(runs)
        named = run[0].sample.version if run else None
        down = outage_seconds(run) if is_fresh and named is not None else 0.0
        assert monitor.endpoints_down([device], version=None, now=now) == ({device: down} if down else {})
        assert monitor.last_seen(device) == (run[-1].at if run else None)
        assert monitor.version_of(device) == named


def test_outcomes_name_what_became_of_each_sample() -> None:
    monitor = Monitor()
    story = [
        (sample(5), SampleOutcome.RESET),
        (sample(6), SampleOutcome.ACCEPTED),
        (sample(6), SampleOutcome.DUPLICATE),
        (sample(5), SampleOutcome.LATE),
        (sample(7, requests_total=1), SampleOutcome.BAD),
        (sample(0, boot_id="next"), SampleOutcome.ACCEPTED),
        (sample(8), SampleOutcome.LATE),
        (sample(1, boot_id="next", version="3"), SampleOutcome.RESET),
    ]
    for index, (new, outcome) in enumerate(story):
        before = monitor.outcomes.copy()
        tell(monitor, "a", "g", new, float(index))
        monitor.version_of("a")
        assert +(monitor.outcomes - before) == {outcome: 1}


def test_counters_of_a_new_boot_count_from_zero_and_the_boot_is_a_restart() -> None:
    monitor = Monitor()
    tell(monitor, "a", "g", sample(90), 0.0)
    tell(monitor, "a", "g", sample(3, boot_id="next", errors_total=7, restarts_total=2), 30.0)
    window = monitor.window(["a"], version="2", seconds=None, now=30.0)
    assert (window.request_count, window.error_count, window.crash_count) == (300, 7, 3)


def test_window_of_a_new_version_holds_nothing_of_the_old_one_when_the_version_changes_within_a_boot() -> None:
    monitor = Monitor()
    latency = sketch_of([9.0])
    end = feed(
        monitor, "a", version="1", errors_total=lambda seq: 50 * seq, restarts_total=lambda seq: seq, latency=latency
    )
    tell(monitor, "a", "g", sample(11, errors_total=550, restarts_total=9, latency=latency), end + 30)
    tell(monitor, "a", "g", sample(12, errors_total=551, restarts_total=9), end + 60)
    window = monitor.window(["a"], version="2", seconds=3600.0, now=end + 60)
    assert (window.sample_count, window.request_count, window.error_count, window.crash_count) == (2, 100, 1, 0)
    assert window.latency.count == 0
    assert monitor.window(["a"], version="1", seconds=3600.0, now=end + 60).silent == ("a",)


def test_traffic_is_not_counted_when_errors_are_unknown() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", errors_total=None)
    window = monitor.window(["a"], version="2", seconds=None, now=now)
    assert window.request_count == 0
    assert window.error_rate is None
    assert window.without_traffic == ("a",)


def test_sample_without_a_version_brings_no_good_news() -> None:
    monitor = Monitor(stale_after_seconds=40.0)
    now = feed(monitor, "a", count=2)
    feed(monitor, "a", start=now + 30, first=2, count=2, version=None, latency=sketch_of([0.1]))
    window = monitor.window(["a"], version="2", seconds=None, now=now + 60)
    assert (tuple(window.silent), window.sample_count, window.request_count) == (("a",), 2, 100)
    assert window.latency.count == 0


def test_sample_without_a_version_brings_bad_news_of_the_version_that_ran() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=2)
    down: dict[str, Any] = {"version": None, "healthy": False, "endpoint_up": False, "restarts_total": lambda seq: seq}
    now = feed(monitor, "a", start=now + 30, first=2, count=6, **down)
    window = monitor.window(["a"], version="2", seconds=None, now=now)
    assert (tuple(window.unhealthy), window.crash_count) == (("a",), 7)
    assert monitor.endpoints_down(["a"], version="2", now=now) == {"a": 150.0}
    assert monitor.version_of("a") == "2"


def test_outage_lasts_until_the_endpoint_has_answered() -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    tell(monitor, "a", "g", sample(11, endpoint_up=False), now + 30)
    tell(monitor, "a", "g", sample(12, endpoint_up=None), now + 60)
    assert monitor.endpoints_down(["a"], version="2", now=now + 60) == {"a": 30.0}

    tell(monitor, "a", "g", sample(13, endpoint_up=True), now + 90)
    assert monitor.endpoints_down(["a"], version="2", now=now + 90) == {}


def test_bad_sample_is_no_evidence_of_health() -> None:
    monitor = Monitor(stale_after_seconds=40.0)
    now = feed(monitor, "a", healthy=True)
    tell(monitor, "a", "g", sample(11, requests_total=1), now + 30)
    tell(monitor, "a", "g", sample(12, requests_total=0), now + 60)
    assert monitor.window(["a"], version="2", seconds=None, now=now + 60).silent == ("a",)
    assert monitor.last_seen("a") == now + 60


@pytest.mark.parametrize(("age", "silent"), [(90.0, ()), (90.1, ("a",))])
def test_device_is_silent_when_three_of_its_intervals_bring_no_sample(age: float, silent: tuple[str, ...]) -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a"], version="2", seconds=None, now=now + age).silent == silent


@pytest.mark.parametrize(("age", "silent"), [(9.9, ()), (10.0, ("a",))])
def test_device_is_silent_when_the_window_is_shorter_and_holds_no_sample(age: float, silent: tuple[str, ...]) -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a"], version="2", seconds=10.0, now=now + age).silent == silent


def test_window_counts_each_device_once_when_it_is_named_twice() -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a", "a"], version="2", seconds=None, now=now).request_count == 1000


def test_window_longer_than_what_is_kept_holds_all_cells() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=200)
    window = monitor.window(["a"], version="2", seconds=10_000.0, now=now)
    assert now == 99 * 60 + 30
    assert (window.sample_count, window.request_count) == (62, 6200)


def size_of(value: object) -> int:
    """Count the objects that hang on ``value``, classes and modules apart."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function"):
            continue
        seen.add(id(item))
        pending.extend(gc.get_referents(item))
    return len(seen)


def test_memory_does_not_grow_when_samples_go_on() -> None:
    monitor = Monitor(history_seconds=600.0)
    sizes = []
    for part in range(3):
        for seq in range(part * 3000, part * 3000 + 3000):
            latency = sketch_of([0.01 + seq % 50 / 1000])
            new = sample(seq, boot_id=f"boot{seq // 100}", version=f"v{seq // 300}", latency=latency)
            tell(monitor, f"d{seq % 3}", f"g{seq // 500}", new, float(seq))
        sizes.append(size_of(monitor))
    assert sizes[2] <= sizes[1] * 1.05


@pytest.mark.parametrize("second", [0.1, 17.0, 59.9])
def test_cells_that_become_shorter_are_told_apart_from_that_moment_on(second: float) -> None:
    monitor, started_at = Monitor(), 100 * 60.0 + second
    tell(monitor, "a", "g", sample(seq=0, memory_bytes=10**8), started_at)
    monitor.cover(15.0)
    for seq in range(1, 31):
        tell(monitor, "a", "g", sample(seq=seq, memory_bytes=10**8), started_at + seq / 4)
    found = monitor.slopes(["a"], Signal.MEMORY, version=None, seconds=7.5, now=started_at + 7.5)
    assert found.points.tolist() == [15]
    window = monitor.window(["a"], version=None, seconds=None, now=started_at + 7.5)
    assert window.sample_count == 31
