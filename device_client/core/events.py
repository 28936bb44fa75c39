"""What a device observes: a closed union of frozen facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from device_client.core.codes import ErrorCode
from device_client.core.record import Record, SlotContent
from schemas.media import MediaOrder
from schemas.messages import Desired, Fetched, Grant, SlotName
from schemas.messages import Step as GrantedStep
from schemas.trust import Root


class Step(StrEnum):
    """Work that the shell does and answers."""

    FETCH = "fetch"
    VERIFY = "verify"
    INSTALL = "install"
    SMOKE_TEST = "smoke_test"
    CHECK = "check"
    DRAIN = "drain"
    STOP = "stop"
    SWITCH = "switch"
    START = "start"
    ANSWER = "answer"
    ROUTE = "route"
    BEFORE_INSTALL = "before_install"
    BEFORE_SWITCH = "before_switch"
    AFTER_SWITCH = "after_switch"
    BEFORE_ROLLBACK = "before_rollback"
    AFTER_COMMIT = "after_commit"


HOOKS: Final = frozenset(
    {Step.BEFORE_INSTALL, Step.BEFORE_SWITCH, Step.AFTER_SWITCH, Step.BEFORE_ROLLBACK, Step.AFTER_COMMIT}
)
"""Steps that are the operator's own commands."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a guardian did about a trial while there was no agent.

    Attributes:
        generation: Of the trial.
        manifest_sha256: The release on trial.
        slot: What it let serve.
        code: Why.
        message: Why, for people.
    """

    generation: int
    manifest_sha256: str
    slot: SlotName
    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a start finds on the device, whatever the record says.

    Attributes:
        boot_id: Of this boot.
        active: Where the ``active`` link points; None if it is missing or points elsewhere.
        verified: What the slots hold whose marker matches their files.
        running: The slot whose application still runs, left by an agent that was killed.
        restoration: The last one; about a trial that may be over for long.
        root: The newest trust root; None if the settings name the keys.
    """

    boot_id: str
    active: SlotName | None = None
    verified: Mapping[SlotName, SlotContent] = field(default_factory=dict)
    running: SlotName | None = None
    restoration: Restoration | None = None
    root: Root | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The agent starts with what it remembered and what it finds."""

    record: Record
    facts: Facts


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has accepted the session and the subscriptions."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is lost."""


@dataclass(frozen=True, slots=True)
class DesiredReceived:
    """An order arrived; ``sha256`` is that of its bytes. A cleared retained order is no event."""

    desired: Desired
    sha256: str


@dataclass(frozen=True, slots=True)
class GrantReceived:
    """A grant arrived and its signature is that of a command key."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class HoldReceived:
    """The fleet's brake is on."""


@dataclass(frozen=True, slots=True)
class HoldCleared:
    """The fleet's brake is off."""


@dataclass(frozen=True, slots=True)
class RootChanged:
    """A newer trust root is in force; it was verified."""

    root: Root


@dataclass(frozen=True, slots=True)
class SyncReceived:
    """Everybody shall report again within ``spread_seconds``."""

    spread_seconds: float


@dataclass(frozen=True, slots=True)
class AvailabilityEchoed:
    """The broker shows this text as our availability."""

    text: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """The download has come this far, 0..100."""

    percentage: float


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """The step with this ticket is done.

    Attributes:
        step: Which one.
        ticket: Of it.
        content: What an install put into the slot.
        fetched: What a fetch took.
    """

    step: Step
    ticket: int
    content: SlotContent | None = None
    fetched: Fetched | None = None


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step with this ticket failed."""

    step: Step
    ticket: int
    code: ErrorCode
    message: str
    retryable: bool = False
    wait_seconds: float | None = None
    """How long it has to wait for what it lacks; None where that is not known."""


@dataclass(frozen=True, slots=True)
class NonceDrawn:
    """Fresh random bytes for a question, in hex.

    Attributes:
        nonce: They.
        step: What the question is about.
        clock: What the device's clock shows, in seconds since the epoch; it may be wrong.
    """

    nonce: str
    step: GrantedStep
    clock: float | None = None


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """Somebody at the device agrees to the order with this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Probed:
    """The application was asked for its health.

    Attributes:
        ok: It answered 200 and says it is well.
        version: What it says it is; None if it did not say.
    """

    ok: bool
    version: str | None = None


@dataclass(frozen=True, slots=True)
class ApplicationExited:
    """The application ended without being told to; the shell starts it again by itself."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """Heat or voltage slowed the processor down.

    Attributes:
        count: How often since the last time.
        celsius: How hot it is; None if nobody knows.
    """

    count: int
    celsius: float | None


@dataclass(frozen=True, slots=True)
class PeerDistrusted:
    """Another device of the site gave other bytes than it was asked for; it is not asked any more.

    Attributes:
        url: Where it is.
        reason: What was wrong with what it gave.
    """

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class MediaOrderFound:
    """An order on a medium that a command key has signed.

    Attributes:
        order: It.
        sha256: Of its envelope.
    """

    order: MediaOrder
    sha256: str


@dataclass(frozen=True, slots=True)
class MediaSeen:
    """Somebody looked at the media.

    Attributes:
        found: The orders there; none if there is no medium.
        clock: What the device's clock shows, in seconds since the epoch; it may be wrong.
    """

    found: tuple[MediaOrderFound, ...]
    clock: float


@dataclass(frozen=True, slots=True)
class MediaRejected:
    """Something on a medium is no order of this fleet.

    Attributes:
        sha256: Of its bytes, or of its name where they cannot be read.
        code: Why.
        message: Why, for people; names the place.
    """

    sha256: str
    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    Started
    | Connected
    | Disconnected
    | DesiredReceived
    | GrantReceived
    | HoldReceived
    | HoldCleared
    | RootChanged
    | SyncReceived
    | AvailabilityEchoed
    | Progressed
    | StepSucceeded
    | StepFailed
    | NonceDrawn
    | ConsentGiven
    | Probed
    | ApplicationExited
    | Throttled
    | PeerDistrusted
    | MediaSeen
    | MediaRejected
    | Tick
)
