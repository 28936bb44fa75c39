"""The boot clock, which never falls, goes on during sleep, and knows nothing of dates; imports nothing but Python."""

import time
from pathlib import Path


def boot_seconds() -> float:
    """Return seconds since the boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return an id that changes with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
