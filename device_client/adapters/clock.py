"""The clocks of the device: one that never falls and goes on during sleep, and one for people."""

import time
from pathlib import Path

from schemas.times import Timestamp, format_timestamp


def boot_seconds() -> float:
    """Return seconds since the boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return an id that changes with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def timestamp() -> Timestamp:
    """Return the wall clock's time; it is for people and decides nothing."""
    return format_timestamp(time.time())  # noqa: TID251 - this is where the clock lives
