"""The worst devices against a slow reading of the same stream, and in the order that a person looks for them."""

from math import inf

import numpy as np
import pytest
from hypothesis import given

from orchestrator.telemetry.columns import CELLS, NIBBLE
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.worst import DeviceHealth, Worst
from tests.telemetry.telemetry_streams import (
    CELL_SECONDS,
    Brought,
    Stream,
    brought,
    counted,
    feed,
    outage_seconds,
    sample,
    stale_after,
    streams,
    tell,
)

NAMES = ["a", "b", "c", "unknown"]
WINDOW_SECONDS = 60.0


def worst(monitor: Monitor, names: list[str], now: float, limit: int = 200) -> Worst:
    return monitor.worst(names, limit=limit, seconds=WINDOW_SECONDS, now=now)


def slow_reading(stream: Stream, name: str, now: float) -> DeviceHealth:
    """Read one device's health sample by sample, as the rules say it."""
    runs = brought(stream, name)
    run = runs[-1] if runs else []
    good = [each for each in run if each.good]
    good_at = good[-1].at if good else -inf
    silent = not good or now - good_at > stale_after(runs)
    kept = [each for each in run if now // CELL_SECONDS - each.at // CELL_SECONDS < CELLS]
    recent = [each for each in run if each.at // CELL_SECONDS >= (now - WINDOW_SECONDS) // CELL_SECONDS]
    down = is_down(good)
    said = good[-1].sample.healthy if good else None
    return DeviceHealth(
        device=name,
        version=run[0].sample.version if run else None,
        healthy=False if down else said,
        down_seconds=outage_seconds(run) if down and not silent else None,
        bad_samples=counted(kept, lambda each: each.bad, NIBBLE),
        silent=silent,
        sample_age_seconds=now - good_at if good else None,
        requests=sum(each.requests for each in recent),
        errors=sum(each.errors for each in recent),
        restarts=counted(kept, lambda each: each.crashes, NIBBLE),
        memory_growth=None,
    )


def is_down(good: list[Brought]) -> bool:
    said = [each.sample.endpoint_up for each in good if each.sample.endpoint_up is not None]
    return said[-1:] == [False]


def badness(each: DeviceHealth) -> tuple[object, ...]:
    unwell = not each.silent and each.healthy is False
    return not unwell, each.bad_samples <= 2, not each.silent, -(each.error_rate or 0.0), -each.restarts


@given(streams())
def test_each_device_is_as_a_slow_reading_of_the_stream_says_and_the_worst_comes_first(stream: Stream) -> None:
    monitor = Monitor(longest_seconds=30 * CELL_SECONDS)
    for name, new, at in stream:
        tell(monitor, name, "g", new, at)
    now = max((at for _, _, at in stream), default=0.0) + 45.0

    found = worst(monitor, NAMES, now)

    expected = sorted((slow_reading(stream, name, now) for name in NAMES), key=badness)
    assert list(found.devices) == expected
    assert found.silent_count == sum(each.silent for each in expected)
    assert found.suspect_count == sum(each.bad_samples > 2 for each in expected)
    assert found.unwell_count == sum(not each.silent and each.healthy is False for each in expected)
    assert worst(monitor, NAMES, now, limit=2).devices == found.devices[:2]


@given(streams())
def test_who_is_ill_is_as_a_slow_reading_of_the_stream_says(stream: Stream) -> None:
    monitor = Monitor(longest_seconds=30 * CELL_SECONDS)
    monitor.admit(NAMES[:3], [Place("g")] * 3, range(3))
    for name, new, at in stream:
        tell(monitor, name, "g", new, at)

    found = monitor.ill(np.arange(len(NAMES)))

    assert found.tolist() == [is_ill(stream, name) for name in NAMES]


def is_ill(stream: Stream, name: str) -> bool:
    runs = brought(stream, name)
    if not runs:
        return False
    good_at = max(each.at for each in runs[-1] if each.good)
    is_old = runs[-1][-1].at - good_at > stale_after(runs)
    return is_old or slow_reading(stream, name, runs[-1][-1].at).healthy is False


def test_one_with_errors_comes_before_one_that_restarted_and_silence_bad_samples_and_illness_before_them() -> None:
    monitor = Monitor()
    feed(monitor, "silent", count=3)
    feed(monitor, "well")
    feed(monitor, "restarts", restarts_total=lambda seq: seq)
    feed(monitor, "errors", errors_total=lambda seq: seq)
    feed(monitor, "ill", healthy=False)
    feed(monitor, "down", endpoint_up=lambda seq: seq < 5)
    now = feed(monitor, "suspect", requests_total=lambda seq: 10_000 - seq)

    found = worst(monitor, ["well", "restarts", "errors", "silent", "suspect", "down", "ill"], now)

    assert [each.device for each in found.devices] == ["down", "ill", "suspect", "silent", "errors", "restarts", "well"]
    assert (found.unwell_count, found.suspect_count, found.silent_count) == (2, 1, 1)
    assert [each.silent for each in found.devices].index(True) == 3
    assert found.kept_seconds == 1800.0


def test_messages_that_are_no_samples_count_as_bad_ones_by_name() -> None:
    monitor = Monitor()
    now = feed(monitor, "a")
    feed(monitor, "b")
    monitor.refuse(monitor.find(["b", "b", "b"]))

    first = worst(monitor, ["a", "b"], now).devices[0]

    assert (first.device, first.bad_samples, first.silent, first.healthy) == ("b", 3, False, True)


def test_memory_that_grows_beyond_chance_is_told_and_noise_is_not() -> None:
    monitor = Monitor()
    noise = np.random.default_rng(1).integers(-1_000_000, 1_000_000, 61).tolist()
    for seq in range(61):
        now = 30.0 * seq
        tell(monitor, "steady", "g", sample(seq, memory_bytes=100_000_000 + noise[seq]), now)
        tell(monitor, "leaks", "g", sample(seq, memory_bytes=100_000_000 + 500_000 * seq), now)

    grown = {each.device: each.memory_growth for each in worst(monitor, ["steady", "leaks"], now).devices}

    assert grown == {"steady": None, "leaks": pytest.approx(0.1, rel=0.05)}


def test_a_device_that_was_let_in_and_never_sent_anything_is_silent() -> None:
    monitor = Monitor()
    monitor.admit(["quiet"], [Place("g")])
    monitor.observe(monitor.admit(["a"], [Place("g")]), [Sample.of(sample(0, healthy=False))], 0.0)

    found = worst(monitor, ["quiet", "never", "a"], 0.0)

    assert [each.device for each in found.devices] == ["a", "quiet", "never"]
    assert [each.sample_age_seconds for each in found.devices] == [0.0, None, None]
    assert [each.version for each in found.devices] == ["2", None, None]
