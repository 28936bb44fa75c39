"""How many samples a device may send: a token bucket for each, asked for a whole batch before anything is decoded.

Source:
    The bucket as a time of arrival: ITU-T I.371, generic cell rate algorithm.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.batch import turns_of
from orchestrator.telemetry.columns import Rows

SAMPLES_PER_SECOND: Final = 10.0
"""What a device may send for any length of time: three hundred times what the contract asks of it."""
BURST_COUNT: Final = 50
"""What it may send at once, after it was quiet for a while."""

_GROWTH: Final = 1.25
_INTERVAL_SECONDS: Final = 1 / SAMPLES_PER_SECOND


class Limiter:
    """The buckets of devices by row; mutable. Times are in seconds, and never fall."""

    def __init__(self) -> None:
        self._full_at = np.full(0, -np.inf)
        """When each bucket is full again: one interval later for each sample that was let through."""

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return self._full_at.nbytes

    def admit(self, rows: Rows, now: float) -> NDArray[np.bool_]:
        """Say which samples are let through: of each device the first ones, as far as its bucket goes."""
        self.reserve(int(rows.max(initial=-1)) + 1)
        turns = turns_of(rows)
        full_at = np.maximum(self._full_at[rows], now)
        limit = now + (BURST_COUNT - 1) * _INTERVAL_SECONDS
        if turns is None:
            admitted: NDArray[np.bool_] = full_at <= limit
            self._full_at[rows] = full_at + admitted * _INTERVAL_SECONDS
            return admitted
        admitted = full_at + turns * _INTERVAL_SECONDS <= limit
        self._full_at[rows] = full_at
        np.add.at(self._full_at, rows[admitted], _INTERVAL_SECONDS)
        return admitted

    def reserve(self, count: int) -> None:
        """Make room for ``count`` rows."""
        have = len(self._full_at)
        if count > have:
            more = np.full(max(count, int(_GROWTH * have)) - have, -np.inf)
            self._full_at = np.concatenate((self._full_at, more))
