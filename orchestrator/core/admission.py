"""How much a device may say beside its health: a token bucket for each that spoke lately.

It is asked before anything is decoded or written down, so one device that floods the bus costs the others nothing. Of
what replaces what was said before, the last word of a flood is kept and heard in the end.

Source:
    The bucket as a time of arrival: ITU-T I.371, generic cell rate algorithm.
"""

from collections import Counter
from typing import Final

from orchestrator.core.interpret import Received
from schemas.topics import Kind, TopicTree

MESSAGES_PER_SECOND: Final = 20.0
"""What a device may say for any length of time; a whole install is a dozen messages."""
BURST_COUNT: Final = 100
"""What it may say at once, after it was quiet for a while."""
INFO_COUNTS_FOR: Final = 10
"""What a device is may be news each time, and is then written down; it says so once for each connection."""
SWEPT_FROM: Final = 10_000
"""From so many devices on, those that may say as much as at first are forgotten now and then."""

_INTERVAL_SECONDS: Final = 1 / MESSAGES_PER_SECOND
_LEVELS: Final = frozenset({Kind.INFO, Kind.AVAILABILITY, Kind.REPORTED})
_LIMITED: Final = _LEVELS | {Kind.READY}


class Admission:
    """The buckets of devices by name; mutable.

    It holds the names that spoke within some seconds and as many again, and a last word for each topic of a flood.

    Args:
        tree: Says whose a message is.
    """

    def __init__(self, tree: TopicTree) -> None:
        self._tree = tree
        self._full_at: dict[str, float] = {}
        self._swept_from = SWEPT_FROM
        self._floods: Counter[str] = Counter()
        self._last_words: dict[str, Received] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def admit(self, received: Received, now: float) -> bool:
        """Say whether a message is heard; ``now`` never falls. What is not is counted in ``floods``."""
        address = self._tree.parse(received.topic)
        if address is None or address.kind not in _LIMITED:
            return True
        weight = INFO_COUNTS_FOR if address.kind is Kind.INFO else 1
        if not self._has_room(address.ids["device"], weight, now):
            if address.kind in _LEVELS:
                self._last_words[received.topic] = received
            return False
        self._last_words.pop(received.topic, None)
        return True

    def _has_room(self, device: str, weight: int, now: float) -> bool:
        full_at = max(self._full_at.get(device, now), now)
        if full_at > now + (BURST_COUNT - weight) * _INTERVAL_SECONDS:
            self._floods[device] += 1
            return False
        self._full_at[device] = full_at + weight * _INTERVAL_SECONDS
        if len(self._full_at) > self._swept_from:
            self._full_at = {name: until for name, until in self._full_at.items() if until > now}
            self._swept_from = max(SWEPT_FROM, 2 * len(self._full_at))
        return True

    def floods(self) -> dict[str, int]:
        """Return how many messages of each device were not heard since the last call."""
        floods, self._floods = self._floods, Counter()
        return floods

    def last_words(self) -> tuple[Received, ...]:
        """Return what was not heard and nothing newer has replaced; to be offered to ``admit`` again."""
        return tuple(self._last_words.values())
