"""Device ids as one text: a million of them cost what their letters cost, in memory and in the journal."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator


class Names(Sequence[str]):
    """Device ids in the order given; equal to any other sequence of the same ids.

    Args:
        text: The ids with a space between two; an id holds none.
    """

    __slots__ = ("__dict__", "text")

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def of_array(cls, names: NDArray[np.bytes_]) -> "Names":
        """Return the ids in an array; quick, because no id becomes an object of its own."""
        width = names.dtype.itemsize
        padded = np.zeros((len(names), width + 1), dtype=np.uint8)
        padded[:, :width] = np.ascontiguousarray(names).view(np.uint8).reshape(len(names), width)
        padded[:, width] = ord(" ")
        return cls(padded.tobytes().translate(None, b"\0").decode()[:-1])

    def array(self) -> NDArray[np.bytes_]:
        """Return the ids as an array; in one step where all are equally long."""
        letters = np.frombuffer(f"{self.text} ".encode(), dtype=np.uint8)
        width = self.text.find(" ") if " " in self.text else len(self.text)
        if width and len(letters) == (width + 1) * len(self):
            rows = letters.reshape(len(self), width + 1)
            if (rows[:, width] == ord(" ")).all():
                return np.ascontiguousarray(rows[:, :width]).view(f"S{width}")[:, 0]
        return np.array(self.text.split(), dtype=np.bytes_)

    @cached_property
    def _count(self) -> int:
        return self.text.count(" ") + 1 if self.text else 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.text.split())

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return self.text.split()[place]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self.text == other.text
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Names({self.text!r})"


def _names(value: object) -> Names:
    """Read names as a journal holds them, or a list of them."""
    if isinstance(value, Names):
        return value
    if isinstance(value, str):
        return Names(value)
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return Names(" ".join(value))
    raise ValueError("neither a text nor a list of device ids")


NamesField = Annotated[Names, PlainValidator(_names), PlainSerializer(lambda names: names.text, return_type=str)]
"""Names in a model; in JSON their text."""
