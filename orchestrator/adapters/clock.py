"""The orchestrator's clock: the wall clock as it stood at the start, carried on by a clock that never jumps."""

import time
from typing import Final

# BOOTTIME is the monotonic clock that goes on while the machine sleeps.
_WALL_AT_BOOT: Final = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # noqa: TID251 - this is the clock's adapter


def now() -> float:
    """Return seconds since the Unix epoch; within a process it never falls, whatever is done to the wall clock."""
    return _WALL_AT_BOOT + time.clock_gettime(time.CLOCK_BOOTTIME)
