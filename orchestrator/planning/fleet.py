"""What the planner knows of the devices that will be updated: columns, because a fleet may have a million of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.columns import Column

OFFLINE: Final = "offline"
"""The reason in ``Fleet.unfit`` of a device that is not there now, whatever else stands against it."""
ASLEEP: Final = "asleep"
"""The same of a device that is there and about to leave for a while."""


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """The targets of a rollout; place ``n`` of every column is about device ``n``.

    Attributes:
        names: Device ids in ascending order, each once; ASCII, as every id is.
        device_type: The hardware.
        region: Where it is deployed.
        signal_count: How many signals of its health it reports; the best monitored device of a type is its canary.
        unfit: Why it may not be a canary, ``OFFLINE`` and ``ASLEEP`` before any other reason; empty if it may.

    Raises:
        ValueError: Columns of different lengths, a text that a column has twice, or names that do not ascend; the
            caller's fault.
    """

    names: NDArray[np.bytes_]
    device_type: Column
    region: Column
    signal_count: NDArray[np.int32]
    unfit: Column

    def __post_init__(self) -> None:
        columns = (self.device_type, self.region, self.unfit)
        lengths = {len(self.names), len(self.signal_count), *(len(each.codes) for each in columns)}
        if len(lengths) != 1:
            raise ValueError(f"the columns of a fleet have different lengths: {sorted(lengths)}")
        if any(len(set(each.values)) != len(each.values) for each in columns):
            raise ValueError("a column of a fleet has a text twice")
        falls = self.names[1:] <= self.names[:-1]
        if falls.any():
            raise ValueError(f"the names of a fleet must ascend, {self.name(int(falls.argmax()) + 1)!r} does not")

    def __len__(self) -> int:
        return len(self.names)

    def name(self, place: int) -> str:
        """Return the id of one device."""
        return bytes(self.names[place]).decode()
