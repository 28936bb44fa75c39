"""The clock for people; what decides is the boot clock."""

import time

from schemas.times import Timestamp, format_timestamp


def wall_seconds() -> float:
    """Return seconds since the epoch; a hint when to ask, never a permission."""
    return time.time()  # noqa: TID251 - this is where the clock lives


def timestamp() -> Timestamp:
    """Return the wall clock's time; it is for people and decides nothing."""
    return format_timestamp(time.time())  # noqa: TID251 - this is where the clock lives
