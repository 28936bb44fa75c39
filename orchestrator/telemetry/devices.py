"""Devices that are judged together: by their rows, so that a verdict about a million of them names none."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, overload

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.columns import Rows

SORTED_MAX: Final = 4096
"""Of more names than that, the first ones are those of the first rows."""

_Places = NDArray[np.intp]


class Devices(Sequence[str]):
    """Some devices, each once; as a sequence it is their names.

    Args:
        rows: Theirs in the monitor; ``UNKNOWN`` where one was never heard.
        names_at: Names those at some places.
        groups: The number of each one's group.
        group_names: The groups by their numbers.
    """

    def __init__(
        self,
        rows: Rows,
        names_at: Callable[[_Places], list[str]],
        groups: NDArray[Any] | None = None,
        group_names: Sequence[str] = ("",),
    ) -> None:
        self.rows = rows
        self.names_at = names_at
        self._groups = np.zeros(len(rows), dtype=np.intp) if groups is None else groups
        self._group_names = group_names

    @classmethod
    def named(cls, names: Sequence[str], rows: Rows, groups: Iterable[str] | None = None) -> Self:
        """Return devices whose names are at hand."""

        def names_at(places: _Places) -> list[str]:
            return [names[place] for place in places.tolist()]

        if groups is None:
            return cls(rows, names_at)
        numbers: dict[str, int] = {}
        codes = np.array([numbers.setdefault(each, len(numbers)) for each in groups], dtype=np.intp)
        return cls(rows, names_at, codes, list(numbers))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return the name at a place, or those at some."""
        found = self.names_at(np.atleast_1d(np.arange(len(self))[index]))
        return found if isinstance(index, slice) else found[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names_at(np.arange(len(self))))

    def take(self, places: _Places) -> "Devices":
        """Return those at some places."""
        names_at = self.names_at
        return Devices(
            self.rows[places], lambda which: names_at(places[which]), self._groups[places], self._group_names
        )

    def places_by_group(self) -> Iterator[tuple[str, _Places]]:
        """Yield each group with the places of its devices, by the groups' names."""
        order = np.argsort(self._groups, kind="stable")
        counts = np.bincount(self._groups, minlength=len(self._group_names))
        ends = np.cumsum(counts)
        for name, code in sorted((name, code) for code, name in enumerate(self._group_names)):
            if counts[code]:
                yield name, order[ends[code] - counts[code] : ends[code]]

    def by_group(self) -> Iterator[tuple[str, "Devices"]]:
        """Yield each group with its devices, by the groups' names."""
        for name, places in self.places_by_group():
            yield name, self.take(places)

    def in_groups(self, names: Container[str]) -> "Devices":
        """Return those that are in one of these groups."""
        is_wanted = np.array([name in names for name in self._group_names], dtype=np.bool_)
        return self.take(np.flatnonzero(is_wanted[self._groups]))

    def sums(self, amounts: NDArray[Any]) -> dict[str, float]:
        """Add up an amount of each device by group."""
        totals = np.bincount(self._groups, amounts, len(self._group_names))
        return {name: float(totals[code]) for code, name in enumerate(self._group_names)}

    def groups(self) -> set[str]:
        """Return the groups that they are in."""
        return {self._group_names[code] for code in np.flatnonzero(np.bincount(self._groups)).tolist()}

    def some(self, mask: NDArray[np.bool_]) -> "Names":
        """Return the names of those that are marked."""
        return Names(self, np.flatnonzero(mask))


class Names(Sequence[str]):
    """The names of some devices, sorted; said only when they are asked for.

    Attributes:
        places: Where the devices stand among those that were asked about.
    """

    def __init__(self, devices: Devices, places: _Places) -> None:
        self.places = places
        self._devices = devices
        self._sorted: tuple[str, ...] | None = None

    def _all(self) -> tuple[str, ...]:
        if self._sorted is None:
            self._sorted = tuple(sorted(self._devices.names_at(self.places)))
        return self._sorted

    def first(self, count: int) -> Sequence[str]:
        """Return the first ones; of very many those of the first devices, because sorting them all would take long."""
        if len(self) <= SORTED_MAX:
            return self._all()[:count]
        return sorted(self._devices.names_at(self.places[:count]))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return one, or some."""
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Names) else other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class Counted(Mapping[str, int]):
    """How often something happened to devices, by name, for those to which it did; names are sorted.

    Attributes:
        total: All together.
        names: The devices.
    """

    def __init__(self, devices: Devices, places: _Places, counts: NDArray[Any]) -> None:
        some = np.flatnonzero(counts)
        self.total = int(counts.sum())
        self.names = Names(devices, places[some])
        self._counts = counts[some]
        self._devices = devices

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> int:
        return self._by_name()[name]

    def items(self) -> Any:  # noqa: ANN401 - as of a dict
        """Return names with their counts."""
        return self._by_name().items()

    def _by_name(self) -> dict[str, int]:
        found = zip(self._devices.names_at(self.names.places), self._counts.tolist(), strict=True)
        return dict(sorted(found))
