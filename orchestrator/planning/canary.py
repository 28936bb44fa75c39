"""Canary selection: how many devices go first, which, and why.

Source:
    Reference, "Canary Sizing" and "Canary Selection Algorithm"; readings: DECISIONS.md, 3.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.cover import match
from orchestrator.planning.fleet import Fleet
from orchestrator.planning.ordering import by_population, run_starts, stable_order
from schemas.conditions import percent_of
from schemas.policy import CanaryPolicy

CANARY_SHARE_MAX_PERCENT: Final = 5
Places = NDArray[np.intp]
"""Indices into the columns of a fleet, ascending."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The canary.

    Attributes:
        reasons: Place of each member with the reason for it, in the order of choice.
        wanted_count: Members that the policy or the table asks for; there are fewer if too few may be one.
        cover_count: The fewest members that would stand for every type and region that has a fit device.
    """

    reasons: Mapping[int, str]
    wanted_count: int
    cover_count: int


def choose_canary(fleet: Fleet, fit: Places, policy: CanaryPolicy) -> Choice:
    """Choose who goes first: one of each type, one of each region that these do not cover, then the best monitored.

    Types that can be stood for in several regions share them out, so that the fewest devices cover everything. Where
    the size does not allow that, the most populous are covered, types first.

    Args:
        fleet: All targets; they decide which types and regions count most.
        fit: Those that may be a canary, at least one.
        policy: Its numbers rule; without them the reference's table does.
    """
    field = _Field(fleet, fit)
    types = [each for each in by_population(fleet.device_type) if each in field.best_of_type]
    regions = [each for each in by_population(fleet.region) if each in field.types_of]
    _, alone = match(regions, field.types_of)
    cover_count = len(types) + len(alone)
    wanted = canary_size(policy, len(fleet), cover_count)
    size = min(wanted, len(fit))
    if size < len(types):
        types = types[:size]
    region_for, alone = match(regions, field.types_among(types))
    reasons = dict(field.stand_in(device_type, region_for.get(device_type)) for device_type in types)
    covered = set(fleet.region.codes[list(reasons)].tolist())
    left = [each for each in alone if each not in covered][: size - len(reasons)]
    reasons |= {field.best_in(region): f"stands for {fleet.region.values[region]}" for region in left}
    reasons |= dict.fromkeys(field.best_of_rest(size, reasons), "best monitored of the rest")
    return Choice(reasons, wanted, cover_count)


def canary_size(policy: CanaryPolicy, target_count: int, cover_count: int) -> int:
    """Return how many devices go first: the policy's own numbers, else the reference's table.

    Args:
        policy: With a percentage it decides; else the table does, within the policy's minimum and maximum.
        target_count: Devices that will be updated, at least 1.
        cover_count: The fewest devices that cover every type and region.
    """
    assert target_count >= 1, "a rollout has at least one target"
    if policy.percentage is not None:
        _, size = percent_of(target_count, policy.percentage)
    else:
        lowest, highest = _table_row(target_count)
        size = min(max(lowest, cover_count), highest)
        cap = target_count * CANARY_SHARE_MAX_PERCENT // 100
        size = min(size, cap) if cap >= lowest else size
    return min(max(policy.min_devices, size), policy.max_devices or target_count, target_count)


def _table_row(target_count: int) -> tuple[int, int]:
    """Return the reference's recommended range; lower bounds of the rows are inclusive."""
    rows = ((1000, 10, 50), (200, 5, 10), (50, 3, 5), (10, 2, 3))
    return next(((lowest, highest) for start, lowest, highest in rows if target_count >= start), (1, 1))


class _Field:
    """The devices that may be a canary, by pair of type and region, the best monitored of each pair first.

    Attributes:
        best_of_type: The best monitored device of each type.
        types_of: The types in each region, that with the best monitored device there first.
    """

    def __init__(self, fleet: Fleet, fit: Places) -> None:
        self._fleet = fleet
        signals = fleet.signal_count[fit].astype(np.int64)
        unmonitored = signals.max() - signals
        pairs = fleet.device_type.codes[fit].astype(np.int64) * len(fleet.region.values) + fleet.region.codes[fit]
        order = stable_order(pairs * (unmonitored.max() + 1) + unmonitored)
        self._ordered = fit[order]
        self._starts = run_starts(pairs[order])
        best = self._ordered[self._starts]
        best = best[np.lexsort((best, -fleet.signal_count[best].astype(np.int64)))]
        self._best_of_pair: dict[tuple[int, int], int] = {}
        self.best_of_type: dict[int, int] = {}
        self.types_of: dict[int, list[int]] = {}
        columns = (fleet.device_type.codes[best], fleet.region.codes[best], best)
        for device_type, region, place in zip(*(each.tolist() for each in columns), strict=True):
            self._best_of_pair[device_type, region] = place
            self.best_of_type.setdefault(device_type, place)
            self.types_of.setdefault(region, []).append(device_type)

    def types_among(self, types: Collection[int]) -> dict[int, list[int]]:
        """Return ``types_of`` with no other types than ``types``."""
        wanted = set(types)
        return {region: [each for each in there if each in wanted] for region, there in self.types_of.items()}

    def stand_in(self, device_type: int, region: int | None) -> tuple[int, str]:
        """Return who stands for a type, in a given region or anywhere, and the reason."""
        best = self.best_of_type[device_type]
        name = self._fleet.device_type.values[device_type]
        place = best if region is None else self._best_of_pair[device_type, region]
        where = "" if place == best else f" in {self._fleet.region.values[self._fleet.region.codes[place]]}"
        return place, f"best monitored {name}{where}"

    def best_in(self, region: int) -> int:
        """Return the best monitored device of a region."""
        return self._best_of_pair[self.types_of[region][0], region]

    def best_of_rest(self, size: int, chosen: Collection[int]) -> list[int]:
        """Return who completes ``chosen`` to ``size`` devices: the best monitored, equals from all pairs in proportion.

        The share of a pair that has lent ``n`` devices of its ``count`` is that of Webster and Sainte-Lague,
        ``(2n + 1) / count``: the lowest is next.
        """
        if len(chosen) == size:
            return []
        counts = np.diff(self._starts, append=len(self._ordered))
        ranks = np.arange(len(self._ordered)) - np.repeat(self._starts, counts)
        near = ranks < size
        places, shares = self._ordered[near], ((2 * ranks + 1) / np.repeat(counts, counts))[near]
        best = places[np.lexsort((places, shares, -self._fleet.signal_count[places].astype(np.int64)))]
        return [place for place in best.tolist() if place not in chosen][: size - len(chosen)]
