"""Maintenance windows: when a device may be updated, in its own local time.

A window is judged by the clock on the wall: in the hour that a change of daylight saving time repeats it is open twice,
and a window that lies wholly within an hour that is left out does not open that day. Over midnight it belongs to the
day on which it starts.
"""

from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from schemas.block import StrictBlock

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WallTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]

_DAYS: Final[tuple[Day, ...]] = get_args(Day)
_MINUTE_SECONDS: Final = 60
_SEARCHED_MINUTES: Final = 15 * 24 * 60


class MaintenanceWindow(StrictBlock):
    """The hours in which devices may be updated; a rollback never waits for them."""

    start: WallTime
    """Local time of day from which on it is open, for example ``22:00``."""
    end: WallTime
    """Local time of day from which on it is closed; before ``start``, it is of the next day."""
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7)] = _DAYS
    """On which it starts."""
    time_zone: str = "UTC"
    """IANA name, for devices that name none or none that is known."""

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.start == self.end:
            raise ValueError(f"starts and ends at {self.start}; leave the window out to update at any time")
        return self

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if _zone(name) is None:
            raise ValueError(f"no time zone {name!r}; write an IANA name such as 'Europe/Oslo' or 'UTC'")
        return name


def is_open(window: MaintenanceWindow, time_zone: str | None, now: float) -> bool:
    """Say whether a device may be updated at ``now`` (seconds since the epoch).

    ``time_zone`` is the device's own; where it names none that is known, the window's counts.
    """
    local = datetime.fromtimestamp(now, _zone_of(window, time_zone))
    clock, start, end = local.strftime("%H:%M"), window.start, window.end
    if start < end:
        return start <= clock < end and _starts_on(window, local)
    if clock >= start:
        return _starts_on(window, local)
    return clock < end and _starts_on(window, local - timedelta(days=1))


def opens_in_seconds(window: MaintenanceWindow, time_zone: str | None, now: float) -> float:
    """Return how long it takes until the window is open; 0 while it is, infinite if it is not within two weeks."""
    if is_open(window, time_zone, now):
        return 0.0
    local = datetime.fromtimestamp(now, _zone_of(window, time_zone))
    opens = _next_start(window, local)
    if opens.utcoffset() == local.utcoffset():
        return opens.timestamp() - now
    # The clocks change before that: an hour is missing or repeated, so look at every minute.
    first = now // _MINUTE_SECONDS * _MINUTE_SECONDS
    minutes = (first + minute * _MINUTE_SECONDS for minute in range(1, _SEARCHED_MINUTES))
    return next((at - now for at in minutes if is_open(window, time_zone, at)), float("inf"))


def _next_start(window: MaintenanceWindow, local: datetime) -> datetime:
    start = time.fromisoformat(window.start)
    for day in range(8):
        opens = datetime.combine(local.date() + timedelta(days=day), start, local.tzinfo)
        if opens > local and _starts_on(window, opens):
            return opens
    raise AssertionError("every week holds one of the days")


def _starts_on(window: MaintenanceWindow, local: datetime) -> bool:
    return _DAYS[local.weekday()] in window.days


def _zone_of(window: MaintenanceWindow, time_zone: str | None) -> ZoneInfo:
    zone = _zone(time_zone) if time_zone else None
    zone = zone or _zone(window.time_zone)
    assert zone is not None, "the window's zone was checked"
    return zone


@lru_cache(maxsize=1024)  # a device may name anything
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
