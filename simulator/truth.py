"""Ground truth about devices: what really happened on them, whatever anybody was told.

Invariants compare this with what the product believes; the product never sees it.
"""

from dataclasses import dataclass, field, replace

from device_client.core.device import Device
from device_client.core.events import Event
from device_client.core.record import Record
from schemas.messages import Ready, SlotName
from simulator.disk import Disk


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """One event that a device has handled.

    Attributes:
        before: The core before it.
        after: The core after it; None if the power went meanwhile.
        disk: As it is now.
        boot_now: Seconds on the device's boot clock.
        body: Whose disk it is; one that was copied is another one, with the same name.
    """

    device: str
    event: Event
    before: Device
    after: Device | None
    disk: Disk
    boot_now: float
    body: str

    @property
    def was(self) -> Record:
        """The record before."""
        return self.before.record

    @property
    def now(self) -> Record:
        """The record after: what a power cut has left, if there was one."""
        return self.disk.record if self.after is None else self.after.record


@dataclass(slots=True)
class DeviceTruth:
    """What one device has really done.

    Attributes:
        ran: Every version it ever ran, in order.
        runs: The version that it started last.
        asked: Its questions by nonce, with the moment on the boot clock and the boot.
        used: Nonces whose answer it has accepted.
        epoch: The highest epoch of an accepted grant.
        seq: The highest number within that epoch.
        reports: Each (generation, state, version) it has published.
        passing: Each (generation, code) of a failure that may pass, as it has said.
        successes: Healthy answers in a row of what runs now.
        well_since: When that row began.
        well_version: Whose answers these are.
        turned_back: Each (generation, manifest) that it has left by a rollback.
        fallback: Slot to go back to and its write count, while something is on trial.
        verified: The version whose staged bytes were verified since they were fetched.
        sealed: The write count of each slot when it was last complete, from verified bytes.
        writes: The write count of each slot when this was looked at last.
        restarts: When a version was started that had run until then, each time.
        installs: How often a slot was written under each generation, the last one only.
    """

    ran: list[str] = field(default_factory=list)
    runs: str | None = None
    asked: dict[str, tuple[Ready, float]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    epoch: int = 0
    seq: int = 0
    reports: set[tuple[int, str, str | None]] = field(default_factory=set)
    passing: set[tuple[int, str]] = field(default_factory=set)
    successes: int = 0
    well_since: float = 0.0
    well_version: str | None = None
    turned_back: set[tuple[int, str]] = field(default_factory=set)
    fallback: tuple[SlotName, int] | None = None
    verified: str | None = None
    sealed: dict[SlotName, int] = field(default_factory=dict)
    writes: dict[SlotName, int] = field(default_factory=dict)
    restarts: list[float] = field(default_factory=list)
    installs: tuple[int, int] = (0, 0)

    def of_a_copy(self) -> "DeviceTruth":
        """Return the truth about another device that begins with a copy of this one's disk, and says what it says."""
        return replace(
            self,
            ran=list(self.ran),
            used=set(self.used),
            asked={},
            turned_back=set(self.turned_back),
            restarts=list(self.restarts),
            sealed=dict(self.sealed),
            writes=dict(self.writes),
        )

    def note_delivered(self, slot: SlotName, write_count: int) -> None:
        """Take a slot for verified with which the device was delivered."""
        self.sealed[slot] = self.writes[slot] = write_count

    def note_install(self, generation: int) -> None:
        """Count that a slot is written under an order."""
        known, count = self.installs
        self.installs = (generation, count + 1 if generation == known else 1)

    def note_start(self, version: str | None, now: float) -> None:
        """Note that a version is started, for the first time or again."""
        if version is not None and version == self.runs:
            self.restarts.append(now)
        self.runs = version
        if version is not None and version not in self.ran:
            self.ran.append(version)

    def note_probe(self, version: str | None, now: float) -> None:
        """Fold in a probe; None is an application that is not well."""
        if version is None:
            self.successes = 0
            return
        if not self.successes:
            self.well_since = now
        self.successes += 1
        self.well_version = version

    def note_step(self, step: DeviceStep) -> None:
        """Remember what later steps are compared with."""
        was, now = step.was, step.now
        self.writes = {name: slot.write_count for name, slot in step.disk.slots.items()}
        self.epoch, self.seq = max((self.epoch, self.seq), (now.marks.epoch, now.marks.seq))
        if was.trial is not None and now.trial is None and now.active != was.trial.slot:
            self.turned_back.add((was.trial.generation, was.trial.manifest_sha256))
        if now.trial is None or now.trial.previous is None:
            self.fallback = None
        elif self.fallback is None:
            self.fallback = (now.trial.previous, step.disk.slots[now.trial.previous].write_count)
