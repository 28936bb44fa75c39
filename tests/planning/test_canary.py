from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.planning.canary import canary_size, choose_canary
from schemas.policy import CanaryPolicy
from tests.planning.fleets import Target, fleet_of

TARGETS = st.lists(
    st.builds(
        Target,
        name=st.integers(0, 99).map("d-{:02d}".format),
        device_type=st.sampled_from(["pi", "jetson", "nuc"]),
        region=st.sampled_from(["north", "south", "east", "pi"]),
        signal_count=st.integers(0, 4),
        unfit=st.sampled_from(["", "", "offline"]),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda each: each.name,
).filter(lambda rows: any(not each.unfit for each in rows))


def choose(rows: Sequence[Target], size: int) -> dict[str, str]:
    fleet = fleet_of(*rows)
    fit = np.array([place for place, row in enumerate(sorted(rows)) if not row.unfit])
    policy = CanaryPolicy(percentage=100, max_devices=size)
    return {fleet.name(place): reason for place, reason in choose_canary(fleet, fit, policy).reasons.items()}


@pytest.mark.parametrize(
    ("fleet_count", "few", "four", "many"),
    [
        (1, 1, 1, 1),
        (5, 1, 1, 1),
        (9, 1, 1, 1),
        (10, 2, 3, 3),  # 5% would be none, so only the row counts
        (39, 2, 3, 3),
        (40, 2, 2, 2),
        (49, 2, 2, 2),
        (50, 3, 4, 5),
        (60, 3, 3, 3),
        (80, 3, 4, 4),
        (100, 3, 4, 5),
        (199, 3, 4, 5),
        (200, 5, 5, 10),
        (999, 5, 5, 10),
        (1000, 10, 10, 50),
        (10_000, 10, 10, 50),
        (1_000_000, 10, 10, 50),
    ],
)
def test_the_table_gives_the_smallest_canary_that_covers_everything(
    fleet_count: int, few: int, four: int, many: int
) -> None:
    assert [canary_size(CanaryPolicy(), fleet_count, needed) for needed in (1, 4, 60)] == [few, four, many]


@pytest.mark.parametrize(
    ("policy", "fleet_count", "size"),
    [
        ({"percentage": 3, "max_devices": 10}, 1000, 10),
        ({"percentage": 3, "max_devices": 10}, 200, 6),
        ({"percentage": 3, "max_devices": 10}, 201, 7),
        ({"percentage": 3}, 10_000, 300),
        ({"percentage": 3, "min_devices": 2}, 12, 2),
        ({"percentage": 3, "min_devices": 5}, 3, 3),
        ({"percentage": 0.001}, 1, 1),
        ({"percentage": 0.1}, 3000, 3),
        ({"percentage": 100}, 7, 7),
        ({"max_devices": 2}, 1000, 2),
        ({"min_devices": 4}, 20, 4),
        ({"min_devices": 4}, 3, 3),
        ({"min_devices": 60}, 1000, 60),
    ],
)
def test_the_numbers_of_a_policy_rule(policy: dict[str, Any], fleet_count: int, size: int) -> None:
    assert canary_size(CanaryPolicy.model_validate(policy), fleet_count, 1) == size


@given(st.integers(1, 20_000), st.integers(1, 100), st.integers(1, 100_000))
def test_a_canary_is_never_empty_and_never_more_than_the_fleet(count: int, needed: int, thousandths: int) -> None:
    explicit = canary_size(CanaryPolicy(percentage=thousandths / 1000), count, needed)

    assert explicit == max(1, ceil(Fraction(count * thousandths, 100_000)))
    assert 1 <= canary_size(CanaryPolicy(), count, needed) <= min(count, 50)


def test_a_canary_covers_types_first_by_population_then_regions_then_takes_the_best_monitored() -> None:
    rows = [
        Target("a1", "pi", "north"),
        Target("a2", "pi", "north", signal_count=5),
        Target("a3", "pi", "south"),
        Target("b1", "jetson", "north"),
        Target("b2", "jetson", "north"),
        Target("c1", "nuc", "west"),
        Target("d1", "pi", "east"),
    ]
    three = {"d1": "best monitored pi in east", "b1": "best monitored jetson", "c1": "best monitored nuc"}

    assert [choose(rows, size) for size in (1, 2, 3, 4, 5, 6)] == [
        {"a2": "best monitored pi"},
        {"d1": "best monitored pi in east", "b1": "best monitored jetson"},
        three,
        {**three, "a3": "stands for south"},
        {**three, "a3": "stands for south", "a2": "best monitored of the rest"},
        {**three, "a3": "stands for south", **dict.fromkeys(("a2", "a1"), "best monitored of the rest")},
    ]


def test_a_type_is_stood_for_by_a_device_in_a_region_that_nothing_else_covers() -> None:
    rows = [
        Target("a1", "pi", "north"),
        Target("b1", "jetson", "north", signal_count=9),
        Target("b2", "jetson", "south"),
    ]

    assert choose(rows, 2) == {"b2": "best monitored jetson in south", "a1": "best monitored pi"}


def test_a_region_named_like_a_type_is_covered_like_any_other() -> None:
    rows = [Target("a", "edge", "north"), Target("b", "edge", "north"), Target("c", "edge", "edge")]

    assert choose(rows, 2) == {"a": "best monitored edge", "c": "stands for edge"}


def test_the_rest_is_taken_from_types_and_regions_in_proportion_when_monitored_equally() -> None:
    rows = [Target(f"d-{number:03d}", "nuc" if number < 100 else "pi") for number in range(400)]

    chosen = choose(rows, 40)

    assert Counter("nuc" if int(name[2:]) < 100 else "pi" for name in chosen) == {"pi": 30, "nuc": 10}


@settings(max_examples=200, deadline=None)
@given(TARGETS, st.integers(1, 9))
def test_no_other_choice_of_that_size_covers_more_by_population(rows: list[Target], size: int) -> None:
    fit = [each for each in rows if not each.unfit]
    size = min(size, len(fit))
    orders = [
        sorted(population, key=lambda name: (-population[name], name))
        for population in (Counter(each.device_type for each in rows), Counter(each.region for each in rows))
    ]

    def covered(chosen: Sequence[Target]) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        types, regions = {each.device_type for each in chosen}, {each.region for each in chosen}
        return tuple(name in types for name in orders[0]), tuple(name in regions for name in orders[1])

    chosen = choose(rows, size)

    assert len(chosen) == size
    members = [each for each in fit if each.name in chosen]
    assert len(members) == size
    assert covered(members) == max(covered(each) for each in combinations(fit, size))


@given(TARGETS, st.integers(1, 9))
def test_who_stands_for_a_type_or_region_is_the_best_monitored_there_and_the_reason_is_true(
    rows: list[Target], size: int
) -> None:
    fit = {each.name: each for each in rows if not each.unfit}

    for name, reason in choose(rows, size).items():
        row = fit[name]
        of_type = [each for each in fit.values() if each.device_type == row.device_type]
        rivals = {
            f"best monitored {row.device_type}": of_type,
            f"best monitored {row.device_type} in {row.region}": [
                each for each in of_type if each.region == row.region
            ],
            f"stands for {row.region}": [each for each in fit.values() if each.region == row.region],
            "best monitored of the rest": [row],
        }[reason]
        assert row == min(rivals, key=lambda each: (-each.signal_count, each.name))
