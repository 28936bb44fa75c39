"""The targets of one rollout: in which wave each is, and how far it has come."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from math import nan
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inventory import Device, Inventory
from orchestrator.core.table import Field, Row, Table

Mask = NDArray[np.bool_]


class Progress(StrEnum):
    """Where one member of a rollout is. Every target ends in one of the last six, or stays queued."""

    PENDING = "pending"
    ORDERED = "ordered"
    GRANTED = "granted"
    RETURNING = "returning"
    HELD = "held"
    PROVEN = "proven"
    """It serves the new version well and waits for its wave's gate before it commits."""
    COMMITTED = "committed"
    FAILED = "failed"
    RETURNED = "returned"
    STRANDED = "stranded"
    """Ordered back and could not: a person must look."""
    SKIPPED = "skipped"
    """A person left it out."""


DEPLOYED: Final = (Progress.PROVEN, Progress.COMMITTED)
"""It serves the new version and has shown its health: what gates and triggers judge."""
SETTLED: Final = (*DEPLOYED, Progress.FAILED, Progress.RETURNED, Progress.STRANDED, Progress.SKIPPED)
"""Where a member is when its part of the wave is over."""
QUEUED: Final = (Progress.PENDING, Progress.ORDERED, Progress.HELD, Progress.RETURNING)
"""Where a member is that something is wanted of, and that has not begun."""


class Member(Row):
    """One target of a rollout.

    Attributes:
        arch: What the device was when the plan was made; what it calls itself later changes no order.
        site: Where it was then; empty if it did not say.
        is_ahead: Its order came before its wave: it may fetch and install, and is let go by a newer order only.
        staged_bytes: What it fetched over the network for that order, once it has it verified; NaN before.
        goes_first: It does not wait for another device of its site to give it the release.
        failed: It counts against the wave, whatever it runs by now.
        excused: A person let the rollout go on in spite of it.
        is_lost: It was granted, and nobody knows what it runs; it is out of service until it says so.
        attempts: How often it was tried again.
        retry_at: From when on it may be ordered again.
        settled_at: When it came where it is, if its part of the wave is over.
    """

    __slots__ = ()

    device_row: Field[int] = Field(0, "i8")  # as numpy takes it for an index, without a copy
    wave: Field[int] = Field(0, "i2")
    arch: Field[str] = Field("")
    site: Field[str] = Field("")
    goes_first: Field[bool] = Field(default=False, dtype="?")
    progress: Field[Progress] = Field(Progress.PENDING, values=tuple(Progress))
    generation: Field[int] = Field(0, "i8")
    is_ahead: Field[bool] = Field(default=False, dtype="?")
    staged_bytes: Field[float] = Field(nan, "f8")
    from_version: Field[str | None] = Field(None)
    ordered_at: Field[float] = Field(0.0, "f8")
    granted: Field[float] = Field(nan, "f8")
    answered: Field[int] = Field(0, "u8")
    failed: Field[bool] = Field(default=False, dtype="?")
    excused: Field[bool] = Field(default=False, dtype="?")
    error: Field[str] = Field("")
    is_lost: Field[bool] = Field(default=False, dtype="?")
    attempts: Field[int] = Field(0, "i2")
    retry_at: Field[float] = Field(0.0, "f8")
    settled_at: Field[float] = Field(nan, "f8")

    @property
    def granted_at(self) -> float | None:
        """When it was let go; None while it was not."""
        granted = self.granted
        return None if granted != granted else granted  # noqa: PLR0124 - NaN is not equal to itself

    @property
    def is_staged(self) -> bool:
        """Whether it has verified what it was ordered ahead of its wave."""
        staged_bytes = self.staged_bytes
        return staged_bytes == staged_bytes  # noqa: PLR0124 - NaN is not equal to itself

    def note_answered(self, nonce: str) -> None:
        """Remember the question that was answered with a go."""
        self.answered = _fingerprint(nonce)

    def was_answered(self, nonce: str) -> bool:
        """Say whether this very question was answered with a go, and no other since."""
        return self.answered == _fingerprint(nonce)


def _fingerprint(nonce: str) -> int:
    """Return 64 bits of a nonce: a device that finds two alike has refused itself one grant."""
    return int.from_bytes(hashlib.sha256(nonce.encode()).digest()[:8])


_NO_MEMBER: Final = -1


class Members(Table[Member]):
    """The members of a rollout, wave after wave in the plan's order; found by the inventory's rows.

    Args:
        inventory: Where the devices are.
        waves: The plan's members, wave by wave.
    """

    def __init__(self, inventory: Inventory, waves: Sequence[Iterable[str]]) -> None:
        super().__init__(Member)
        self.inventory = inventory
        self._row_at = np.full(0, _NO_MEMBER, dtype=np.intp)
        self._starts = [0]
        for number, names in enumerate(waves):
            self.join(names, number)
            self._starts.append(len(self))

    def __contains__(self, name: object) -> bool:
        return name in self.inventory and int(self._row_at_home()[self.inventory.row(str(name))]) != _NO_MEMBER

    def row(self, name: str) -> int:
        """Return the number of a row by name; raises ``KeyError`` for a device that is no member."""
        row = int(self._row_at_home()[self.inventory.row(name)])
        if row == _NO_MEMBER:
            raise KeyError(name)
        return row

    def rows(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Return the numbers of rows by name; raises ``KeyError`` for a device that is no member."""
        return self.at(self.inventory.rows(names))

    def at(self, device_rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the numbers of rows by the inventory's; raises ``KeyError`` for a device that is no member."""
        rows = self._row_at_home()[device_rows]
        if (rows == _NO_MEMBER).any():
            raise KeyError("a device that is no member")
        return rows

    @classmethod
    def restored(
        cls,
        inventory: Inventory,
        starts: Sequence[int],
        columns: Mapping[str, NDArray[Any]],
        vocabularies: Mapping[str, Iterable[Hashable]],
    ) -> Self:
        """Return members as others were: of ``inventory``'s devices, wave after wave from ``starts``."""
        members = cls(inventory, [])
        device_rows = columns["device_row"]
        rows = members._append([inventory.names[row] for row in device_rows.tolist()])
        members._row_at_home()[device_rows] = rows
        members._starts = list(starts)
        members._put(columns, vocabularies)
        return members

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each wave begins, and where the last ends."""
        return tuple(self._starts)

    def join(self, names: Iterable[str], wave: int) -> None:
        """Add devices to ``wave``, which must be the last one so far."""
        device_rows = self.inventory.rows(names)
        rows = self._append([self.inventory.names[row] for row in device_rows.tolist()])
        assert (self._row_at_home()[device_rows] == _NO_MEMBER).all(), "a device is a member once"
        self._row_at[device_rows] = rows
        self.cells["device_row"][rows] = device_rows
        self.fill(rows, Member.wave, wave)
        infos = self.inventory.vocabularies["info"].values
        codes = self.inventory.column(Device.info)[device_rows]
        for name, said in (("arch", [info.arch for info in infos]), ("site", [info.site or "" for info in infos])):
            own_codes = np.array([self.vocabularies[name].code(text) for text in said], dtype="i4")
            self.cells[name][rows] = own_codes[codes]
        if wave + 2 <= len(self._starts):
            self._starts[-1] = len(self)

    def mark_first(self, count: int) -> None:
        """Let the first so many of each wave, site and architecture go first; who joins later does not."""
        keys = np.stack([self.column(Member.wave), self.column(Member.site), self.column(Member.arch)])
        order = np.lexsort(keys)  # stable: within a kind in the plan's order
        begins = np.append(True, (np.diff(keys[:, order]) != 0).any(axis=0))
        places = np.arange(len(order))
        starts = np.maximum.accumulate(np.where(begins, places, 0))
        self.cells["goes_first"][order] = places - starts < count

    def _row_at_home(self) -> NDArray[np.intp]:
        """Return for each row of the inventory the member's row."""
        missing = len(self.inventory) - len(self._row_at)
        if missing:
            self._row_at = np.append(self._row_at, np.full(missing, _NO_MEMBER, dtype=np.intp))
        return self._row_at

    def of_wave(self, wave: int) -> slice:
        """Return the rows of one wave."""
        return slice(self._starts[wave], self._starts[wave + 1])

    def seen(self, field: Field[Any]) -> NDArray[Any]:
        """Return a column of the inventory for the members' devices."""
        column: NDArray[Any] = self.inventory.column(field)[self.column(Member.device_row)]
        return column

    def there(self, at_home: Mask) -> Mask:
        """Return what is marked in the inventory for the members' devices; if nothing is, nobody is looked up."""
        if not at_home.any():
            return np.zeros(len(self), dtype=np.bool_)
        marked: Mask = at_home[self.column(Member.device_row)]
        return marked

    @property
    def online(self) -> Mask:
        """Which members are connected."""
        online: Mask = self.seen(Device.is_online)
        return online

    @property
    def quarantined(self) -> Mask:
        """Which members are in quarantine."""
        return self.there(self.inventory.column(Device.quarantine) != 0)  # The empty text is the first.

    @property
    def unwell(self) -> Mask:
        """Which members are not seen to be healthy, though they should."""
        return self.there(self.inventory.unwell)

    @property
    def staged(self) -> Mask:
        """Which members have verified what they were ordered ahead of their wave, and wait for it."""
        is_staged = self.column(Member.is_ahead) & ~np.isnan(self.column(Member.staged_bytes))
        staged: Mask = self.where(Member.progress, Progress.ORDERED) & is_staged
        return staged

    @property
    def was_granted(self) -> Mask:
        """Which members were let go by their current order."""
        granted: Mask = ~np.isnan(self.column(Member.granted))
        return granted
