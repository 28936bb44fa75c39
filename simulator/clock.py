"""Virtual time: nothing waits, and what happens next is the same for the same seed."""

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

START_SECONDS: Final = 1_900_000_000.0
"""When every simulation begins, in seconds since the epoch."""

Action = Callable[[], None]


class Clock:
    """A clock and all that is going to happen.

    Attributes:
        now: Seconds since the epoch; never falls.
    """

    def __init__(self) -> None:
        self.now = START_SECONDS
        self._soon: deque[Action] = deque()
        self._later: list[tuple[float, int, Action]] = []
        self._count = 0

    def soon(self, action: Action) -> None:
        """Do it at this very moment, after all that was to be done before."""
        self._soon.append(action)

    def after(self, seconds: float, action: Action) -> None:
        """Do it later; what falls on the same moment is done in the order in which it was asked for."""
        self._count += 1
        heappush(self._later, (self.now + seconds, self._count, action))

    def run(self, seconds: float) -> bool:
        """Do all that is to be done within ``seconds``, and the first thing after; False when nothing is left."""
        end, soon, later = self.now + seconds, self._soon, self._later
        while True:
            while soon:
                soon.popleft()()
            if self.now >= end:
                return True
            if not later:
                return False
            self.now, _, action = heappop(later)
            action()

    @property
    def elapsed_seconds(self) -> float:
        """Since the beginning of the simulation."""
        return self.now - START_SECONDS


def stream(seed: int, name: str) -> random.Random:
    """Return the random numbers of one part of the world, so that parts do not disturb each other."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - a simulation anybody can repeat, no secret
