"""Which grants a device accepts.

Source:
    RFC 4949 on replay and freshness: the nonce is the device's own, so its age needs no shared clock. The rules are
    the wire contract's, in the order in which they are checked.
"""

from dataclasses import dataclass
from enum import StrEnum

from device_client.core.record import Marks
from schemas.messages import Grant, Step


class GrantRefusal(StrEnum):
    """Why a grant changes nothing."""

    WRONG_DEVICE = "wrong_device"
    NOT_ASKED = "not_asked"
    WRONG_NONCE = "wrong_nonce"
    WRONG_STEP = "wrong_step"
    STALE_EPOCH = "stale_epoch"
    REPEATED_SEQ = "repeated_seq"
    WRONG_GENERATION = "wrong_generation"
    TOO_OLD = "too_old"
    OTHER_ORDER = "other_order"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Question:
    """The one question that may still be answered."""

    step: Step
    nonce: str
    asked_at: float


def judge_grant(
    grant: Grant,
    *,
    device: str,
    question: Question | None,
    marks: Marks,
    generation: int,
    desired_sha256: str | None,
    busy: bool,
    now: float,
) -> GrantRefusal | None:
    """Return why ``grant`` is not accepted, or None if it is.

    Args:
        grant: Its signature is already verified.
        device: Our id.
        question: What we asked and have no answer to.
        marks: What was accepted before; made durable before an accepted grant is acted upon.
        generation: Of the order at hand.
        desired_sha256: Of that order's bytes as received.
        busy: A change is under way.
        now: Seconds on the clock on which the question was asked.
    """
    if grant.device != device:
        return GrantRefusal.WRONG_DEVICE
    if question is None:
        return GrantRefusal.NOT_ASKED
    if grant.nonce != question.nonce:
        return GrantRefusal.WRONG_NONCE
    if grant.step != question.step:
        return GrantRefusal.WRONG_STEP
    if grant.epoch < marks.epoch:
        return GrantRefusal.STALE_EPOCH
    if grant.epoch == marks.epoch and grant.seq <= marks.seq:
        return GrantRefusal.REPEATED_SEQ
    if grant.generation != generation or generation < marks.generation:
        return GrantRefusal.WRONG_GENERATION
    if now - question.asked_at > grant.ttl_seconds:
        return GrantRefusal.TOO_OLD
    if grant.desired_sha256 != desired_sha256:
        return GrantRefusal.OTHER_ORDER
    return GrantRefusal.BUSY if busy else None
