from dataclasses import replace

import numpy as np
import pytest

from orchestrator.planning.columns import Column
from orchestrator.planning.fleet import Fleet
from tests.planning.fleets import Target, fleet_of

FLEET = fleet_of(Target("a", group="x"), Target("b", group="y"), Target("c", group="x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "b"]}, r"different lengths: \[2, 3\]"),
        ({"names": ["a", "c", "b"]}, "must ascend, 'b' does not"),
        ({"names": ["a", "a", "b"]}, "must ascend, 'a' does not"),
        ({"signal_count": np.zeros(4, dtype=np.int32)}, "different lengths"),
        ({"region": Column(np.zeros(3, dtype=np.int32), ["north", "north"])}, "a text twice"),
    ],
)
def test_a_fleet_that_is_not_whole_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FLEET, **change)  # type: ignore[arg-type] # one wrong column at a time


def test_a_fleet_names_the_groups_that_have_devices() -> None:
    fleet = replace(FLEET, group=Column(FLEET.group.codes, [*FLEET.group.values, "nobody"]))

    assert isinstance(fleet, Fleet)
    assert len(fleet) == 3
    assert fleet.groups == ("x", "y")
