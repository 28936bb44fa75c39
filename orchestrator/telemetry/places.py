"""Where a device belongs: what it is judged together with."""

from typing import NamedTuple


class Place(NamedTuple):
    """Where a device belongs.

    Attributes:
        wave: The rollout's wave that it is in, as the caller names it; empty for none.
        is_normal: Whether what it does may be taken for what is normal.
    """

    group: str
    wave: str = ""
    is_normal: bool = True


class Places:
    """Places by number."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._codes: dict[Place, int] = {}

    def code(self, place: Place) -> int:
        """Return a place's number, a new one where it is new."""
        code = self._codes.get(place)
        if code is None:
            code = self._codes[place] = len(self._places)
            self._places.append(place)
        return code

    def __getitem__(self, code: int) -> Place:
        return self._places[code]

    def normal(self, group: str) -> list[int]:
        """Return the numbers of a group's places where what devices do is normal."""
        return [code for code, place in enumerate(self._places) if place.group == group and place.is_normal]
