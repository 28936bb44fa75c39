"""Whom a device gives to when more ask than it can serve: a few until they have all, others a chunk now and then.

Served all alike, the devices of a site come to the whole release at the same late moment. Served a few at a time, those
few give it to others soon, who give it to others. A chunk now and then shows all who wait that somebody is there.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

GUESTS_MAX: Final = 2
"""Devices that are given as much as they ask for, at a time."""
KEPT_SECONDS: Final = 2.0
"""So long the place of a guest is kept without a connection; it makes a new one now and then."""
ONCE_EACH_SECONDS: Final = 10.0
"""How often another device is given a chunk."""
_OTHERS_SHARE: Final = 8
_REMEMBERED_MAX: Final = 1024


class Welcome(Enum):
    """How somebody is received."""

    GUEST = auto()
    ONCE = auto()
    BUSY = auto()


@dataclass(slots=True)
class _Guest:
    connections: int = 0
    left_at: float = 0.0


class Places:
    """Who is served, by address: devices behind one address count as one.

    Args:
        connections_max: At a time; an eighth of them, rounded down, is for those who are no guests.
    """

    def __init__(self, connections_max: int) -> None:
        self._others_max = connections_max // _OTHERS_SHARE
        self._guests_connections_max = connections_max - self._others_max
        self._guests: dict[str, _Guest] = {}
        self._others = 0
        self._given_at: dict[str, float] = {}

    def take(self, address: str, now: float) -> Welcome:
        """Receive a connection; whoever is not told BUSY has to ``leave``."""
        self._forget(now)
        if address in self._guests or len(self._guests) < GUESTS_MAX:
            if sum(each.connections for each in self._guests.values()) >= self._guests_connections_max:
                return Welcome.BUSY
            self._guests.setdefault(address, _Guest()).connections += 1
            return Welcome.GUEST
        if self._others >= self._others_max or address in self._given_at or len(self._given_at) >= _REMEMBERED_MAX:
            return Welcome.BUSY
        self._others += 1
        self._given_at[address] = now
        return Welcome.ONCE

    def leave(self, address: str, welcome: Welcome, now: float) -> None:
        """Let a connection go that was received so."""
        if welcome is Welcome.GUEST:
            guest = self._guests[address]
            guest.connections -= 1
            guest.left_at = now
        elif welcome is Welcome.ONCE:
            self._others -= 1

    def _forget(self, now: float) -> None:
        """Let guests go that are gone, and remember whom a chunk was given only as long as that matters."""
        for address, guest in list(self._guests.items()):
            if not guest.connections and now - guest.left_at >= KEPT_SECONDS:
                del self._guests[address]
        while self._given_at:
            address, given_at = next(iter(self._given_at.items()))  # the oldest
            if now - given_at < ONCE_EACH_SECONDS:
                break
            del self._given_at[address]
