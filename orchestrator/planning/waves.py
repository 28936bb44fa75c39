"""Wave assignment: the targets after the canary, dealt by a seed.

Source:
    Reference, "Wave Device Assignment"; readings: DECISIONS.md, 4.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.columns import Column
from orchestrator.planning.ordering import by_population, run_starts, stable_order
from schemas.conditions import percent_of


def deal_waves(device_type: Column, percentages: Sequence[float], seed: int) -> list[NDArray[np.intp]]:
    """Deal a pool of devices into waves; the last wave takes whatever is left.

    Args:
        device_type: The type of each device of the pool.
        percentages: Share of the pool for each wave.
        seed: Below 2**64; the same seed deals the same waves on every machine and with every version of numpy.

    Returns:
        The places in the pool for each wave, ascending. Together the waves hold every place once, and while there are
        enough each wave holds one device of every type, the most populous first. Later waves of a small pool are empty.
    """
    pool_count = len(device_type.codes)
    sizes = wave_sizes(pool_count, percentages)
    # The legacy generator, because only its stream is frozen (NEP 19).
    shuffled = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32]).permutation(pool_count)
    wave_of = np.full(pool_count, -1, dtype=np.int16)
    left = list(sizes)
    for places in _first_of_each_type(device_type, shuffled, len(sizes)):
        takers = [wave for wave, free in enumerate(left) if free][: len(places)]
        for wave, place in zip(takers, places, strict=False):
            wave_of[place] = wave
            left[wave] -= 1
    rest = shuffled[wave_of[shuffled] < 0]
    wave_of[rest] = np.repeat(np.arange(len(sizes), dtype=np.int16), left)
    return [np.flatnonzero(wave_of == wave) for wave in range(len(sizes))]


def wave_sizes(pool_count: int, percentages: Sequence[float]) -> list[int]:
    """Return how many of ``pool_count`` devices are in each wave: its share rounded up; the last takes the rest."""
    sizes: list[int] = []
    left = pool_count
    for percentage in percentages[:-1]:
        _, share = percent_of(pool_count, percentage)
        sizes.append(min(share, left))
        left -= sizes[-1]
    return [*sizes, left]


def _first_of_each_type(device_type: Column, shuffled: NDArray[np.intp], count: int) -> list[list[int]]:
    """Return for each type, the most populous first, the ``count`` devices that come first in ``shuffled``."""
    if not len(shuffled):
        return []
    codes = device_type.codes[shuffled]
    order = stable_order(codes)
    starts = run_starts(codes[order])
    ends = np.append(starts[1:], len(order))
    first = {
        int(codes[order[start]]): shuffled[order[start : min(start + count, end)]].tolist()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    }
    return [first[code] for code in by_population(device_type)]
