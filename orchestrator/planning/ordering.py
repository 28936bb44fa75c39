"""Orders that depend on what is ordered and on nothing else: the same on every machine."""

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.columns import Column


def by_population(column: Column) -> list[int]:
    """Return the codes that occur, those of most devices first and equals by their text."""
    counts = np.bincount(column.codes, minlength=len(column.values))
    return sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-int(counts[code]), column.values[code]))


def stable_order(keys: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the places of ``keys``, none below 0, in ascending order; equal keys keep theirs."""
    largest = int(keys.max(initial=0))
    return np.argsort(keys.astype(np.min_scalar_type(largest)), kind="stable")  # Up to 16 bits a radix sort.


def run_starts(ordered: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return where each run of equal values of ``ordered``, which is not empty, begins."""
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
