"""A device as a value, and the few moves that every rule is made of.

``move`` is the only way to another phase and ``note`` the only way to other durable contents; both persist first and
report after.
"""

from dataclasses import dataclass, field, replace
from typing import Final
from zlib import crc32

from device_client.core.effects import Effect, EventKind, Persist, PublishEvent, PublishReported
from device_client.core.events import Step
from device_client.core.grant import Question
from device_client.core.machine import IN_PROGRESS, Phase, Signal, follow
from device_client.core.probe import Health
from device_client.core.record import Record
from device_client.core.setup import BARE, Setup
from schemas.messages import DeviceEvent, ErrorReport, MediaRefusal, MediaReport, Reported
from schemas.trust import Root


@dataclass(frozen=True, slots=True)
class Device:
    """What a device knows: what it remembers through a power cut, and what it may forget.

    Attributes:
        id: Its id; seeds its jitter.
        record: What it remembers; as of the last ``Persist``.
        setup: How it is equipped.
        connected: A session with the broker is up.
        hold: The fleet's brake is on, as this session has heard.
        root: The trust root in force; None if the settings name the keys.
        question: What it asked and has no answer to.
        ask_at: When it asks (again); None if there is nothing to ask or the nonce is being drawn.
        server_ahead_seconds: By how much the clock of who grants is ahead of the boot clock; None before a grant.
        asked_count: Questions without an answer in a row.
        step: The step under way.
        walk: The steps of the change that come after it.
        ticket: Number of the last step.
        retry_at: When a failed step is tried again.
        health: What the probes of the application say.
        exits: When it ended by itself, the last few.
        away_since: Since when there is no session with the broker; None while there is one.
        media_seen: Digests of the orders that were on media at the last look.
        media_told: What was said last about an order that waits.
        report_at: When a sync is answered.
        percentage: How far the download is.
    """

    id: str
    record: Record = field(default_factory=Record)
    setup: Setup = BARE
    connected: bool = False
    hold: bool = False
    root: Root | None = None
    question: Question | None = None
    ask_at: float | None = None
    server_ahead_seconds: float | None = None
    asked_count: int = 0
    step: Step | None = None
    walk: tuple[Step, ...] = ()
    ticket: int = 0
    retry_at: float | None = None
    health: Health = field(default_factory=Health)
    exits: tuple[float, ...] = ()
    away_since: float | None = None
    media_seen: frozenset[str] = frozenset()
    media_told: tuple[str, str] | None = None
    report_at: float | None = None
    percentage: float | None = None

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self.record.phase


Outcome = tuple[Device, tuple[Effect, ...]]
"""The device after something happened, and what its shell shall do, in order."""

NOTHING: Final[tuple[Effect, ...]] = ()


def move(device: Device, signal: Signal, **changes: object) -> Outcome:
    """Follow ``signal`` and change the record in the same write.

    Raises:
        IllegalTransitionError: Our own fault.
    """
    return note(device, **{**changes, "phase": follow(device.phase, signal)})


def note(device: Device, **changes: object) -> Outcome:
    """Change the record, make it durable, then report."""
    changes["reported_seq"] = device.record.reported_seq + 1
    device = replace(device, record=device.record.model_copy(update=changes))
    return device, (Persist(device.record), PublishReported(report(device)))


def keep(device: Device, **changes: object) -> Outcome:
    """Change the record and make it durable; there is nothing to tell anybody."""
    device = replace(device, record=device.record.model_copy(update=changes))
    return device, (Persist(device.record),)


def begin(device: Device, step: Step, walk: tuple[Step, ...] = ()) -> Device:
    """Start a step, which ends whatever walk was under way; only an answer with the new ticket will be heard."""
    return replace(device, step=step, walk=walk, ticket=device.ticket + 1, retry_at=None)


def report(device: Device) -> Reported:
    """Say where the device is, as the wire wants it."""
    record = device.record
    serving, before = record.serving, record.content(record.previous)
    return Reported(
        observed_generation=record.generation,
        seq=record.reported_seq,
        state=record.phase.value,
        installed_version=serving.version if serving else None,
        latest_version=record.desired.version if record.desired else None,
        in_progress=record.phase in IN_PROGRESS,
        update_percentage=device.percentage if record.phase is Phase.DOWNLOADING else None,
        slot=record.active,
        previous_version=before.version if before else None,
        boot_id=record.boot_id or "unknown",
        error=record.error,
        fetched=record.fetched,
        media=_media_report(record),
        traceparent=record.desired.traceparent if record.desired else None,
    )


def _media_report(record: Record) -> MediaReport | None:
    if record.media is None and not record.media_refused:
        return None
    last = record.media_refused[-1] if record.media_refused else None
    return MediaReport(
        order=record.media.number if record.media is not None else None,
        refused=None if last is None else MediaRefusal(order=last.number, code=last.code, message=last.message),
    )


def tell(device: Device, kind: EventKind, message: str, error: ErrorReport | None = None) -> PublishEvent:
    """Return the event ``kind`` about what serves now."""
    record = device.record
    serving = record.serving
    event = DeviceEvent(
        generation=record.generation,
        version=serving.version if serving else None,
        slot=record.active,
        message=message,
        error=error,
    )
    return PublishEvent(kind, event)


def spread(device: Device, salt: int) -> float:
    """Return 0..1, the same for the same device and salt, so that a fleet does not act in step."""
    return crc32(f"{device.id}:{salt}".encode()) / 2**32
