"""Medians of many short columns of numbers, some of them not known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def medians(table: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median of each column's known numbers; NaN where none is known."""
    if not len(table):
        return np.full(table.shape[1], np.nan)
    ranked = np.sort(table, axis=0)  # what is not known stands last
    known, each = np.add.reduce(np.isfinite(table)), np.arange(table.shape[1])
    low, high = ranked[(known - 1) >> 1, each], ranked[known >> 1, each]
    found: NDArray[np.float64] = (low.astype(np.float64) + high) / 2
    return np.where(known == 0, np.nan, found)
