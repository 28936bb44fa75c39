"""What the shell shall do, in this order: a closed union of frozen values.

Effects with a ``ticket`` are steps: the shell answers each with ``StepSucceeded`` or ``StepFailed`` and the same
ticket. Doing an effect twice is harmless.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from device_client.core.events import Step
from device_client.core.grant import GrantRefusal
from device_client.core.record import MediaOrderTaken, Record
from schemas.messages import ArtifactRef, DeviceEvent, HealthCheck, ManifestRef, Ready, Reported, SlotName
from schemas.messages import Step as GrantedStep


class EventKind(StrEnum):
    """The kinds of ``device/{device}/event/{kind}``."""

    SLOT_SWITCHED = "slot_switched"
    ROLLED_BACK = "rolled_back"
    CRASH = "crash"
    INTEGRITY_FAILED = "integrity_failed"
    THERMAL_THROTTLE = "thermal_throttle"
    HOOK_FAILED = "hook_failed"
    PEER_DISTRUSTED = "peer_distrusted"


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the record durable; nothing after it may happen before that."""

    record: Record


@dataclass(frozen=True, slots=True)
class Source:
    """What to install, as ordered, and what it must prove.

    Attributes:
        manifest: Where the signed manifest is.
        artifact: Where the archive is.
        release: The release it must be.
        version: The version it must be.
        release_counter_min: The lowest release counter that is no downgrade.
        serving_version: What it would replace; None if nothing serves.
        media: The order on a medium where all of it lies; None if servers have it.
    """

    manifest: ManifestRef
    artifact: ArtifactRef
    release: str
    version: str
    release_counter_min: int
    serving_version: str | None = None
    media: MediaOrderTaken | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring manifest and archive to this device, whole or resumed."""

    ticket: int
    source: Source


@dataclass(frozen=True, slots=True)
class Verify:
    """Check everything about what was fetched, from the files as they are on disk."""

    ticket: int
    source: Source


@dataclass(frozen=True, slots=True)
class Install:
    """Unpack what was verified into a slot that does not serve and leave its marker there."""

    ticket: int
    source: Source
    slot: SlotName
    health_check: HealthCheck


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """Start the slot's application on the internal port, ask for its health and stop it."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class CheckSlot:
    """Read the slot again and compare it with its marker."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class StopApplication:
    """Stop every application but that of ``keep``, and see that they are gone."""

    ticket: int
    keep: SlotName | None = None


@dataclass(frozen=True, slots=True)
class SwitchSlot:
    """Let the slot be the active one, atomically and durably.

    ``must_succeed``: what follows takes it for done; it undoes a switch that failed, or takes up after a power cut what
    is whole. A shell that cannot do it ends before that; the next start judges by the link.
    """

    ticket: int
    slot: SlotName
    must_succeed: bool = False


@dataclass(frozen=True, slots=True)
class StartApplication:
    """Run and supervise the slot's application; it may already run."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Restart:
    """End the agent: the next one reads all that is on disk before it runs anything. Effects after it are not done."""

    reason: str


@dataclass(frozen=True, slots=True)
class AwaitAnswer:
    """Wait until the slot's application answers on its own port as the version that it is."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Route:
    """Let the router lead to the slot, and see that the public port answers with its version.

    It is answered, and after a failure tried again until it succeeds, which is answered too, or another is ordered.
    """

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask the slot's application to take no new work, and wait, not for ever, until it has finished what it began."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run the operator's own command for a step.

    Attributes:
        ticket: Of the step.
        hook: Which one.
        generation: The order at hand.
        slot: Where the change leads or has led.
        version: What is there; what will be there, before an install.
        previous_slot: The other slot.
        previous_version: What is there; None if nothing is.
    """

    ticket: int
    hook: Step
    generation: int
    slot: SlotName
    version: str | None
    previous_slot: SlotName
    previous_version: str | None


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Nobody waits for the step under way any more."""


@dataclass(frozen=True, slots=True)
class ClearStaging:
    """Free what was fetched."""


@dataclass(frozen=True, slots=True)
class DrawNonce:
    """Draw 16 or more random bytes for a question about ``step``; answered by ``NonceDrawn``."""

    step: GrantedStep


@dataclass(frozen=True, slots=True)
class PublishReported:
    """Say where the device is."""

    reported: Reported


@dataclass(frozen=True, slots=True)
class PublishReady:
    """Ask whether a step may be taken."""

    ready: Ready


@dataclass(frozen=True, slots=True)
class PublishInfo:
    """Introduce the device; ``version`` is what serves."""

    session: int
    version: str | None


@dataclass(frozen=True, slots=True)
class PublishEvent:
    """Tell what happened."""

    kind: EventKind
    event: DeviceEvent


@dataclass(frozen=True, slots=True)
class PublishAvailability:
    """Say whether the device is reachable."""

    text: Literal["online", "offline"]


@dataclass(frozen=True, slots=True)
class LogRefusal:
    """A grant was not accepted, for this reason; nothing has changed."""

    reason: GrantRefusal


@dataclass(frozen=True, slots=True)
class LogMedia:
    """Say once why an order on a medium is not followed.

    Attributes:
        order: Its number; None if it could not be verified.
        code: An error's code if it is refused, else what it waits for.
        message: For people.
        is_refused: It is not looked at again; else it waits.
    """

    order: int | None
    code: str
    message: str
    is_refused: bool


Effect = (
    Persist
    | Fetch
    | Verify
    | Install
    | SmokeTest
    | CheckSlot
    | StopApplication
    | SwitchSlot
    | StartApplication
    | Restart
    | AwaitAnswer
    | Route
    | Drain
    | RunHook
    | CancelStep
    | ClearStaging
    | DrawNonce
    | PublishReported
    | PublishReady
    | PublishInfo
    | PublishEvent
    | PublishAvailability
    | LogRefusal
    | LogMedia
)
