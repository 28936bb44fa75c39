"""A column of texts, dictionary-encoded: each text once, and for each device the place of its text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Column:
    """One text for each device.

    Attributes:
        codes: For each device the index of its text in ``values``.
        values: Each text once, in any order; some may belong to no device.
    """

    codes: NDArray[np.int32]
    values: Sequence[str]
