"""Orders that depend on what is ordered and on nothing else: the same on every machine."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.columns import Column
from orchestrator.planning.names import Names

_WORD_BYTES: Final = 8
Ordered = tuple[NDArray[np.bytes_], NDArray[np.intp]]
"""Ids in ascending order, and of each the place or row that it has elsewhere."""


def by_population(column: Column) -> list[int]:
    """Return the codes that occur, those of most devices first and equals by their text."""
    counts = np.bincount(column.codes, minlength=len(column.values))
    return sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-int(counts[code]), column.values[code]))


def stable_order(keys: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the places of ``keys``, none below 0, in ascending order; equal keys keep theirs."""
    largest = int(keys.max(initial=0))
    return np.argsort(keys.astype(np.min_scalar_type(largest)), kind="stable")  # Up to 16 bits a radix sort.


def in_order(names: Iterable[str]) -> Ordered:
    """Return ids, each there once, in ascending order, and the place each had."""
    array = Names(" ".join(names)).array()
    places = _name_order(array)
    return array[places], places


def merged(known: Ordered, added: Ordered) -> Ordered:
    """Return both in one order; no id is in both."""
    places = np.searchsorted(known[0], added[0])
    names = known[0].astype(np.promote_types(known[0].dtype, added[0].dtype), copy=False)
    return np.insert(names, places, added[0]), np.insert(known[1], places, added[1])


def _name_order(names: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """Order by the first letters that differ at all, and where that leaves ties, by every letter."""
    if (names[:-1] < names[1:]).all():
        return np.arange(len(names))
    letters = np.ascontiguousarray(names).view(np.uint8).reshape(len(names), -1)
    differing = letters[:, (letters != letters[0]).any(axis=0)]
    width = -(-differing.shape[1] // _WORD_BYTES) * _WORD_BYTES
    padded = np.zeros((len(names), width), dtype=np.uint8)
    padded[:, : differing.shape[1]] = differing
    words = padded.view(f">u{_WORD_BYTES}").astype(np.uint64)
    order = np.argsort(words[:, 0])
    first = words[order, 0]
    same = np.concatenate(([False], first[1:] == first[:-1], [False]))
    tied = same[1:] | same[:-1]
    order[tied] = order[tied][np.lexsort(words[order[tied]].T[::-1])]
    return order


def run_starts(ordered: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return where each run of equal values of ``ordered``, which is not empty, begins."""
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
