import gc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.telemetry.monitor import Monitor, Window
from orchestrator.telemetry.series import SAMPLES_MAX, SampleOutcome
from orchestrator.telemetry.sketch import Sketch, merge
from tests.telemetry.telemetry_streams import (
    Stream,
    brought,
    feed,
    outage_seconds,
    sample,
    sketch_of,
    stale_after,
    streams,
)

DEVICES = ("a", "b", "c", "never seen")


def monitor_of(stream: Stream) -> Monitor:
    monitor = Monitor()
    for device, new, at in stream:
        monitor.observe(device, "g", new, at)
    return monitor


def slow_window(stream: Stream, version: str, seconds: float | None, now: float) -> Window:
    runs = {device: (brought(stream, device) or [[]])[-1] for device in DEVICES}
    runs = {device: run for device, run in runs.items() if run and run[0].sample.version == version}
    start = float("-inf") if seconds is None else now - seconds
    inside = [entry for run in runs.values() for entry in run if entry.at > start]
    last_good = {device: [entry for entry in run if entry.good][-1] for device, run in runs.items()}
    fresh = {device for device, run in runs.items() if now - last_good[device].at <= min(stale_after(run), now - start)}
    says = {device: False if _is_down(runs[device]) else last_good[device].sample.healthy for device in fresh}
    traffic = {d for d in fresh if None in (last_good[d].sample.requests_total, last_good[d].sample.errors_total)}
    sketches = [e.sample.latency for e in inside if e.sample.latency and e.attributed and not e.first and not e.bad]
    return Window(
        device_count=len(DEVICES),
        fresh_device_count=len(fresh),
        silent=tuple(sorted(set(DEVICES) - fresh)),
        sample_count=sum(entry.good for entry in inside),
        request_count=sum(entry.requests for entry in inside),
        error_count=sum(entry.errors for entry in inside),
        crash_count=sum(entry.crashes for entry in inside),
        healthy_count=sum(value is True for value in says.values()),
        unhealthy=tuple(sorted(device for device, value in says.items() if value is False)),
        undecided=tuple(sorted(device for device, value in says.items() if value is None)),
        without_traffic=tuple(sorted(traffic)),
        without_restarts=tuple(sorted(d for d in fresh if last_good[d].sample.restarts_total is None)),
        sketches=tuple(map(Sketch.from_wire, sketches)),
        log_error_count=sum(entry.log_errors for entry in inside),
        throttle_count=sum(entry.throttles for entry in inside),
        without_log_errors=tuple(sorted(d for d in fresh if last_good[d].sample.log_errors_total is None)),
        without_throttles=tuple(sorted(d for d in fresh if last_good[d].sample.throttle_events_total is None)),
    )


def _is_down(run: Sequence[Any]) -> bool:
    said = [entry.sample.endpoint_up for entry in run if entry.good and entry.sample.endpoint_up is not None]
    return bool(said) and said[-1] is False


@given(streams(), st.sampled_from([None, 5.0, 30.0, 90.0, 600.0]), st.sampled_from([0.0, 3.0, 95.0, 1000.0]))
def test_window_is_what_a_slow_reading_of_the_stream_gives(stream: Stream, seconds: float | None, later: float) -> None:
    now = (stream[-1][2] if stream else 0.0) + later
    expected = slow_window(stream, "2", seconds, now)
    window = monitor_of(stream).window(DEVICES, version="2", seconds=seconds, now=now)
    assert window == expected
    assert window.latency == merge(*expected.sketches)


@given(streams(), st.sampled_from([5.0, 90.0, 600.0]), st.sampled_from([0.0, 50.0, 1000.0]))
def test_device_facts_are_what_a_slow_reading_of_the_stream_gives(stream: Stream, seconds: float, later: float) -> None:
    monitor = monitor_of(stream)
    now = (stream[-1][2] if stream else 0.0) + later
    for device in DEVICES:
        runs = brought(stream, device)
        run = runs[-1] if runs else []
        inside = [entry for entry in run if entry.at > now - seconds]
        good = [entry.at for entry in run if entry.good]
        is_fresh = bool(good) and now - good[-1] <= stale_after(run)
        assert monitor.sums(device, seconds, now).crashes == sum(entry.crashes for entry in inside)
        assert monitor.sums(device, seconds, now).bad == sum(entry.bad for entry in inside)
        assert monitor.endpoint_down_seconds(device, now) == (outage_seconds(run) if is_fresh else 0.0)
        assert monitor.last_seen(device) == (run[-1].at if run else None)
        assert monitor.version_of(device) == (run[0].sample.version if run else None)
        assert monitor.group_of(device) == ("g" if run else None)


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
        assert monitor.observe("a", "g", new, float(index)) is outcome


def test_counters_of_a_new_boot_count_from_zero_and_the_boot_is_a_restart() -> None:
    monitor = Monitor()
    monitor.observe("a", "g", sample(90), 0.0)
    monitor.observe("a", "g", sample(3, boot_id="next", errors_total=7, restarts_total=2), 30.0)
    window = monitor.window(["a"], version="2", seconds=None, now=30.0)
    assert (window.request_count, window.error_count, window.crash_count) == (300, 7, 3)


def test_window_of_a_new_version_holds_nothing_of_the_old_one_when_the_version_changes_within_a_boot() -> None:
    monitor = Monitor()
    latency = sketch_of([9.0])
    end = feed(
        monitor, "a", version="1", errors_total=lambda seq: 50 * seq, restarts_total=lambda seq: seq, latency=latency
    )
    monitor.observe("a", "g", sample(11, errors_total=550, restarts_total=9, latency=latency), end + 30)
    monitor.observe("a", "g", sample(12, errors_total=551, restarts_total=9), end + 60)
    window = monitor.window(["a"], version="2", seconds=3600.0, now=end + 60)
    assert (window.sample_count, window.request_count, window.error_count, window.crash_count) == (2, 100, 1, 0)
    assert window.latency.count == 0
    assert monitor.window(["a"], version="1", seconds=3600.0, now=end + 60).silent == ("a",)
    assert monitor.sums("a", 3600.0, end + 60).crashes == 0


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
    assert (window.silent, window.sample_count, window.request_count) == (("a",), 2, 100)
    assert window.latency.count == 0


def test_sample_without_a_version_brings_bad_news_of_the_version_that_ran() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=2)
    down: dict[str, Any] = {"version": None, "healthy": False, "endpoint_up": False, "restarts_total": lambda seq: seq}
    now = feed(monitor, "a", start=now + 30, first=2, count=6, **down)
    window = monitor.window(["a"], version="2", seconds=None, now=now)
    assert (window.unhealthy, window.crash_count) == (("a",), 7)
    assert monitor.endpoint_down_seconds("a", now) == 150.0
    assert monitor.version_of("a") == "2"


def test_bad_sample_is_no_evidence_of_health() -> None:
    monitor = Monitor(stale_after_seconds=40.0)
    now = feed(monitor, "a", healthy=True)
    monitor.observe("a", "g", sample(11, requests_total=1), now + 30)
    monitor.observe("a", "g", sample(12, requests_total=0), now + 60)
    assert monitor.window(["a"], version="2", seconds=None, now=now + 60).silent == ("a",)
    assert monitor.last_seen("a") == now + 60


@pytest.mark.parametrize(("age", "silent"), [(90.0, ()), (90.1, ("a",))])
def test_device_is_silent_when_three_of_its_intervals_bring_no_sample(age: float, silent: tuple[str, ...]) -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a"], version="2", seconds=None, now=now + age).silent == silent


@pytest.mark.parametrize(("age", "silent"), [(10.0, ()), (10.1, ("a",))])
def test_device_is_silent_when_the_window_is_shorter_and_holds_no_sample(age: float, silent: tuple[str, ...]) -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a"], version="2", seconds=10.0, now=now + age).silent == silent


def test_window_counts_each_device_once_when_it_is_named_twice() -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    assert monitor.window(["a", "a"], version="2", seconds=None, now=now).request_count == 1000


def test_window_longer_than_what_is_kept_holds_the_last_samples() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=SAMPLES_MAX + 100)
    window = monitor.window(["a"], version="2", seconds=None, now=now)
    assert (window.sample_count, window.request_count) == (SAMPLES_MAX, 100 * SAMPLES_MAX)


def test_forgotten_device_is_unknown() -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    monitor.forget("a")
    monitor.forget("a")
    assert monitor.last_seen("a") is None
    assert monitor.version_of("a") is None
    assert monitor.group_of("a") is None
    assert monitor.sums("a", 60.0, now).crashes == 0
    assert monitor.window(["a"], version="2", seconds=None, now=now).silent == ("a",)


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
            monitor.observe(f"d{seq % 3}", f"g{seq // 500}", new, float(seq))
        sizes.append(size_of(monitor))
    assert sizes[2] <= sizes[1] * 1.05


def test_memory_does_not_grow_when_devices_come_and_go() -> None:
    monitor = Monitor(history_seconds=600.0)
    sizes = []
    for part in range(3):
        for number in range(200):
            start = (part * 200 + number) * 60.0
            feed(monitor, f"d{part}-{number}", count=3, start=start)
            monitor.forget(f"d{part}-{number}")
        sizes.append(size_of(monitor))
    assert sizes[2] <= sizes[1] * 1.05
