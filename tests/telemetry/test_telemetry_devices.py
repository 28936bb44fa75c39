import numpy as np
import pytest

from orchestrator.telemetry import devices as module
from orchestrator.telemetry.devices import Counted, Devices, Names
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.roster import UNKNOWN

NAMES = ["d", "a", "c", "b"]


def four() -> Devices:
    return Devices.named(NAMES, np.array([7, 3, UNKNOWN, 5]), ["y", "x", "y", "x"])


def test_devices_are_their_names_and_can_be_taken_apart_again_and_again() -> None:
    assert list(four()) == NAMES
    assert (four()[1], four()[1:3]) == ("a", ["a", "c"])
    part = four().take(np.array([3, 0, 1])).take(np.array([2, 0]))
    assert (list(part), part.rows.tolist(), part.groups()) == (["a", "b"], [3, 5], {"x"})


def test_groups_come_in_the_order_of_their_names() -> None:
    assert [(name, list(those)) for name, those in four().by_group()] == [("x", ["a", "b"]), ("y", ["d", "c"])]
    assert list(Devices.named([], np.array([], dtype=np.intp)).by_group()) == []


def test_names_are_sorted_and_of_very_many_the_first_are_those_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    some = four().some(np.array([True, False, True, True]))
    assert some == ("b", "c", "d")
    assert (list(some.first(2)), len(some), some[0], some[1:]) == (["b", "c"], 3, "b", ("c", "d"))
    assert hash(some) == hash(("b", "c", "d"))
    monkeypatch.setattr(module, "SORTED_MAX", 2)
    assert list(some.first(2)) == ["c", "d"]


def test_counts_name_those_to_whom_it_happened() -> None:
    counted = Counted(four(), np.array([0, 1, 3]), np.array([2, 0, 5]))
    assert counted == {"b": 5, "d": 2}
    assert (counted.total, list(counted), counted["b"]) == (7, ["b", "d"], 5)
    assert counted.names == Names(four(), np.array([0, 3]))


def test_a_monitor_knows_devices_by_the_numbers_that_its_caller_has_for_them() -> None:
    monitor = Monitor()
    rows = monitor.admit(["a", "b"], [Place("g")] * 2, [41, 7])

    assert monitor.rows_at(np.array([7, 41, 8, 1000])).tolist() == [rows[1], rows[0], UNKNOWN, UNKNOWN]
    assert monitor.admit(["c"], [Place("g")], [2000]).tolist() == monitor.rows_at(np.array([2000])).tolist()
    assert Monitor().rows_at(np.array([0, 5])).tolist() == [UNKNOWN, UNKNOWN]
