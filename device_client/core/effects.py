"""What the shell shall do, in this order: a closed union of frozen values.

Effects with a ``ticket`` are steps: the shell answers each with ``StepSucceeded`` or ``StepFailed`` and the same
ticket. Doing an effect twice is harmless.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from device_client.core.grant import GrantRefusal
from device_client.core.record import Record
from schemas.messages import ArtifactRef, DeviceEvent, HealthCheck, ManifestRef, Ready, Reported, SlotName
from schemas.messages import Step as GrantedStep


class EventKind(StrEnum):
    """The kinds of ``device/{device}/event/{kind}``."""

    SLOT_SWITCHED = "slot_switched"
    ROLLED_BACK = "rolled_back"
    CRASH = "crash"
    INTEGRITY_FAILED = "integrity_failed"
    THERMAL_THROTTLE = "thermal_throttle"


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
    """

    manifest: ManifestRef
    artifact: ArtifactRef
    release: str
    version: str
    release_counter_min: int
    serving_version: str | None = None


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
    """Stop what serves and see that it is gone."""

    ticket: int


@dataclass(frozen=True, slots=True)
class SwitchSlot:
    """Let the slot be the active one, atomically and durably."""

    ticket: int
    slot: SlotName


@dataclass(frozen=True, slots=True)
class StartApplication:
    """Run and supervise the slot's application; it may already run."""

    ticket: int
    slot: SlotName


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
    | CancelStep
    | ClearStaging
    | DrawNonce
    | PublishReported
    | PublishReady
    | PublishInfo
    | PublishEvent
    | PublishAvailability
    | LogRefusal
)
