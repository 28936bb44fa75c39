from itertools import combinations, count

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.cover import match

PLACES = st.dictionaries(st.integers(0, 6), st.lists(st.integers(0, 5), min_size=1, unique=True), min_size=1)


def fewest_devices(types_of: dict[int, list[int]]) -> int:
    """Return how many pairs of region and type are needed to hold every region and every type, by trying all."""
    pairs = [(region, each) for region, types in types_of.items() for each in types]
    groups = len(types_of) + len({each for _, each in pairs})
    return next(
        size
        for size in count(1)
        for chosen in combinations(pairs, size)
        if len({region for region, _ in chosen}) + len({each for _, each in chosen}) == groups
    )


@given(PLACES.filter(lambda types_of: sum(map(len, types_of.values())) <= 12))
def test_a_matching_covers_everything_with_the_fewest_devices(types_of: dict[int, list[int]]) -> None:
    region_for, alone = match(list(types_of), types_of)

    assert all(device_type in types_of[region] for device_type, region in region_for.items())
    assert sorted([*region_for.values(), *alone]) == sorted(types_of)
    types = {each for types in types_of.values() for each in types}
    assert len(types) + len(alone) == fewest_devices(types_of)


@given(PLACES)
def test_no_later_region_takes_the_place_of_an_earlier_one(types_of: dict[int, list[int]]) -> None:
    regions = list(types_of)
    _, alone = match(regions, types_of)

    for region in alone:
        _, before = match(regions[: regions.index(region) + 1], types_of)
        assert region in before


def test_a_type_is_moved_when_that_covers_one_region_more() -> None:
    assert match([1, 2, 3], {1: [7, 8], 2: [7, 9], 3: [7]}) == ({7: 3, 8: 1, 9: 2}, [])
    assert match([1, 2, 3], {1: [7], 2: [7], 3: []}) == ({7: 1}, [2, 3])
