from collections import Counter
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.planner import Candidate, canary_size, choose_canary, deal_waves, plan_rollout
from schemas.policy import CanaryPolicy
from tests.core.core_bench import make_policy


def make_candidate(device: str, device_type: str = "pi", region: str = "north", **changes: Any) -> Candidate:  # noqa: ANN401 - any field of a candidate
    return Candidate(device, device_type, region, **{"signal_count": 1, **changes})


def make_candidates(count: int) -> list[Candidate]:
    return [make_candidate(f"d-{number:05d}") for number in range(count)]


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        device=st.integers(0, 300).map("d-{}".format),
        device_type=st.sampled_from(["pi", "jetson", "nuc"]),
        region=st.sampled_from(["north", "south", "pi"]),
        signal_count=st.integers(0, 9),
        unfit=st.sampled_from(["", "", "", "offline"]),
    ),
    min_size=1,
    max_size=60,
    unique_by=lambda each: each.device,
).filter(lambda fleet: any(not each.unfit for each in fleet))
PERCENTAGES = st.lists(st.integers(1, 100_000).map(lambda each: each / 1000), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("fleet_count", "few_groups", "four_groups", "many_groups"),
    [
        (1, 1, 1, 1),
        (5, 1, 1, 1),
        (9, 1, 1, 1),
        (10, 2, 2, 2),  # 5% would be none, so the row's lower bound stays
        (49, 2, 2, 2),
        (50, 3, 3, 3),
        (100, 3, 4, 5),
        (199, 3, 4, 5),
        (200, 5, 5, 10),
        (999, 5, 5, 10),
        (1000, 10, 10, 50),
        (10_000, 10, 10, 50),
    ],
)
def test_the_table_gives_the_smallest_canary_that_covers_every_group(
    fleet_count: int, few_groups: int, four_groups: int, many_groups: int
) -> None:
    sizes = [canary_size(CanaryPolicy(), fleet_count, groups) for groups in (1, 4, 60)]

    assert sizes == [few_groups, four_groups, many_groups]


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
    ],
)
def test_the_numbers_of_a_policy_rule(policy: dict[str, Any], fleet_count: int, size: int) -> None:
    assert canary_size(CanaryPolicy.model_validate(policy), fleet_count, 1) == size


@given(st.integers(1, 20_000), st.integers(1, 100), st.integers(1, 100_000))
def test_a_canary_is_never_empty_and_never_more_than_the_fleet(count: int, groups: int, thousandths: int) -> None:
    explicit = canary_size(CanaryPolicy(percentage=thousandths / 1000), count, groups)

    assert explicit == max(1, ceil(Fraction(count * thousandths, 100_000)))
    assert 1 <= canary_size(CanaryPolicy(), count, groups) <= min(count, 50)


def test_a_canary_covers_types_first_by_population_and_then_regions() -> None:
    fleet = [
        make_candidate("a1", "pi", "north"),
        make_candidate("a2", "pi", "north", signal_count=5),
        make_candidate("a3", "pi", "south"),
        make_candidate("b1", "jetson", "north"),
        make_candidate("b2", "jetson", "north"),
        make_candidate("c1", "nuc", "west"),
        make_candidate("d1", "pi", "east"),
    ]

    assert [choose_canary(fleet, size, fleet) for size in (1, 2, 3, 5, 6)] == [
        {"a2": "best monitored pi"},
        {"a2": "best monitored pi", "b1": "best monitored jetson"},
        {"a2": "best monitored pi", "b1": "best monitored jetson", "c1": "best monitored nuc"},
        {
            "a2": "best monitored pi", "b1": "best monitored jetson", "c1": "best monitored nuc",
            "d1": "stands for east", "a3": "stands for south",
        },
        {
            "a2": "best monitored pi", "b1": "best monitored jetson", "c1": "best monitored nuc",
            "d1": "stands for east", "a3": "stands for south", "a1": "best monitored of the rest",
        },
    ]  # fmt: skip


def test_a_type_is_stood_for_by_a_device_in_a_region_that_is_not_covered_yet() -> None:
    fleet = [
        make_candidate("a1", "pi", "north"),
        make_candidate("b1", "jetson", "north", signal_count=9),
        make_candidate("b2", "jetson", "south"),
    ]

    more_pis = [*fleet, make_candidate("a2"), make_candidate("a3")]

    assert list(choose_canary(fleet, 2, fleet)) == ["b1", "a1"]
    assert list(choose_canary(more_pis, 2, more_pis)) == ["a1", "b2"]


def test_a_region_named_like_a_type_is_covered_like_any_other() -> None:
    fleet = [
        make_candidate("a", "edge", "north"),
        make_candidate("b", "edge", "north"),
        make_candidate("c", "edge", "edge"),
    ]

    assert choose_canary(fleet, 2, fleet) == {"a": "best monitored edge", "c": "stands for edge"}


def test_the_unfit_are_no_canary_and_the_plan_says_why() -> None:
    fleet = [
        make_candidate("a", unfit="offline", signal_count=9),
        make_candidate("b"),
        make_candidate("c", "jetson", "south", unfit="single point of failure"),
    ]

    plan = plan_rollout(fleet, make_policy(), excluded={"x": "in maintenance"}, seed=1)

    assert plan.waves[0].members == ("b",)
    assert plan.chosen == {"b": "best monitored pi"}
    assert plan.not_canary == {"a": "offline", "c": "single point of failure"}
    assert plan.uncovered == ("type jetson", "region south")
    assert plan.excluded == {"x": "in maintenance"}


def test_without_a_fit_device_there_is_no_plan() -> None:
    with pytest.raises(ValueError, match="no target device may be a canary"):
        plan_rollout([make_candidate("a", unfit="offline")], make_policy(), excluded={}, seed=1)


def test_the_last_wave_takes_the_rest_whatever_its_percentage() -> None:
    waves = [{"name": "w1", "percentage": 15}, {"name": "w2", "percentage": 35}, {"name": "w3", "percentage": 1}]

    plan = plan_rollout(make_candidates(205), make_policy(waves=waves), excluded={}, seed=1)

    assert [(wave.name, len(wave.members)) for wave in plan.waves] == [
        ("canary", 5), ("w1", 30), ("w2", 70), ("w3", 100),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "waves", "dropped"),
    [
        (1, {"canary": 1}, ("w1", "w2", "w3")),
        (2, {"canary": 1, "w1": 1}, ("w2", "w3")),
        (3, {"canary": 1, "w1": 1, "w2": 1}, ("w3",)),
        (4, {"canary": 1, "w1": 1, "w2": 2}, ("w3",)),
        (5, {"canary": 1, "w1": 1, "w2": 2, "w3": 1}, ()),
    ],
)
def test_empty_waves_are_dropped_visibly(count: int, waves: dict[str, int], dropped: tuple[str, ...]) -> None:
    policy = make_policy(waves=[{"name": f"w{n}", "percentage": p} for n, p in ((1, 15), (2, 35), (3, 100))])

    plan = plan_rollout(make_candidates(count), policy, excluded={}, seed=1)

    assert {wave.name: len(wave.members) for wave in plan.waves} == waves
    assert plan.dropped_waves == dropped


@given(CANDIDATES, PERCENTAGES, st.integers(0, 2**48))
def test_a_plan_holds_every_target_once_and_follows_from_its_inputs(
    fleet: list[Candidate], percentages: list[float], seed: int
) -> None:
    policy = make_policy(waves=[{"name": f"w{n}", "percentage": p} for n, p in enumerate(percentages)])

    plan = plan_rollout(fleet, policy, excluded={}, seed=seed)

    assert Counter(plan.targets) == Counter(each.device for each in fleet)
    assert all(wave.members for wave in plan.waves)
    assert [wave.name for wave in plan.waves] + list(plan.dropped_waves) == [
        "canary", *(wave.name for wave in policy.rollout.waves)
    ]  # fmt: skip
    assert set(plan.waves[0].members) == set(plan.chosen)
    assert not set(plan.chosen) & set(plan.not_canary)
    again = plan_rollout(list(reversed(fleet)), policy, excluded={}, seed=seed)
    assert again == plan
    assert again.digest == plan.digest


@given(CANDIDATES, PERCENTAGES, st.integers(0, 2**48))
def test_waves_have_their_share_and_one_of_each_type_while_there_are_enough(
    pool: list[Candidate], percentages: list[float], seed: int
) -> None:
    waves = deal_waves(pool, percentages, Random(seed))

    left = len(pool)
    for wave, percentage in zip(waves[:-1], percentages[:-1], strict=True):
        assert len(wave) == min(left, ceil(Fraction(len(pool)) * Fraction(str(percentage)) / 100))
        left -= len(wave)
    assert len(waves[-1]) == left
    type_of = {each.device: each.device_type for each in pool}
    population = Counter(type_of.values())
    for wave in waves:
        held = {type_of[device] for device in wave}
        enough = {name for name, count in population.items() if count >= len(waves)}
        assert len(held) >= min(len(wave), len(enough))


def test_another_seed_deals_other_waves() -> None:
    plans = [plan_rollout(make_candidates(50), make_policy(), excluded={}, seed=seed) for seed in (1, 2)]

    assert plans[0].waves[0] == plans[1].waves[0]
    assert plans[0].waves[1] != plans[1].waves[1]
    assert plans[0].digest != plans[1].digest


def test_coverage_is_maximised_when_the_cap_does_not_allow_all_of_it() -> None:
    fleet = [make_candidate(f"d{number:02d}", f"type-{number % 4}", f"region-{number % 6}") for number in range(60)]

    plan = plan_rollout(fleet, make_policy(), excluded={}, seed=1)

    chosen = [each for each in fleet if each.device in plan.chosen]
    assert len(chosen) == 3
    assert len({each.device_type for each in chosen}) == 3
    assert [name.split()[0] for name in plan.uncovered] == ["type", "region", "region", "region"]
