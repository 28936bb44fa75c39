"""When artifact bytes may be fetched: the window of an order, by a clock that may be wrong.

A device without a clock that can be believed cannot know when a window is open. It fetches then at any time, at the
rate that it may take, because otherwise it would never fetch; so the rate is what protects a line, and the window what
keeps hours free.
"""

from typing import Final

from schemas.messages import FetchLimits
from schemas.windows import MaintenanceWindow, opens_in_seconds

CLOCK_MIN: Final = 1_767_225_600.0
"""2026-01-01: a clock that shows less was never set."""


def fetch_opens_in_seconds(limits: FetchLimits | None, clock: float) -> float:
    """Return how long an order keeps its device from fetching; 0: it may.

    Args:
        limits: Of the order; None: there are none.
        clock: What the device's clock shows, in seconds since the epoch. Where it was never set, or the window's time
            zone is not known here, the window does not count.
    """
    if limits is None or limits.window is None or clock < CLOCK_MIN:
        return 0.0
    told = limits.window
    try:
        window = MaintenanceWindow(start=told.start, end=told.end, time_zone=told.time_zone)
    except ValueError:
        return 0.0
    return opens_in_seconds(window, None, clock)
