"""What is sent, whoever receives it: one schema, version 1. Fields may be added and are never repurposed."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.documents import GateResult, StatusDocument, WaveStatus
from schemas.ids import Id, Name, Sha256
from schemas.messages import Labels, Message, Text
from schemas.times import Timestamp

SCHEMA: Final = "tidegate.notification/1"
DEVICES_SHOWN_MAX: Final = 20


class Trigger(StrEnum):
    """What somebody may want to be told; configured by these names."""

    STARTED = "on-started"
    WAVE_COMPLETED = "on-wave-completed"
    AWAITING_APPROVAL = "on-awaiting-approval"
    CAUTION = "on-caution"
    BLOCKED = "on-blocked"
    HALTED = "on-halted"
    ROLLED_BACK = "on-rolled-back"
    COMPLETED = "on-completed"
    ABORTED = "on-aborted"
    DEVICE_QUARANTINED = "on-device-quarantined"
    BRAKE = "on-brake"
    FLEET_FROZEN = "on-fleet-frozen"


MEANINGS: Final[Mapping[Trigger, str]] = {
    Trigger.STARTED: "a rollout was started",
    Trigger.WAVE_COMPLETED: "a wave, or the canary, passed its gate and the rollout goes on or is complete",
    Trigger.AWAITING_APPROVAL: "a rollout waits for somebody's approval",
    Trigger.CAUTION: "a gate, or the canary's watch, saw what is not good enough to go on with; nothing is stopped",
    Trigger.BLOCKED: "healthy devices have waited a quarter of an hour for others to be healthy (`min_available`)",
    Trigger.HALTED: "a rollout has halted by itself and waits for a person",
    Trigger.ROLLED_BACK: "devices are being brought back (`phase` `rolling_back`); again once they are (`rolled_back`)",
    Trigger.COMPLETED: "a rollout reached all that it should",
    Trigger.ABORTED: "a person ended a rollout, or a newer one took its devices (`phase` is `superseded`)",
    Trigger.DEVICE_QUARANTINED: "devices are kept out of all waves; those of two seconds in one message",
    Trigger.BRAKE: "somebody pulled the emergency brake: no device activates an install",
    Trigger.FLEET_FROZEN: "the orchestrator suspects itself or the broker and decides nothing",
}
WAITING: Final = frozenset(
    {Trigger.AWAITING_APPROVAL, Trigger.BLOCKED, Trigger.HALTED, Trigger.BRAKE, Trigger.FLEET_FROZEN}
)
"""What still waits for somebody when it is found; the others are news only when they happen."""


class RolloutFacts(Message):
    """Where the rollout was when the notification was made."""

    rollout: Id
    release: Name
    version: Name
    phase: Id
    wave: Id | None
    plan_digest: Sha256 | None
    started_by: Id
    counts: Mapping[str, int]
    reasons: Labels
    waves: Annotated[tuple[WaveStatus, ...], Field(strict=False)]


class Notification(Message):
    """One thing that somebody should know.

    Attributes:
        version: Of this schema, in ``schema`` on the wire.
        id: The same however often it is sent, and whoever of two listeners noticed it.
        confirm: An answer is awaited: ``{"decision": "go"|"stop"|"wait", "reason": …}``.
        at: When it happened, as the orchestrator says; where it does not, when it was noticed.
        title: One line.
        text: What and why, some lines; safe to show as plain text.
        next: What a person may type next, the most useful first.
        gates: The last verdict after each wave, with the numbers.
        devices: Whom it is about, the first of them.
        device_count: How many those are in all.
    """

    version: Literal["tidegate.notification/1"] = Field(default=SCHEMA, alias="schema")
    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    trigger: Trigger | Literal["test"]
    confirm: bool = False
    at: Timestamp
    title: Annotated[str, Field(max_length=256)]
    text: Annotated[str, Field(max_length=4096)]
    next: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    rollout: RolloutFacts | None = None
    gates: Annotated[Mapping[Id, GateResult], Field(max_length=256)] = {}
    devices: Labels = ()
    device_count: int = 0


def identity(trigger: str, *parts: str) -> str:
    """Return the id of what happened: the same parts, the same id."""
    return hashlib.sha256("\0".join((trigger, *parts)).encode()).hexdigest()[:32]


def facts_of(status: StatusDocument) -> RolloutFacts:
    """Return of a status what whoever receives notifications needs."""
    return RolloutFacts(
        rollout=status.rollout,
        release=status.release,
        version=status.version,
        phase=status.phase,
        wave=status.wave,
        plan_digest=status.plan_digest,
        started_by=status.started_by,
        counts=status.counts,
        reasons=status.reasons,
        waves=status.waves,
    )


def to_wire(notification: Notification) -> bytes:
    """Encode it: JSON in UTF-8, the same bytes for the same value."""
    return notification.model_dump_json(by_alias=True).encode()
