import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.telemetry.sketch import GAMMA, Sketch, merge
from schemas.messages import LatencySketch
from tests.telemetry.telemetry_streams import sketch_of

LATENCIES = st.floats(1e-6, 1e9, exclude_min=True)
QUANTILES = st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]) | st.floats(0, 1)


def exact(values: list[float], q: float) -> float:
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1]


def sketch(values: list[float]) -> Sketch:
    return merge(*(Sketch.from_wire(sketch_of([value])) for value in values))


@given(st.lists(LATENCIES, min_size=1, max_size=60), QUANTILES)
def test_quantile_is_at_least_the_true_one_and_less_than_two_percent_above(values: list[float], q: float) -> None:
    estimate = sketch(values).quantile(q)
    assert estimate is not None
    assert exact(values, q) * (1 - 1e-6) <= estimate <= exact(values, q) * GAMMA * (1 + 1e-6)


@given(st.lists(LATENCIES, min_size=1, max_size=20), QUANTILES, st.floats(1.005, 4.0))
def test_sketch_with_another_gamma_never_reports_less(values: list[float], q: float, gamma: float) -> None:
    wires = [sketch_of([value], gamma) for value in values]
    estimate = merge(*map(Sketch.from_wire, wires)).quantile(q)
    assert estimate is not None
    assert exact(values, q) * (1 - 1e-6) <= estimate <= min(exact(values, q) * gamma, 1e9) * GAMMA * (1 + 1e-6)


@given(st.lists(st.lists(LATENCIES, max_size=5), max_size=6), st.randoms(use_true_random=False), st.integers(0, 6))
def test_merging_gives_the_same_in_any_order_and_grouping(parts: list[list[float]], random: object, cut: int) -> None:
    sketches = [sketch(part) for part in parts]
    shuffled = sorted(sketches, key=lambda _: random.random())  # type: ignore[attr-defined]  # hypothesis' Random
    whole = sketch([value for part in parts for value in part])
    assert merge(*sketches) == whole
    assert merge(*shuffled) == whole
    assert merge(merge(*shuffled[:cut]), merge(*shuffled[cut:])) == whole
    assert whole.count == sum(map(len, parts))


def test_merging_counts_above_a_byte_gives_the_sum() -> None:
    many = Sketch.from_wire(LatencySketch(gamma=GAMMA, offset=-10, counts=(0, 200, 0, 7, 0)))
    assert merge(many, many) == Sketch(-9, (400, 0, 14))
    assert merge(many, many).count == 414


def test_empty_sketch_has_no_quantile() -> None:
    for empty in (Sketch(), merge(), Sketch.from_wire(LatencySketch(gamma=1.5, offset=3, counts=(0, 0)))):
        assert empty == Sketch()
        assert empty.quantile(0.5) is None
        assert empty.count == 0


@pytest.mark.parametrize("gamma", [GAMMA, 4.0])
@pytest.mark.parametrize("offset", [-100_000, 99_000, 100_000])
def test_sketch_from_the_ends_of_the_wire_stays_small_and_finite(offset: int, gamma: float) -> None:
    far = Sketch.from_wire(LatencySketch(gamma=gamma, offset=offset, counts=(1,) * 1024))
    near = Sketch.from_wire(LatencySketch(gamma=GAMMA, offset=0, counts=(1,)))
    merged = merge(far, near)
    assert merged.count == 1025
    assert len(merged.counts) <= 1746
    top = merged.quantile(1.0)
    assert top is not None
    assert math.isfinite(top)


def test_quantiles_rise_with_q() -> None:
    spread = sketch([0.001 * 1.3**n for n in range(30)])
    estimates = [spread.quantile(q / 20) or 0.0 for q in range(21)]
    assert all(low <= high for low, high in pairwise(estimates))
