"""Memory of the telemetry over a simulated week of a fleet that is never at rest."""

import copy
import gc
import tracemalloc
from typing import Final

from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.readings import Signal
from orchestrator.telemetry.sample import Latency, Sample
from orchestrator.telemetry.sketch import GAMMA

DEVICES: Final = [f"d-{number:02d}" for number in range(24)]
MINUTE, HOUR, DAY = 60.0, 3600.0, 24 * 3600.0


def sample_of(number: int, minute: int) -> Sample:
    """Return a sample of a device that restarts every five hours and runs another version each day."""
    boot, seq = divmod(minute + 13 * number, 300)
    return Sample(
        seq=seq,
        boot_id=f"boot-{number}-{boot}",
        version=f"1.{(minute + 30 * number) // 1440}.0",
        requests_total=600 * seq,
        errors_total=seq,
        restarts_total=0,
        log_errors_total=seq // 50,
        throttle_events_total=0,
        memory_bytes=180_000_000 + seq * 1000,
        disk_free_bytes=5_000_000_000 - seq * 1000,
        temperature_celsius=50.0 + seq % 7,
        cpu_ratio=0.25,
        healthy=True,
        endpoint_up=seq != 7,
        latency=Latency(GAMMA, -130 + (minute + number) % 40, (20, 90, 120, 60, 10)),
        quality={"confidence": 0.9},
    )


def place_of(number: int, hour: int) -> Place:
    """Return where a device belongs: each day it is in a wave for eight hours, and now and then in quarantine."""
    day, time = divmod(hour, 24)
    is_under_way = time < 8
    wave = f"r-{day}/{number % 3}" if is_under_way else ""
    return Place(f"g-{(number + day) % 3}", wave, is_normal=not is_under_way and (number + hour) % 11 != 0)


def live_through(monitor: Monitor, day: int) -> None:
    for hour in range(day * 24, day * 24 + 24):
        rows = monitor.admit(DEVICES, [place_of(number, hour) for number in range(len(DEVICES))])
        for minute in range(hour * 60, hour * 60 + 60):
            monitor.observe(rows, [sample_of(number, minute) for number in range(len(DEVICES))], minute * MINUTE)
        ask(monitor, hour * HOUR + 59 * MINUTE)


def ask(monitor: Monitor, now: float) -> None:
    """Ask what a rollout asks."""
    monitor.alarmed()
    monitor.window(DEVICES, version=None, seconds=900.0, now=now)
    monitor.slopes(DEVICES, Signal.MEMORY, version=None, seconds=1800.0, now=now)
    monitor.baseline("g-0", now=now, seconds=DAY, excluding_version="none", min_samples=1)


def size_of(monitor: Monitor) -> int:
    """Return what a copy of it takes: to trace the whole week would take six times as long."""
    tracemalloc.start()
    try:
        twin = copy.deepcopy(monitor)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert twin.nbytes == monitor.nbytes
    return size


def test_memory_stays_flat_over_a_week_of_versions_boots_groups_waves_and_quarantines() -> None:
    monitor = Monitor()
    for day in range(2):
        live_through(monitor, day)
    kept, size = monitor.nbytes, size_of(monitor)
    for day in range(2, 7):
        live_through(monitor, day)

    assert monitor.nbytes == kept
    assert size_of(monitor) <= 1.05 * size
