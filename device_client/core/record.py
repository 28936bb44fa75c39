"""What a device must remember through a power cut: one document, replaced as a whole.

Journal and decision are the same document, so they cannot contradict each other. It is written before anything is done
that it describes. Moments in it are on the boot clock and mean something only together with ``boot_id``.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from device_client.core.machine import Phase
from schemas.ids import Name, Sha256
from schemas.messages import CommitOn, Count, Desired, ErrorReport, Fetched, HealthCheck, Seconds, SlotName, Strategy

REFUSALS_KEPT: Final = 16
MEDIA_REFUSALS_KEPT: Final = 8
BOOTS_PER_TRIAL: Final = 3


class _Remembered(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class SlotContent(_Remembered):
    """What a verified slot holds; it also stands in the slot itself, so that a lost record can be rebuilt.

    Attributes:
        release: Name of the release.
        version: What its application reports.
        manifest_sha256: Digest of the signed manifest, the release's name for machines.
        release_counter: From the manifest.
        command: From the manifest.
        health_check: How its order said to ask for its health.
        tree_digest: Digest over every file of the slot.
        root_version: Trust root under which the manifest was verified; 0 without one.
    """

    release: Name
    version: Name
    manifest_sha256: Sha256
    release_counter: Count
    command: tuple[str, ...]
    health_check: HealthCheck
    tree_digest: Sha256
    root_version: Count = 0


class Marks(_Remembered):
    """High-water marks; none of them ever falls."""

    epoch: Count = 0
    seq: Count = 0
    generation: Count = 0
    media: Count = 0
    """Of the orders on media that were taken."""


class Trial(_Remembered):
    """A new version that serves and is not committed. It carries its own terms, because orders may move on.

    Attributes:
        slot: Where the new version is.
        previous: Where to go back to; None on a device that had nothing before.
        generation: Number of the order that brought it.
        manifest_sha256: The release on trial.
        commit_on: What committing takes; becomes ``local_health`` when the order is superseded.
        min_ready_seconds: Continuous health it must show.
        progress_deadline_seconds: What it has for that since the switch, and again after each reboot.
        deadline_at: When it goes back by itself.
        boots_left: Reboots it may still see.
        check: How the order said to ask for its health.
        healthy: It was locally healthy once and waits for its wave's gate.
        strategy: How the order said to change.
    """

    slot: SlotName
    previous: SlotName | None
    generation: Count
    manifest_sha256: Sha256
    commit_on: CommitOn
    min_ready_seconds: Seconds
    progress_deadline_seconds: Seconds
    deadline_at: float
    check: HealthCheck
    boots_left: Annotated[int, Field(ge=0)] = BOOTS_PER_TRIAL
    healthy: bool = False
    strategy: Strategy = "blue_green"


class Return(_Remembered):
    """A rollback under way.

    Attributes:
        slot: Where it goes.
        error: Why, if the device decided by itself; None if it was ordered.
        patience_seconds: What the old version has to show its health.
        check: Its own way to be asked, at the pace of the order that it is left for.
        deadline_at: When that is over; None before the switch.
        strategy: How the order said to change that is left, or that says to leave.
    """

    slot: SlotName
    error: ErrorReport | None
    patience_seconds: Seconds
    check: HealthCheck
    deadline_at: float | None = None
    strategy: Strategy = "blue_green"


class Refusal(_Remembered):
    """A release that failed here under an order's number and is not taken again under it."""

    generation: Count
    manifest_sha256: Sha256


class MediaOrderTaken(_Remembered):
    """The order at hand came from a medium.

    Attributes:
        number: Of the order.
        sha256: Of its envelope; by that the medium is known again.
        owes: The order of the bus in whose place it was taken was not followed to its end, and is when it comes again.
    """

    number: Count
    sha256: Sha256
    owes: bool = False


class MediaOrderRefused(_Remembered):
    """An order on a medium that was not taken; told once.

    Attributes:
        sha256: Of its envelope.
        number: Of the order; None if it could not be verified.
        code: Why,
        message: and in words.
    """

    sha256: Sha256
    number: Count | None
    code: str
    message: str


class Record(_Remembered):
    """Everything a device remembers. The default is a device that has never run.

    Attributes:
        phase: Where it is.
        boot_id: The boot in which the moments in this record are meant.
        desired: The order it accepted last.
        desired_sha256: Digest of that order's bytes as received; a grant names it.
        marks: What it has seen.
        active: The slot that serves; None before the first install, and when nothing on the device is whole.
        linked: Where the link leads while nothing is active; seen anew by each start, and not remembered.
        blue: What the slot holds; None unless verified.
        green: The same for the other slot.
        previous: The slot with the version that ran before the active one.
        check: How what serves is asked for its health; None for the way it was installed with.
        trial: Set from the grant until commit or return.
        going_back: Set while a rollback is under way.
        media: Set while the order at hand came from a medium; ``desired`` says then what it wants, under the
            generation of the last order that came over the bus, and ``desired_sha256`` is still that order's.
        media_refused: Orders on media that were not taken since the last order from the bus, the last few.
        installed_generation: Number of the order that installed what serves; None after a rollback.
        deferred: The order has yet to be followed, after the change or the trial that is under way.
        refused: The last releases that failed here.
        attempts: Failed attempts at the present step.
        waits: How often a hook has said "later" to the present step.
        consent: Number of the last order to which somebody at the device has agreed.
        held: The fleet's brake was on when the device last heard of it; a session that begins hears of it anew.
        error: Why it is where it is.
        fetched: What the fetch for the order at hand took; None before it.
        reported_seq: Number of the last report.
        session: Number of starts.
    """

    phase: Phase = Phase.IDLE
    boot_id: str = ""
    desired: Desired | None = None
    desired_sha256: Sha256 | None = None
    media: MediaOrderTaken | None = None
    media_refused: Annotated[tuple[MediaOrderRefused, ...], Field(max_length=MEDIA_REFUSALS_KEPT)] = ()
    marks: Marks = Marks()
    active: SlotName | None = None
    linked: Annotated[SlotName | None, Field(exclude=True)] = None
    blue: SlotContent | None = None
    green: SlotContent | None = None
    previous: SlotName | None = None
    check: HealthCheck | None = None
    trial: Trial | None = None
    going_back: Return | None = None
    installed_generation: Count | None = None
    deferred: bool = False
    refused: Annotated[tuple[Refusal, ...], Field(max_length=REFUSALS_KEPT)] = ()
    attempts: Count = 0
    waits: Count = 0
    consent: Count | None = None
    held: Annotated[bool, Field(exclude_if=lambda held: not held)] = False
    error: ErrorReport | None = None
    fetched: Fetched | None = None
    reported_seq: Count = 0
    session: Count = 0

    @property
    def generation(self) -> int:
        """The generation it has observed; 0 before the first."""
        return 0 if self.desired is None else self.desired.generation

    @property
    def order_number(self) -> int:
        """What tells the order at hand from all others on this device: its generation, or its number on a medium."""
        return self.generation if self.media is None else self.media.number

    @property
    def standby(self) -> SlotName:
        """The slot that may be written: never the one that the link leads to, even if it is damaged."""
        return "green" if (self.active or self.linked) == "blue" else "blue"

    @property
    def serving(self) -> SlotContent | None:
        """What serves, and how it is asked for its health."""
        content = self.content(self.active)
        if content is None or self.check is None or self.check == content.health_check:
            return content
        return content.model_copy(update={"health_check": self.check})

    def content(self, slot: SlotName | None) -> SlotContent | None:
        """Return what ``slot`` holds."""
        match slot:
            case "blue":
                return self.blue
            case "green":
                return self.green
            case None:
                return None

    def slot_holding(self, version: str) -> SlotName | None:
        """Return the verified slot that holds ``version``; the active one first."""
        candidates: tuple[SlotName | None, ...] = (self.active, self.standby)
        for slot in candidates:
            content = self.content(slot)
            if content is not None and content.version == version:
                return slot
        return None

    def is_refused(self, generation: int, manifest_sha256: str) -> bool:
        """Say whether that release already failed here under the order with that number."""
        return Refusal(generation=generation, manifest_sha256=manifest_sha256) in self.refused

    def refusing(self, generation: int, manifest_sha256: str) -> tuple[Refusal, ...]:
        """Return the list of refusals with one more, the oldest dropped."""
        refusal = Refusal(generation=generation, manifest_sha256=manifest_sha256)
        return (*(known for known in self.refused if known != refusal), refusal)[-REFUSALS_KEPT:]


def at_pace_of(check: HealthCheck, content: SlotContent | None) -> HealthCheck:
    """Return how to ask ``content`` for its health: where it was installed with, as often as ``check`` says."""
    return check if content is None else check.model_copy(update={"path": content.health_check.path})
