"""Latency distributions that can be merged over devices, groups and time without losing what they claim."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Final, Self

from schemas.messages import LatencySketch

GAMMA: Final = 1.02
"""Ratio between the bounds of a bucket. Bucket ``i`` is for values in ``(GAMMA^(i-1), GAMMA^i]`` seconds."""

_LOWEST_SECONDS: Final = 1e-6
_HIGHEST_SECONDS: Final = 1e9
_LOG_GAMMA: Final = math.log(GAMMA)
# A bound that floating point puts a hair above a bucket's own bound still belongs to that bucket.
_SLACK: Final = 1e-6


_LOWEST: Final = math.ceil(math.log(_LOWEST_SECONDS) / _LOG_GAMMA)
_HIGHEST: Final = math.ceil(math.log(_HIGHEST_SECONDS) / _LOG_GAMMA)


def _index(log_seconds: float) -> int:
    """Return the bucket of a value given by its natural logarithm, held to the ends of the scale."""
    return min(max(math.ceil(log_seconds / _LOG_GAMMA - _SLACK), _LOWEST), _HIGHEST)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A histogram with logarithmic buckets; merging is exact, associative and commutative.

    A quantile is never below the true one and above it by less than 2% (``GAMMA - 1``), for latencies between a
    microsecond and 1e9 seconds, the longest the wire can name; shorter ones count as a microsecond. At most 1,746
    buckets are held, whatever is merged.

    Attributes:
        offset: The bucket of the first count.
        counts: Without zeros at either end; as bytes where every count fits one, because thousands are kept.

    Source:
        DDSketch (Masson, Rim, Lee; VLDB 2019), logarithmic mapping; the upper bound instead of the middle of a bucket,
        so that no estimate makes a device look better than it is.
    """

    offset: int = 0
    counts: bytes | tuple[int, ...] = b""

    @classmethod
    def from_wire(cls, wire: LatencySketch) -> Self:
        """Read a device's sketch; one with another gamma is put into our buckets by its buckets' upper bounds."""
        first, last = wire.offset, wire.offset + len(wire.counts) - 1
        if math.isclose(wire.gamma, GAMMA, rel_tol=1e-9) and first >= _LOWEST and last <= _HIGHEST:
            return cls._packed(first, wire.counts)
        log_gamma = math.log(wire.gamma)
        totals = [0] * (_HIGHEST - _LOWEST + 1)
        for index, count in enumerate(wire.counts, first):
            totals[_index(index * log_gamma) - _LOWEST] += count
        return cls._packed(_LOWEST, totals)

    @classmethod
    def of_one(cls, seconds: float) -> Self:
        """Return the sketch of a single value; 0 counts as the shortest that is told apart."""
        return cls(_index(math.log(max(seconds, _LOWEST_SECONDS))), b"\x01")

    @classmethod
    def _packed(cls, offset: int, counts: Sequence[int]) -> Self:
        try:
            packed = bytes(counts)
        except ValueError:  # a count above 255
            return cls._trimmed(offset, counts)
        body = packed.lstrip(b"\0")
        start = offset + len(packed) - len(body)
        return cls(start, body.rstrip(b"\0")) if body else cls()

    @classmethod
    def _trimmed(cls, offset: int, counts: Sequence[int]) -> Self:
        used = [index for index, count in enumerate(counts) if count]
        return cls(offset + used[0], tuple(counts[used[0] : used[-1] + 1]))

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
    low = min(sketch.offset for sketch in filled)
    totals = [0] * (max(sketch.offset + len(sketch.counts) for sketch in filled) - low)
    for sketch in filled:
        start = sketch.offset - low
        end = start + len(sketch.counts)
        totals[start:end] = map(add, totals[start:end], sketch.counts)
    return Sketch._packed(low, totals)  # noqa: SLF001 - same module
