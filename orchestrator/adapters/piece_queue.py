"""Which device's piece is given next: each in its turn, so that none that asks for much keeps others from theirs.

Everything is bounded. Of what one device asks for, the oldest is dropped when it is too much: it is the one that the
device waits for no more. A device for which there is no place is told so and comes again; who has a place keeps it
until it has what it asked for, and has a piece in every round.
"""

from collections import OrderedDict
from typing import Final

from schemas.messages import PieceRefusal, PieceRequest

PER_DEVICE_MAX: Final = 16
"""Twice what our agent has under way."""

Ask = PieceRequest | PieceRefusal
"""What a device asked for, or the answer to what could not be read."""


class PieceQueue:
    """What devices have asked for and were not given yet.

    Args:
        devices_max: That have a place at the same time.
    """

    def __init__(self, devices_max: int) -> None:
        assert devices_max >= 1, "somebody is served"
        self._devices_max = devices_max
        self._asks: OrderedDict[str, dict[Ask, None]] = OrderedDict()
        self.dropped = 0
        """Of what devices asked for beyond what one may."""

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return sum(map(len, self._asks.values()))

    @property
    def devices(self) -> int:
        """How many devices have a place."""
        return len(self._asks)

    def add(self, device: str, ask: Ask) -> bool:
        """Remember what ``device`` asks for; what it asked for already waits where it is. False: there is no place."""
        asks = self._asks.get(device)
        if asks is None:
            if len(self._asks) >= self._devices_max:
                return False
            asks = self._asks[device] = {}
        asks[ask] = None
        if len(asks) > PER_DEVICE_MAX:
            del asks[next(iter(asks))]
            self.dropped += 1
        return True

    def next(self) -> tuple[str, Ask] | None:
        """Return whose turn it is, and what it has waited for longest; None if nobody waits."""
        if not self._asks:
            return None
        device, asks = self._asks.popitem(last=False)
        ask = next(iter(asks))
        del asks[ask]
        if asks:
            self._asks[device] = asks  # behind all others
        return device, ask
