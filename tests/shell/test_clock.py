import time

from orchestrator.adapters import clock


def test_clock_shows_the_time_of_day_and_never_falls() -> None:
    readings = [clock.now() for _ in range(10_000)]

    assert readings == sorted(readings)
    assert abs(readings[-1] - time.clock_gettime(time.CLOCK_REALTIME)) < 5.0
