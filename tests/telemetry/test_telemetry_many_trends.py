"""Of many devices not every line is drawn, and what is concluded is the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestrator.telemetry import trends
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.kendall import may_rise, net_rises
from orchestrator.telemetry.readings import Readings
from orchestrator.telemetry.trends import Slopes, fit

POINTS, COUNT = 30, 40
levels = st.one_of(st.integers(0, 4), st.floats(0, 1e6, width=32), st.just(np.nan))
tables = arrays(np.float32, (POINTS, 5), elements=levels)


def readings(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Readings:
    count = values.shape[1]
    devices = Devices.named([f"d{number:04d}" for number in range(count)], np.arange(count))
    times = 60.0 * np.arange(len(values), dtype=np.float64)
    return Readings(devices, times, values, np.full(count, 2 * len(values), dtype=np.int64))


def fleet(seed: int) -> Readings:
    """Devices that leak, that leak in noise, that only make noise, that stay as they are, and that say little."""
    rng = np.random.default_rng(seed)
    at = np.arange(POINTS)[:, None] / POINTS
    noise = rng.standard_normal((POINTS, COUNT))
    kinds = np.arange(COUNT) % 5
    values = 1000 + np.select([kinds == 0, kinds == 1, kinds == 2], [300 * at, 300 * at + 20 * noise, 20 * noise], 0.0)
    values = np.where(kinds == 3, np.floor(1000 + 3 * at), values)
    values[(kinds == 4) & (rng.random((POINTS, COUNT)) < 0.8)] = np.nan
    return readings(values.astype(np.float32))


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trends, "_DEVICES_AT_ONCE", 4)
    monkeypatch.setattr(trends, "_SHOWN_MAX", 3)


@given(tables)
def test_the_statistic_is_what_all_pairs_say(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    pairs = [(later, earlier) for later in range(POINTS) for earlier in range(later)]
    with np.errstate(invalid="ignore"):
        slow = [np.nansum([np.sign(row[later] - row[earlier]) for later, earlier in pairs]) for row in values.T]
    assert net_rises(values).tolist() == slow


@given(tables, st.integers(0, 2**32 - 1))
def test_what_rises_for_certain_is_among_what_may_rise(
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]], seed: int
) -> None:
    leaks = fleet(seed).values
    together = np.concatenate([values, leaks], axis=1)
    certain = fit(readings(together)).rises()

    assert not (certain & ~may_rise(together)).any()
    assert certain[5 : 5 + COUNT][np.arange(COUNT) % 5 == 0].all()


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("seed", range(5))
def test_many_are_told_apart_as_few_are(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    many = fit(fleet(seed))
    monkeypatch.setattr(trends, "_DEVICES_AT_ONCE", 10_000)
    every = fit(fleet(seed))

    assert many.rises().tolist() == every.rises().tolist()
    assert many.can_tell().tolist() == every.can_tell().tolist()
    assert many.points.tolist() == every.points.tolist()
    rising = every.rises()
    for name in ("per_second", "first", "last", "noise", "span_seconds", "score"):
        assert getattr(many, name)[rising].tolist() == getattr(every, name)[rising].tolist()
    assert np.isnan(many.per_second).any(), "not every line is drawn"


@pytest.mark.usefixtures("few_at_once")
def test_those_that_are_at_a_level_are_looked_at() -> None:
    values = np.full((POINTS, 100), 40.0, dtype=np.float32)
    values[:, 70:80] = 90.0
    found: Slopes = fit(readings(values), reaching=85.0)

    assert np.flatnonzero(found.last >= 85.0).tolist() == list(range(70, 80))
    assert not found.rises().any()
