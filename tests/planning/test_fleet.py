from dataclasses import replace

import numpy as np
import pytest

from orchestrator.planning.columns import Column
from tests.planning.fleets import Target, fleet_of

FLEET = fleet_of(Target("a"), Target("b"), Target("c"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": np.array([b"a", b"b"])}, r"different lengths: \[2, 3\]"),
        ({"names": np.array([b"a", b"c", b"b"])}, "must ascend, 'b' does not"),
        ({"names": np.array([b"a", b"a", b"b"])}, "must ascend, 'a' does not"),
        ({"signal_count": np.zeros(4, dtype=np.int32)}, "different lengths"),
        ({"region": Column(np.zeros(3, dtype=np.int32), ["north", "north"])}, "a text twice"),
    ],
)
def test_a_fleet_that_is_not_whole_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FLEET, **change)  # type: ignore[arg-type] # one wrong column at a time
