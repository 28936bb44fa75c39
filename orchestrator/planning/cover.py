"""The fewest devices that cover all types and regions: a matching of regions with types."""

from collections import deque
from collections.abc import Mapping, Sequence


def match(regions: Sequence[int], types_of: Mapping[int, Sequence[int]]) -> tuple[dict[int, int], list[int]]:
    """Give as many regions as possible a type of their own, so that one device stands for both.

    Args:
        regions: The most important first: no later region takes the place of an earlier one.
        types_of: For each region the types that can stand for it, the preferred first.

    Returns:
        The region for each type that has one, and the regions, in order, that need a device of their own.

    Source:
        Maximum bipartite matching by augmenting paths (Berge 1957; Kuhn 1955). Types that a failed search has reached
        are never worth another one.
    """
    region_for: dict[int, int] = {}
    dead: set[int] = set()
    for region in regions:
        _augment(region, types_of, region_for, dead)
    matched = set(region_for.values())
    return region_for, [region for region in regions if region not in matched]


def _augment(root: int, types_of: Mapping[int, Sequence[int]], region_for: dict[int, int], dead: set[int]) -> None:
    """Match ``root`` by moving others to other types, the shortest way, if it can be done."""
    wanted_by: dict[int, int] = {}
    queue = deque([root])
    while queue:
        region = queue.popleft()
        for device_type in types_of[region]:
            if device_type in wanted_by or device_type in dead:
                continue
            wanted_by[device_type] = region
            if device_type in region_for:
                queue.append(region_for[device_type])
                continue
            _shift(device_type, wanted_by, region_for)
            return
    dead.update(wanted_by)


def _shift(free: int | None, wanted_by: Mapping[int, int], region_for: dict[int, int]) -> None:
    """Give each type on the way from ``free`` back to the root to the region that wants it."""
    type_for = {region: device_type for device_type, region in region_for.items()}
    while free is not None:
        region = wanted_by[free]
        region_for[free] = region
        free = type_for.get(region)
