"""A set of named deadlines: set, clear, and take those that are due, in order."""

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_SLACK_ENTRIES: Final = 64

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """At most one deadline for each key.

    Moving a deadline to later costs a dictionary write, so the keep alive of a busy connection is cheap: the heap
    holds the earlier time and is corrected when that comes.
    """

    def __init__(self) -> None:
        self._when: dict[K, float] = {}
        self._heaped: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def set(self, key: K, when: float) -> None:
        """Set or move a deadline."""
        self._when[key] = when
        heaped = self._heaped.get(key)
        if heaped is None or when < heaped:
            self._push(key, when)

    def clear(self, key: K) -> None:
        """Forget a deadline, if there is one."""
        self._when.pop(key, None)
        if len(self._heap) > 2 * len(self._when) + _SLACK_ENTRIES:
            self._rebuild()

    def next(self) -> float | None:
        """Return a time before which nothing is due, ``None`` if nothing ever is; it may be early, never late."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[K]:
        """Remove and return the keys that are due, earliest first."""
        due: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            heaped, _, key = heapq.heappop(self._heap)
            if self._heaped.get(key) != heaped:
                continue  # an earlier entry took over
            del self._heaped[key]
            when = self._when.get(key)
            if when is not None and when <= now:
                del self._when[key]
                due.append(key)
            elif when is not None:
                self._push(key, when)
        return due

    def _rebuild(self) -> None:
        """Rid the heap of forgotten deadlines, which could be far away and many."""
        self._heap, self._heaped = [], {}
        for key, when in self._when.items():
            self._push(key, when)

    def _push(self, key: K, when: float) -> None:
        self._count += 1
        self._heaped[key] = when
        heapq.heappush(self._heap, (when, self._count, key))
