"""When a delivery that failed is tried again, and when it is given up. No clock and no randomness of its own."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

FIRST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 600.0
_RETRY_AFTER_MAX_SECONDS: Final = 3600.0
_DOUBLINGS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Delivered:
    """It has arrived.

    Attributes:
        answer: What the receiver answered, for those that are asked something.
    """

    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Later:
    """It may arrive when it is tried again.

    Attributes:
        why: Without secrets.
        after_seconds: How long the receiver wants to be left alone; None if it does not say.
    """

    why: str
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never arrive as it is: the receiver, or what is configured of it, must change."""

    why: str


Outcome = Delivered | Later | Refused


def outcome_of(status: int, retry_after: str | None, answer: bytes) -> Outcome:
    """Return what an HTTP status means for a delivery: only 2xx is arrival, and 4xx is not mended by repetition."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered(answer)
    why = f"it answers {status}"
    if (
        status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return Later(why, _seconds_of(retry_after))
    if status < HTTPStatus.BAD_REQUEST:
        return Refused(f"{why}: redirects are not followed, write the address that it leads to")
    return Refused(why)


def wait_seconds(attempt: int, chance: float, asked_seconds: float | None = None) -> float:
    """Return how long to wait before the next attempt: longer each time, and never in step with others.

    Args:
        attempt: How many have failed, from 1.
        chance: Drawn anew for each, 0..1.
        asked_seconds: As long as the receiver wants at least; an hour counts at most.
    """
    backoff = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt - 1, _DOUBLINGS_MAX)) * (0.5 + chance / 2)
    return max(backoff, min(asked_seconds or 0.0, _RETRY_AFTER_MAX_SECONDS))


def _seconds_of(retry_after: str | None) -> float | None:
    """Read the header in its usual form; a date is taken for nothing said."""
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None
