"""The witness: sees every step, keeps the ground truth, and holds each step against the invariants."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgpack

from device_client.core.events import GrantReceived
from schemas.messages import Ready, Reported, SlotName
from simulator.clock import Clock
from simulator.device_invariants import DEVICE_INVARIANTS, accepted_grant
from simulator.disk import Disk
from simulator.disk_invariants import reads_before_it_runs, runs_what_was_verified
from simulator.ledger import Ledger
from simulator.rollout_facts import Entry
from simulator.rollout_invariants import ROLLOUT_INVARIANTS
from simulator.scene import Scene, Word
from simulator.truth import DeviceStep, DeviceTruth

VIOLATIONS_MAX = 20
"""After so many the rest tells nothing new."""
_WORD_GAP_SECONDS_MAX: Final = 120.0
"""After a longer silence nobody knows what a device would have said."""


class StoredEntry(Protocol):
    """An entry as the journal gives it back."""

    @property
    def seq(self) -> int: ...  # noqa: D102 - see the class
    @property
    def at(self) -> float: ...  # noqa: D102 - see the class
    @property
    def kind(self) -> str: ...  # noqa: D102 - see the class
    @property
    def body(self) -> str: ...  # noqa: D102 - see the class


class Witness:
    """Ground truth and violations.

    Attributes:
        violations: What was wrong, in the order in which it was found.
        truths: By device.
        ledger: What the durable journal says.
        sampled_at: When the last sample of each device reached the orchestrator.
        words: What each device says of its health, and since when; begun anew with each process.
        serves: Asks a device whether its application really runs and answers.
        ill_seconds: Asks a device for how long its application has really been plainly ill.
        approvals: Each (rollout, wave) that a person has asked to approve.
        activations: Each rollout that a person has asked to activate.
        resumes: How often people have asked to resume each rollout; asking again until it is answered is asking once.
        online: Asks the orchestrator whom it believes to be there.
        normal_count: Asks how many normal samples of a group it has taken in.
        lies: What devices have sent that is no evidence.
        groups: Of all devices of the fleet.
    """

    def __init__(self, clock: Clock, groups: Mapping[str, str]) -> None:
        self.violations: list[str] = []
        self.truths = {device: DeviceTruth() for device in groups}
        self.ledger = Ledger()
        self.sampled_at: dict[str, float] = {}
        self.words: dict[str, Word] = {}
        self.serves: Callable[[str], bool] = lambda _device: True
        self.ill_seconds: Callable[[str], float] = lambda _device: 0.0
        self.approvals: set[tuple[str, str | None]] = set()
        self.activations: set[str] = set()
        self.resumes: Counter[str] = Counter()
        self.online: Callable[[], frozenset[str]] = frozenset
        self.normal_count: Callable[[str, str, float], int] = lambda _group, _version, _since: 0
        self.lies: set[bytes] = set()
        self._liars: set[str] = set()
        self.groups = groups
        self._clock = clock

    def accuse(self, invariant: str, who: str, what: str) -> None:
        """Write a violation down."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"{self._clock.elapsed_seconds:.3f} {invariant}: {who}: {what}")

    def is_copied(self, device: str) -> bool:
        """Say whether another one has, or had, a device's name."""
        return any(body.startswith(f"{device}+") for body in self.truths)

    def _hold(self, invariant: str, who: str, wrong: str | None) -> None:
        if wrong is not None:
            self.accuse(invariant, who, wrong)

    # What devices do.

    def asked(self, device: str, ready: Ready, boot_now: float) -> None:
        """A device asks for a grant."""
        self.truths[device].asked[ready.nonce] = (ready, boot_now)

    def reported(self, device: str, reported: Reported) -> None:
        """A device says where it is."""
        said = (reported.observed_generation, str(reported.state), reported.installed_version)
        self.truths[device].reports.add(said)
        if reported.error is not None and reported.error.retryable:
            self.truths[device].passing.add((reported.observed_generation, reported.error.code))

    def probed(self, device: str, version: str | None, now: float) -> None:
        """A device asks its application; None is one that is not well."""
        self.truths[device].note_probe(version, now)

    def fetched(self, device: str) -> None:
        """A device has other bytes in staging than before."""
        self.truths[device].verified = None

    def verified(self, device: str, version: str) -> None:
        """A device has verified what is staged."""
        self.truths[device].verified = version

    def writes(self, device: str, slot: SlotName, disk: Disk) -> None:
        """INV-1: a device begins to write a slot, which must not be the one that serves."""
        self.truths[device].note_install(disk.record.generation)
        if slot == disk.active:
            self.accuse("INV-1 the active slot is never written", device, slot)

    def sealed(self, device: str, slot: SlotName, disk: Disk) -> None:
        """A slot is complete; it is worth something if its bytes were verified before."""
        truth, held = self.truths[device], disk.slots[slot]
        if truth.verified == held.version:
            truth.sealed[slot] = held.write_count

    def switches(self, device: str, slot: SlotName, disk: Disk, now: float) -> None:
        """INV-2: a device leads the link to a slot."""
        self._hold("INV-2 damage is noticed", device, reads_before_it_runs(slot, disk, now))

    def starts(self, device: str, slot: SlotName, disk: Disk, now: float) -> None:
        """INV-2: a device starts a slot as its core has ordered, not because it has ended by itself."""
        self._hold("INV-2 damage is noticed", device, reads_before_it_runs(slot, disk, now))

    def executes(self, device: str, slot: SlotName, disk: Disk, now: float, *, may_be_left: bool = False) -> None:
        """INV-2: a device runs a slot, which must be verified and active.

        ``may_be_left``: it is started again for the clients that are still led to it, wherever the link leads.
        """
        truth, held = self.truths[device], disk.slots[slot]
        self.tries(device, slot, disk)
        if slot != disk.active and not may_be_left:
            self.accuse("INV-2 no unverified execution", device, f"{slot} is not active")
        truth.note_probe(None, now)
        truth.note_start(held.version, now)

    def tries(self, device: str, slot: SlotName, disk: Disk) -> None:
        """INV-2: a device runs a slot that clients are not led to yet, which must be verified all the same."""
        self._hold("INV-2 no unverified execution", device, runs_what_was_verified(self.truths[device], slot, disk))

    def device_stepped(self, step: DeviceStep) -> None:
        """A device has handled an event."""
        truth = self.truths[step.body]
        for name, holds in DEVICE_INVARIANTS.items():
            wrong = holds(step, truth, self.ledger, self._clock.now)
            if wrong is not None:
                self.accuse(name, step.body, wrong)
        if isinstance(step.event, GrantReceived) and accepted_grant(step) is not None:
            truth.used.add(step.event.grant.nonce)
        truth.note_step(step)

    # What the orchestrator does.

    def heard(self, device: str, payload: bytes) -> None:
        """A sample has reached the orchestrator; nothing is known of the health of a device that has lied."""
        if payload in self.lies:
            self._liars.add(device)
            self.words.pop(device, None)
            return
        now = self._clock.now
        self.sampled_at[device] = now
        if device not in self._liars:
            is_well, before = bool(msgpack.unpackb(payload).get("healthy")), self.words.get(device)
            goes_on = before is not None and before.is_well == is_well and now - before.at <= _WORD_GAP_SECONDS_MAX
            self.words[device] = Word(is_well, before.since if before is not None and goes_on else now, now)

    def is_normal(self, device: str, version: str) -> bool:
        """Say whether what a device does on a version may count as normal."""
        ledger = self.ledger
        if ledger.is_frozen or device in ledger.quarantined:
            return False
        active = (each for each in ledger.rollouts.values() if not each.outcome and device in each.wave_of)
        return all(each.version != version for each in active)

    def put_back(self, stored: Iterable[StoredEntry]) -> None:
        """The journal is an earlier copy of itself; what devices were told since was told nevertheless."""
        before, self.ledger = self.ledger, Ledger()
        for each in stored:
            self.ledger.apply(Entry(each.seq, each.at, each.kind, json.loads(each.body)))
        self.ledger.told_before = set(self.ledger.orders)
        self.ledger.ordered |= before.ordered
        self.ledger.grants = before.grants | self.ledger.grants

    def journaled(self, stored: Iterable[StoredEntry]) -> list[Entry]:
        """The journal has grown; hold each new entry against what came before it."""
        entries = [Entry(each.seq, each.at, each.kind, json.loads(each.body)) for each in stored]
        online = self.online()
        for entry in entries:
            if entry.seq != self.ledger.last_seq + 1:
                self.accuse("INV-16 no gaps", "journal", f"entry {entry.seq} after {self.ledger.last_seq}")
            scene = Scene(
                self.ledger, self.truths, self.groups, online, self.sampled_at, self.words, self._liars, self.serves,
                self.ill_seconds, self.approvals, self.activations, self.resumes, self.normal_count,
            )  # fmt: skip
            for name, holds in ROLLOUT_INVARIANTS.items():
                wrong = holds(entry, scene)
                if wrong is not None:
                    self.accuse(name, entry.kind, wrong)
            self.ledger.apply(entry)
        return entries
