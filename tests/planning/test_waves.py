from collections import Counter
from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.waves import deal_waves, wave_sizes
from tests.planning.fleets import encode

PERCENTAGES = st.lists(st.integers(1, 100_000).map(lambda each: each / 1000), min_size=1, max_size=6)
POOL = st.lists(st.sampled_from(["pi", "pi", "pi", "jetson", "nuc"]), max_size=60)


@given(POOL, PERCENTAGES, st.integers(0, 2**64 - 1))
def test_waves_have_their_share_hold_every_device_once_and_are_sorted(
    pool: list[str], percentages: list[float], seed: int
) -> None:
    waves = [wave.tolist() for wave in deal_waves(encode(pool), percentages, seed)]

    left = len(pool)
    for wave, percentage in zip(waves[:-1], percentages[:-1], strict=True):
        assert len(wave) == min(left, ceil(Fraction(len(pool)) * Fraction(str(percentage)) / 100))
        left -= len(wave)
    assert len(waves[-1]) == left
    assert sorted(place for wave in waves for place in wave) == list(range(len(pool)))
    assert all(wave == sorted(wave) for wave in waves)


@given(POOL, PERCENTAGES, st.integers(0, 2**64 - 1))
def test_each_wave_holds_one_of_each_type_while_there_are_enough(
    pool: list[str], percentages: list[float], seed: int
) -> None:
    population = Counter(pool)

    for wave in deal_waves(encode(pool), percentages, seed):
        held = {pool[place] for place in wave}
        enough = {name for name, count in population.items() if count >= len(percentages)}
        if len(wave) >= len(population):
            assert enough <= held
        assert len(held) >= min(len(wave), len(enough))


def test_a_rare_type_is_in_the_first_waves() -> None:
    pool = ["pi"] * 98 + ["nuc"] * 2

    for seed in range(20):
        first, second, third = deal_waves(encode(pool), [5, 10, 100], seed)
        assert [len(wave) for wave in (first, second, third)] == [5, 10, 85]
        assert sum(first >= 98) == sum(second >= 98) == 1


def test_another_seed_deals_other_waves_also_in_its_upper_half() -> None:
    dealt = [deal_waves(encode(["pi"] * 50), [50, 100], seed)[0].tolist() for seed in (1, 2, 1 + 2**32)]

    assert len({tuple(each) for each in dealt}) == 3


def test_every_device_is_in_the_first_wave_about_as_often_as_its_share() -> None:
    pool = encode(["pi"] * 15 + ["nuc"] * 5)
    counts = Counter(place for seed in range(2000) for place in deal_waves(pool, [25, 100], seed)[0].tolist())

    assert set(counts) == set(range(20))
    assert max(counts[place] for place in range(15)) - min(counts[place] for place in range(15)) < 150


def test_waves_of_a_few_devices() -> None:
    assert [wave_sizes(count, [15, 35, 100]) for count in range(8)] == [
        [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 2, 0], [1, 2, 1], [1, 2, 2], [1, 3, 2], [2, 3, 2],
    ]  # fmt: skip


def test_the_last_wave_takes_the_rest_whatever_its_percentage() -> None:
    assert wave_sizes(200, [15, 35, 1]) == [30, 70, 100]
    assert wave_sizes(200, [1]) == [200]


def test_a_share_is_exact_where_floating_point_is_not() -> None:
    assert wave_sizes(1000, [0.1, 1.1, 100]) == [1, 11, 988]
    assert wave_sizes(1_000_000, [0.1, 2.3, 100]) == [1000, 23_000, 976_000]
