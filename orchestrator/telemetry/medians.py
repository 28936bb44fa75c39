"""Medians of many short columns of numbers, some of them not known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def medians(table: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median of each column's known numbers; NaN where none is known."""
    if not len(table):
        return np.full(table.shape[1], np.nan)
    ranked = np.sort(table, axis=0)  # what is not known stands last
    known, each = np.isfinite(table).sum(axis=0), np.arange(table.shape[1])
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, len(table) - 1)
    found: NDArray[np.float64] = (ranked[low, each].astype(np.float64) + ranked[high, each]) / 2
    return np.where(known == 0, np.nan, found)
