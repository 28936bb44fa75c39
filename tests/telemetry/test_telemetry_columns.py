"""The arrays beneath the monitor: numbers in few bits, ids by row, cells that turn and are cut anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.telemetry.cohorts import COHORTS_MAX, VERSIONS_MAX, Cohorts
from orchestrator.telemetry.columns import CELLS, Columns
from orchestrator.telemetry.compact import PACKED_ERROR_MAX, packed, packed_celsius, unpacked, unpacked_celsius
from orchestrator.telemetry.medians import medians
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.roster import UNKNOWN, Roster
from tests.telemetry.telemetry_streams import feed, sample, sketch_of, tell


@given(st.integers(0, 4096))
def test_whole_numbers_up_to_4096_are_packed_exactly(number: int) -> None:
    assert unpacked(packed(np.array([number])))[0] == number


@given(st.floats(1, 2.0**31 - 2.0**20))
def test_packed_numbers_are_known_within_the_stated_error(number: float) -> None:
    assert unpacked(packed(np.array([number])))[0] == pytest.approx(number, rel=PACKED_ERROR_MAX * 1.001)


@given(st.lists(st.floats(0, 2.0**33), min_size=2, max_size=2))
def test_packing_keeps_the_order(numbers: list[float]) -> None:
    low, high = unpacked(packed(np.array(sorted(numbers))))
    assert low <= high


@given(st.floats(-40, 149))
def test_temperatures_are_known_within_half_a_step(celsius: float) -> None:
    assert unpacked_celsius(packed_celsius(np.array([celsius])))[0] == pytest.approx(celsius, abs=0.376)


def test_no_temperature_stays_none() -> None:
    assert np.isnan(unpacked_celsius(np.zeros(1, dtype=np.uint8)))[0]


@given(st.lists(st.lists(st.floats(-9, 9) | st.just(float("nan")), min_size=3, max_size=3), max_size=6))
def test_medians_are_those_of_the_known_numbers(rows: list[list[float]]) -> None:
    table = np.array(rows).reshape(len(rows), 3)
    for found, column in zip(medians(table), table.T, strict=True):
        known = column[~np.isnan(column)]
        assert found == pytest.approx(np.median(known)) if len(known) else np.isnan(found)


@given(st.lists(st.lists(st.text(max_size=4), max_size=30), max_size=10))
def test_roster_gives_each_name_one_row_in_the_order_of_their_coming(batches: list[list[str]]) -> None:
    roster, rows = Roster(), dict[str, int]()
    for names in batches:
        assert roster.find(names).tolist() == [rows.get(name, UNKNOWN) for name in names]
        expected = [rows.setdefault(name, len(rows)) for name in names]
        assert roster.add(names).tolist() == expected
    assert list(roster) == list(rows)
    assert roster.names(np.arange(len(rows))) == list(rows)


def test_roster_finds_every_name_after_it_has_grown() -> None:
    names = [f"device-{number}" for number in range(20_000)]
    roster = Roster()
    for start in range(0, len(names), 700):
        roster.add(names[start : start + 700])
    assert roster.find(names).tolist() == list(range(20_000))
    assert roster.find(["device-20000"]).tolist() == [UNKNOWN]


def test_columns_cost_what_the_product_promises_for_each_device() -> None:
    columns = Columns(60.0)
    columns.reserve(100_000)
    columns.need("temperature_ring")
    assert columns.nbytes / columns.capacity < 400, "with 50 for the roster, 450"


def test_cells_that_time_jumped_over_are_empty() -> None:
    columns = Columns(60.0)
    columns.turn(10)
    columns.open_requests[0] = 5
    columns.turn(12)
    requests, _ = columns.traffic(np.array([0]), columns.places(None))
    assert requests[:, 0].tolist() == [0.0] * (CELLS - 3) + [5.0, 0.0, 0.0]
    columns.turn(12 + CELLS)
    requests, _ = columns.traffic(np.array([0]), columns.places(None))
    assert requests.sum() == 0


@pytest.mark.parametrize("longest_seconds", [300.0, 900.0, 1800.0, 7200.0, 36_000.0])
def test_time_can_be_cut_anew_and_nothing_within_the_shorter_reach_is_lost(longest_seconds: float) -> None:
    monitor = Monitor()
    now = feed(
        monitor, "a", count=61, errors_total=lambda seq: seq, restarts_total=lambda seq: seq // 4, memory_bytes=2**20
    )

    monitor.cover(longest_seconds)

    reach = min(longest_seconds, 1800.0)
    window = monitor.window(["a"], version="2", seconds=reach - 120, now=now)
    expected = (reach - 120) / 30
    slack = 2 * max(longest_seconds, 1800.0) / 30 / 30  # a cell more of each length
    assert expected <= window.request_count / 100 <= expected + slack
    assert expected <= window.error_count <= expected + slack
    assert expected <= 4 * window.restarts["a"] + 4 <= expected + slack + 8
    assert monitor.slopes(["a"], "memory", version="2", seconds=reach, now=now).points[0] > 0  # type: ignore[arg-type]  # a member's value


def test_time_cut_anew_goes_on_counting() -> None:
    monitor = Monitor()
    now = feed(monitor, "a", count=11)
    monitor.cover(900.0)
    now = feed(monitor, "a", start=now + 30, first=11, count=5)
    assert monitor.window(["a"], version="2", seconds=None, now=now).request_count == 1500


def test_devices_that_invent_versions_take_no_room_from_other_places() -> None:
    monitor, latency = Monitor(), sketch_of([0.1])
    for number in range(100):
        for seq in range(2):
            tell(monitor, f"odd{number}", "odd", sample(seq, version=f"odd-{number}", latency=latency), 1.0)
    now = feed(monitor, "a", latency=latency)
    assert monitor.window(["a"], version="2", seconds=None, now=now).latency.count == 10
    late = monitor.window([f"odd{VERSIONS_MAX}"], version=None, seconds=None, now=now)
    assert (late.sample_count, late.latency.count) == (2, 0), "the seventeenth version is not told apart"
    assert VERSIONS_MAX < COHORTS_MAX


def test_cohorts_that_do_nothing_any_more_are_let_go() -> None:
    monitor = Monitor()
    for part in range(40):
        feed(monitor, f"d{part}", "g", version=f"v{part}", start=part * 1000.0, latency=sketch_of([0.1]))
        monitor.window(["d0"], version=None, seconds=None, now=part * 1000.0 + 900)
    cohorts: Cohorts = monitor._cohorts
    assert len(cohorts._members) <= 4
