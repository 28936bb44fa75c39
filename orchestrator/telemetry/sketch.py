"""Latency distributions that can be merged over devices, groups and time without losing what they claim."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

GAMMA: Final = 1.02
"""Ratio between the bounds of a bucket. Bucket ``i`` is for values in ``(GAMMA^(i-1), GAMMA^i]`` seconds."""

_LOWEST_SECONDS: Final = 1e-6
_HIGHEST_SECONDS: Final = 1e9
_LOG_GAMMA: Final = math.log(GAMMA)
# A bound that floating point puts a hair above a bucket's own bound still belongs to that bucket.
_SLACK: Final = 1e-6

LOWEST: Final = math.ceil(math.log(_LOWEST_SECONDS) / _LOG_GAMMA)
"""The first bucket; shorter latencies count as a microsecond."""
BUCKETS: Final = math.ceil(math.log(_HIGHEST_SECONDS) / _LOG_GAMMA) - LOWEST + 1
"""How many there are; the last ends above 1e9 seconds, the longest latency that the wire can name."""


def buckets_of(log_seconds: NDArray[Any]) -> NDArray[np.intp]:
    """Return the buckets of values given by their natural logarithms, counted from ``LOWEST``, within the scale."""
    buckets = np.ceil(log_seconds / _LOG_GAMMA - _SLACK) - LOWEST
    found: NDArray[np.intp] = np.clip(buckets, 0, BUCKETS - 1).astype(np.intp)
    return found


class Wire(Protocol):
    """A sketch as devices send it, see ``schemas.messages.LatencySketch``."""

    @property
    def gamma(self) -> float: ...  # noqa: D102 - see the class
    @property
    def offset(self) -> int: ...  # noqa: D102 - see the class
    @property
    def counts(self) -> tuple[int, ...]: ...  # noqa: D102 - see the class


@dataclass(frozen=True, slots=True)
class Sketch:
    """A histogram with logarithmic buckets; merging is exact, associative and commutative.

    A quantile is never below the true one and above it by less than 2% (``GAMMA - 1``), for latencies between a
    microsecond and 1e9 seconds. At most 1,746 buckets are held, whatever is merged.

    Attributes:
        offset: The bucket of the first count.
        counts: Without zeros at either end.

    Source:
        DDSketch (Masson, Rim, Lee; VLDB 2019), logarithmic mapping; the upper bound instead of the middle of a bucket,
        so that no estimate makes a device look better than it is.
    """

    offset: int = 0
    counts: tuple[int, ...] = ()

    @classmethod
    def from_wire(cls, wire: Wire) -> Self:
        """Read a device's sketch; one with another gamma is put into our buckets by its buckets' upper bounds."""
        totals = np.zeros(BUCKETS, dtype=np.int64)
        bounds = (wire.offset + np.arange(len(wire.counts))) * math.log(wire.gamma)
        np.add.at(totals, buckets_of(bounds), np.array(wire.counts, dtype=np.int64))
        return cls.packed(LOWEST, totals)

    @classmethod
    def packed(cls, offset: int, counts: Sequence[int] | NDArray[Any]) -> Self:
        """Return the sketch of counts from bucket ``offset`` on."""
        table = np.asarray(counts)
        (used,) = table.nonzero()
        if not len(used):
            return cls()
        return cls(offset + int(used[0]), tuple(table[used[0] : used[-1] + 1].tolist()))

    @property
    def count(self) -> int:
        """How many values it holds."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Return a value in seconds that at least the fraction ``q`` (0..1) of the values do not exceed.

        None when it holds no value.
        """
        if not self.counts:
            return None
        rank = max(math.ceil(q * self.count), 1)
        below = bisect_left(list(accumulate(self.counts)), rank)
        return math.exp((self.offset + below) * _LOG_GAMMA)


def merge(*sketches: Sketch) -> Sketch:
    """Return the sketch of all the values together; of nothing, an empty one."""
    filled = [sketch for sketch in sketches if sketch.counts]
    if len(filled) < 2:  # noqa: PLR2004 - nothing to add up
        return filled[0] if filled else Sketch()
    totals = np.zeros(BUCKETS, dtype=np.int64)
    for sketch in filled:
        start = sketch.offset - LOWEST
        totals[start : start + len(sketch.counts)] += sketch.counts
    return Sketch.packed(LOWEST, totals)
