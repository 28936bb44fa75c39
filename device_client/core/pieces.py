"""Which pieces a device asks for over the bus, when, and when again. No clock and no broker: ``now`` is told.

A broker carries what a fleet lives by, so a device never has more than a few pieces under way. It begins with two, adds
one with each that comes, and goes back to one when one stays away: whatever is slow is not helped by asking for more.
What stays away is asked for again, later each time and never in step with other devices. What was not asked for, or
came already, is not taken.

Source:
    Karn's rule and exponential backoff, as in RFC 6298: only an answer to the first question says how long one takes.
"""

import random
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.messages import PieceFolder

PIECES_MAX: Final = 8
"""Under way at a time; with 32 KiB each a quarter of a megabyte."""
PIECES_FIRST: Final = 2
AGAIN_SECONDS: Final = 5.0
AGAIN_SECONDS_MAX: Final = 60.0
_ANSWERS_WAITED: Final = 3.0
"""So many times the usual time an answer is waited for, if that is longer."""
_NEWEST_SHARE: Final = 0.25


class Wanted(NamedTuple):
    """A piece by its name."""

    folder: PieceFolder
    sha256: str
    offset_bytes: int
    length_bytes: int


@dataclass(slots=True)
class _Asked:
    """A piece that is under way."""

    asked_at: float
    again_at: float
    repeats: int = 0


class Window:
    """The pieces that are wanted, and those of them that are under way.

    Args:
        rng: Spreads what is asked for again.
        pieces_max: Under way at a time.
        again_seconds: An answer is waited for at least so long, give or take a quarter.
    """

    def __init__(
        self, rng: random.Random, *, pieces_max: int = PIECES_MAX, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._rng = rng
        self._again_seconds = again_seconds
        self._pieces_max = pieces_max
        self._room = min(PIECES_FIRST, pieces_max)
        self._answer_seconds = 0.0
        self._waiting: dict[Wanted, None] = {}
        self._asked: dict[Wanted, _Asked] = {}

    @property
    def under_way(self) -> int:
        """How many were asked for and have not come."""
        return len(self._asked)

    def want(self, piece: Wanted) -> None:
        """Have a piece asked for when there is room; one that is wanted already is not wanted twice."""
        if piece not in self._asked:
            self._waiting[piece] = None

    def forget(self, sha256: str) -> None:
        """Want nothing of one thing any more; what is under way of it is not taken when it comes."""
        for pieces in (self._waiting, self._asked):
            for piece in [each for each in pieces if each.sha256 == sha256]:
                del pieces[piece]

    def due(self, now: float) -> list[Wanted]:
        """Return the pieces to ask for now, and take them for asked."""
        late = [piece for piece, asked in self._asked.items() if asked.again_at <= now]
        if late:
            self._room = 1
        for piece in late:
            asked = self._asked[piece]
            asked.repeats += 1
            asked.again_at = now + self._patience_seconds(asked.repeats)
        fresh: list[Wanted] = []
        while self._waiting and len(self._asked) < self._room:
            piece = next(iter(self._waiting))
            del self._waiting[piece]
            self._asked[piece] = _Asked(now, now + self._patience_seconds(0))
            fresh.append(piece)
        return late + fresh

    def take(self, sha256: str, offset_bytes: int, now: float) -> Wanted | None:
        """Return the piece that came, which is under way no more; None: nobody waits for it."""
        piece = self._find(sha256, offset_bytes)
        if piece is None:
            return None
        asked = self._asked.pop(piece)
        if not asked.repeats:
            took = now - asked.asked_at
            self._answer_seconds += _NEWEST_SHARE * (took - self._answer_seconds)
            self._room = min(self._pieces_max, self._room + 1)
        return piece

    def put_off(self, sha256: str, offset_bytes: int, now: float, seconds: float) -> bool:
        """Ask for a piece again no sooner than in so many seconds; False: nobody waits for it."""
        piece = self._find(sha256, offset_bytes)
        if piece is None:
            return False
        asked = self._asked[piece]
        asked.repeats += 1
        asked.again_at = now + seconds * self._rng.uniform(1.0, 1.5)
        self._room = 1
        return True

    def begin_again(self, now: float) -> None:
        """Ask for everything that was under way once more, soon: whoever was to answer may not have heard it."""
        for asked in self._asked.values():
            asked.repeats += 1
            asked.again_at = now + self._rng.uniform(0.0, self._again_seconds)

    def _find(self, sha256: str, offset_bytes: int) -> Wanted | None:
        wanted = (piece for piece in self._asked if (piece.sha256, piece.offset_bytes) == (sha256, offset_bytes))
        return next(wanted, None)

    def _patience_seconds(self, repeats: int) -> float:
        usual = max(self._again_seconds, _ANSWERS_WAITED * self._answer_seconds)
        return float(min(AGAIN_SECONDS_MAX, usual * 2**repeats)) * self._rng.uniform(0.75, 1.25)
