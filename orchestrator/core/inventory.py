"""The devices of the fleet: what they say they are, what people declared, and what is only seen of them."""

from collections.abc import Iterable
from math import inf, nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.media import MediaNote
from orchestrator.core.table import Field, Row, Table
from orchestrator.planning.names import Names
from orchestrator.planning.ordering import in_order, merged
from schemas.inventory import DeviceEntry
from schemas.messages import Action, Info
from schemas.peers import is_peer_url

_VOLATILE_INFO: Final = {
    "session": 0, "boot_id": "-", "ts": None, "version": None, "disk_free_bytes": None, "sleeping_until": None,
    "root_version": None, "peer_url": None,
}  # fmt: skip
_MANY: Final = 10_000
"""From so many on it is quicker to look them up in order."""
NOT_ANNOUNCED: Final = Info(
    session=0, boot_id="-", agent="unknown", device_type="unknown", arch="unknown", region="unknown", group="unknown"
)


def lasting(info: Info) -> Info:
    """Leave out what changes with every connect: many devices of one kind then say the same."""
    return info.model_copy(update=_VOLATILE_INFO)


def peer_url_of(info: Info) -> str:
    """Return where a device gives others what it has; empty if it does not, or at an address that is refused."""
    return info.peer_url if info.peer_url is not None and is_peer_url(info.peer_url) else ""


class Device(Row):
    """One device of the fleet.

    Attributes:
        said: Its own word, without what changes with every connect.
        declared: What people wrote into the inventory; it wins.
        info: Both together: what decisions are made on.
        quarantine: Why it is kept out of waves; empty if it is not.
        media: What it took from media, beside all rollouts; None if nothing.
        rollout: The rollout whose order it holds, with the order's generation, action and epoch.
    """

    __slots__ = ()

    said: Field[Info | None] = Field(None)
    declared: Field[DeviceEntry | None] = Field(None)
    info: Field[Info] = Field(NOT_ANNOUNCED)
    quarantine: Field[str] = Field("")
    media: Field[MediaNote | None] = Field(None)
    rollout: Field[str | None] = Field(None)
    generation: Field[int] = Field(0, "i8")
    action: Field[Action | None] = Field(None)
    epoch: Field[int] = Field(0, "i8")

    is_online: Field[bool] = Field(default=False, dtype="?", volatile=True)
    online_since: Field[float] = Field(0.0, "f8", volatile=True)
    is_asking: Field[bool] = Field(default=False, dtype="?", volatile=True)
    """It waits for a grant for the current order, or for something of its own before it can ask for one."""
    has_prepared: Field[bool] = Field(default=False, dtype="?", volatile=True)
    """It has the current order verified in standby."""
    busy_since: Field[float] = Field(0.0, "f8", volatile=True)
    """Since when it works on its order again after it has waited for something."""
    version: Field[str | None] = Field(None, volatile=True)
    """What it runs, as far as it said."""
    disk_free: Field[float] = Field(nan, "f8", volatile=True)
    peer_url: Field[str] = Field("", volatile=True)
    """Where it gives others of its site what it has; empty if it does not."""
    heard_at: Field[float] = Field(-inf, "f8", volatile=True)
    """When anything came from it last."""
    said_at: Field[float] = Field(-inf, "f8", volatile=True)
    """When it said last how far it is with its order, or was asked to."""
    sampled_at: Field[float] = Field(-inf, "f8", volatile=True)
    interval_seconds: Field[float] = Field(nan, "f8", volatile=True)
    """The usual time between two of its samples; NaN while it has sent fewer than two."""
    silent_since: Field[float] = Field(nan, "f8", volatile=True)
    """Since when it has not been heard though it should; NaN while it is."""
    is_ill: Field[bool] = Field(default=False, dtype="?", volatile=True)
    """Its last good sample says that it is not healthy."""
    is_unheard: Field[bool] = Field(default=False, dtype="?", volatile=True)
    """No sample of it came though one should have."""
    sleeps_until: Field[float] = Field(-inf, "f8", volatile=True)
    trouble_at: Field[float] = Field(-inf, "f8", volatile=True)
    """When its connection was last lost without notice."""
    boot: Field[int] = Field(0, "u4", volatile=True)
    """From which of its starts it spoke last, as a number; 0 before it has spoken."""
    boot_before: Field[int] = Field(0, "u4", volatile=True)
    """From which it spoke before that one."""
    boot_returns: Field[int] = Field(0, "u4", volatile=True)
    """How often the two have changed places."""
    lost_at: Field[float] = Field(-inf, "f8")
    """When such a loss was last written down."""

    @property
    def disk_free_bytes(self) -> int | None:
        """What it has free, as far as it said."""
        free = self.disk_free
        return None if free != free else int(free)  # noqa: PLR0124 - NaN is not equal to itself

    @property
    def is_unwell(self) -> bool:
        """Whether it is not seen to be healthy, though it should."""
        return self.is_ill or self.is_unheard

    @property
    def is_known(self) -> bool:
        """Whether it has announced itself; a device that was only declared has not."""
        return self.said is not None

    def settle_info(self) -> None:
        """Make ``info`` anew from its own word and what people declared."""
        said = self.said or NOT_ANNOUNCED
        declared = self.declared
        self.info = said if declared is None else said.model_copy(update=declared.model_dump(exclude_none=True))


class Inventory(Table[Device]):
    """All devices that were announced or declared."""

    def __init__(self) -> None:
        super().__init__(Device)
        self._in_order = in_order([])

    def rows(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Return the numbers of rows by name; raises ``KeyError`` for a name that is not there."""
        if not isinstance(names, Names) or len(names) < _MANY:
            return super().rows(names)
        ids, rows = self.in_order()
        wanted = names.array()
        places = np.searchsorted(ids, wanted)
        if (ids[np.minimum(places, len(ids) - 1)] != wanted).any():
            raise KeyError("a device that is not there")
        return rows[places]

    @property
    def unwell(self) -> NDArray[np.bool_]:
        """Which devices are not seen to be healthy, though they should."""
        unwell: NDArray[np.bool_] = self.column(Device.is_ill) | self.column(Device.is_unheard)
        return unwell

    def count_by_group(self) -> dict[str, int]:
        """Return how many devices each group has."""
        found: dict[str, int] = {}
        counts = np.bincount(self.column(Device.info))
        for code in np.flatnonzero(counts).tolist():
            group = self.vocabularies["info"].values[code].group
            found[group] = found.get(group, 0) + int(counts[code])
        return found

    def in_order(self) -> tuple[NDArray[np.bytes_], NDArray[np.intp]]:
        """Return all ids in ascending order, and the row of each; only devices that were added since are sorted in."""
        known = len(self._in_order[0])
        if known < len(self):
            added, places = in_order(self.names[known:])
            self._in_order = merged(self._in_order, (added, places + known))
        return self._in_order
