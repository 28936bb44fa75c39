"""Times and durations on the wire.

Inside the programs a moment is a float of seconds since the Unix epoch and a duration a float of seconds. Outside, a
moment is RFC 3339 in UTC; it is for people and for diagnosis, because the receiver's clock judges.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$"

Timestamp = Annotated[str, Field(pattern=_PATTERN, max_length=40)]
"""RFC 3339 with a zone, for example ``2026-11-23T10:57:04.482Z``."""


def format_timestamp(now: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> float:
    """Read RFC 3339 as seconds since the epoch.

    Raises:
        ValueError: No such moment, or without a zone; the writer's fault.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()


def format_duration(seconds: float) -> str:
    """Write a duration for people: ``45 s``, ``12 min``, ``2 h 5 min``; three digits below a minute."""
    if seconds < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
