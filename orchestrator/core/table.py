"""Rows by name over columns: a million devices as a few arrays, each with the attributes of an object.

A row reads and writes its cells one by one, a rule over the whole fleet takes columns: the same state, told twice.
Texts and other values are dictionary-encoded, so that a fleet of few kinds costs a few bytes for each device.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=Hashable)
R = TypeVar("R", bound="Row")
_CAPACITY_MIN: Final = 64


class Vocabulary:
    """Values by number, each once, in the order in which they were first seen."""

    __slots__ = ("_codes", "values")

    def __init__(self, values: Iterable[Hashable]) -> None:
        self.values: list[Any] = list(values)
        self._codes = {value: code for code, value in enumerate(self.values)}

    def code(self, value: Hashable) -> int:
        """Return the number of ``value``, a new one where it is new."""
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
        return code

    def known(self, values: Iterable[Hashable]) -> list[int]:
        """Return the numbers of those ``values`` that have been seen."""
        return [self._codes[value] for value in values if value in self._codes]


class Field(Generic[T]):
    """A column of a table, and the attribute of a row that is its cell.

    Args:
        default: What a new row holds.
        dtype: How numbers are held; None for values that are dictionary-encoded.
        volatile: It is only seen and not journaled.
        values: Of a dictionary-encoded column, what it may hold, to give each its number beforehand.
    """

    __slots__ = ("default", "dtype", "is_coded", "name", "values", "volatile")

    def __init__(
        self, default: T, dtype: str | None = None, *, volatile: bool = False, values: Sequence[T] = ()
    ) -> None:
        self.default = default
        self.is_coded = dtype is None
        self.dtype = np.dtype(dtype or "i4")
        self.volatile = volatile
        self.values = list(values) or [default]

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, row: None, owner: type) -> Self: ...
    @overload
    def __get__(self, row: "Row", owner: type) -> T: ...
    def __get__(self, row: "Row | None", owner: type) -> "Self | T":
        if row is None:
            return self
        table = row.table
        cell = table.cells[self.name].item(row.row)
        value: T = table.vocabularies[self.name].values[cell] if self.is_coded else cell
        return value

    def __set__(self, row: "Row", value: T) -> None:
        table = row.table
        table.cells[self.name][row.row] = table.vocabularies[self.name].code(value) if self.is_coded else value


class Row:
    """One row of a table; a handle that is made when it is asked for. Subclasses declare its fields."""

    __slots__ = ("id", "row", "table")

    def __init__(self, table: "Table[Any]", row: int, name: str) -> None:
        self.table, self.row, self.id = table, row, name

    def cells(self) -> dict[str, Any]:
        """Return all values by the fields' names."""
        return {name: getattr(self, name) for name in self.table.cells}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self.id == other.id and repr(self.cells()) == repr(other.cells())

    __hash__ = None  # type: ignore[assignment]  # a handle on what changes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.cells()})"


class Table(Mapping[str, R], Generic[R]):
    """Rows of one type by their names, in the order in which they were added; rows are never removed.

    Args:
        row_type: Declares the columns.
    """

    def __init__(self, row_type: type[R]) -> None:
        self.names: list[str] = []
        self._row_type = row_type
        self._rows: dict[str, int] = {}
        self.fields: dict[str, Field[Any]] = {
            name: field for kind in reversed(row_type.__mro__) for name, field in vars(kind).items()
            if isinstance(field, Field)
        }  # fmt: skip
        self.vocabularies = {name: Vocabulary(field.values) for name, field in self.fields.items() if field.is_coded}
        self.cells: dict[str, NDArray[Any]] = {}
        self._reserve(_CAPACITY_MIN)

    def __getitem__(self, name: str) -> R:
        return self._row_type(self, self.row(name), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def add(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Add rows with default values and return their numbers; each name must be new."""
        rows = self._append(names)
        self._rows.update(zip(names, rows.tolist(), strict=True))
        assert len(self._rows) == len(self.names), "each row has its own name"
        return rows

    def row(self, name: str) -> int:
        """Return the number of a row by name; raises ``KeyError`` for a name that is not there."""
        return self._rows[name]

    def rows(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Return the numbers of rows by name; raises ``KeyError`` for a name that is not there."""
        return np.fromiter(map(self._rows.__getitem__, names), dtype=np.intp)

    def column(self, field: Field[Any]) -> NDArray[Any]:
        """Return a column: numbers, or codes into ``vocabularies``. A view, valid until rows are added."""
        return self.cells[field.name][: len(self.names)]

    def where(self, field: Field[T], *values: T) -> NDArray[np.bool_]:
        """Say for each row whether the field holds one of ``values``."""
        column = self.column(field)
        wanted = self.vocabularies[field.name].known(values) if field.is_coded else list(values)
        if not wanted:
            return np.zeros(len(column), dtype=np.bool_)
        result: NDArray[np.bool_] = column == wanted[0]
        for value in wanted[1:]:
            result |= column == value
        return result

    def fill(self, rows: NDArray[np.intp], field: Field[T], value: T) -> None:
        """Write one value into a field of many rows."""
        self.cells[field.name][rows] = self.vocabularies[field.name].code(value) if field.is_coded else value

    def write(self, rows: NDArray[np.intp], field: Field[T], values: Iterable[T]) -> None:
        """Write a value for each row into a field."""
        numbers = map(self.vocabularies[field.name].code, values) if field.is_coded else values
        self.cells[field.name][rows] = np.fromiter(numbers, dtype=field.dtype, count=len(rows))

    def restore(
        self, names: Sequence[str], columns: Mapping[str, NDArray[Any]], vocabularies: Mapping[str, Iterable[Hashable]]
    ) -> None:
        """Fill an empty table with rows as another held them; columns that are not given hold their defaults."""
        assert not self.names, "a table is restored before anything is added"
        self.add(names)
        self._put(columns, vocabularies)

    def _put(self, columns: Mapping[str, NDArray[Any]], vocabularies: Mapping[str, Iterable[Hashable]]) -> None:
        for name, values in vocabularies.items():
            self.vocabularies[name] = Vocabulary(values)
        for name, column in columns.items():
            self.cells[name][: len(self.names)] = column

    def named(self, mask: NDArray[np.bool_]) -> list[str]:
        """Return the names of the rows that are marked, in order."""
        return [self.names[row] for row in np.flatnonzero(mask)]

    def _append(self, names: Sequence[str]) -> NDArray[np.intp]:
        start = len(self.names)
        self._reserve(start + len(names))
        self.names.extend(names)
        return np.arange(start, len(self.names))

    def _reserve(self, count: int) -> None:
        capacity = len(next(iter(self.cells.values()), ()))
        if count <= capacity:
            return
        capacity = max(count, 2 * capacity)
        for name, field in self.fields.items():
            start = self.vocabularies[name].code(field.default) if field.is_coded else field.default
            grown = np.full(capacity, start, dtype=field.dtype)
            grown[: len(self.names)] = self.cells.get(name, grown)[: len(self.names)]
            self.cells[name] = grown
