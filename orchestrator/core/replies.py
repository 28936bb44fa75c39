"""Answers to devices and people that are not documents: grants, waits, refused commands."""

import hashlib
from typing import Final
from zlib import crc32

from orchestrator.core.documents import desired_bytes
from orchestrator.core.events import CommandAnswered, GrantIssued
from orchestrator.core.grants import Wait, WaitReason
from orchestrator.core.inputs import CommandRefused
from orchestrator.core.inventory import Device
from orchestrator.core.members import Member, Progress
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.documents import Reply
from schemas.messages import Grant, Ready
from schemas.times import format_timestamp

GRANT_TTL_SECONDS: Final = 120.0
"""A device uses a grant only while its own question is younger than this."""

RETRY_SECONDS_MAX: Final = 3600.0
"""However long it must wait, a device asks so often: what it waits for may change."""

QUESTIONS_PER_SECOND: Final = 200
"""How often the devices of a rollout that wait are to ask, all together."""

_UNTIL_ORDERED: Final = frozenset({WaitReason.NOT_ACTIVATED, WaitReason.WAVE_NOT_OPEN})
"""What a newer order ends, which makes the device ask at once."""

_UNDER_WAY: Final = (Progress.ORDERED, Progress.GRANTED, Progress.PROVEN, Progress.RETURNING)
"""Where members are that may ask."""


def make_grant(state: State, device: Device, ready: Ready, issued: GrantIssued, now: float) -> Grant:
    """Write the go that ``issued`` records."""
    return _answer(state, device, ready, issued.seq, now).model_copy(update={"decision": "go"})


def make_wait(state: State, device: Device, ready: Ready, wait: Wait, now: float) -> Grant:
    """Write a refusal; it changes nothing on the device but when it asks again."""
    assert device.rollout is not None, "only an ordered device is answered"
    retry, spread_seconds = pause(state.rollouts[device.rollout], wait)
    share = crc32(f"{device.id}:{state.grant_seq}".encode()) / 2**32
    retry = min(retry + round(share * spread_seconds, 1), RETRY_SECONDS_MAX)
    update = {"retry_after_seconds": retry, "reason": wait.reason.value}
    return _answer(state, device, ready, state.grant_seq, now).model_copy(update=update)


def pause(rollout: Rollout, wait: Wait) -> tuple[float, float]:
    """Return how long a device that is refused waits at least before it asks again, and how much longer at most.

    The more of a rollout's devices are under way, the longer it takes, never in step, so that together they ask as
    often as can be answered: a question that is asked again before its answer came was answered for nothing.
    """
    retry = rollout.policy.rolling_update.health_check.interval_seconds
    if wait.seconds is not None:
        retry = max(retry, wait.seconds)
    if wait.reason in _UNTIL_ORDERED:
        retry = RETRY_SECONDS_MAX
    members = rollout.members
    asking = members.where(Member.progress, *_UNDER_WAY) & members.online
    return retry, int(asking.sum()) / QUESTIONS_PER_SECOND


def _answer(state: State, device: Device, ready: Ready, seq: int, now: float) -> Grant:
    return Grant(
        device=device.id,
        generation=ready.generation,
        step=ready.step,
        epoch=state.epoch,
        seq=seq,
        nonce=ready.nonce,
        decision="wait",
        desired_sha256=hashlib.sha256(desired_bytes(state, device)).hexdigest(),
        ttl_seconds=GRANT_TTL_SECONDS,
        server_time=format_timestamp(now),
    )


def refused_command(given: CommandRefused) -> tuple[Reply, CommandAnswered]:
    """Answer a command that is none, and note that it was refused."""
    event = CommandAnswered(
        actor=given.actor,
        verb=given.verb,
        subject="",
        status="error",
        code=given.error.code,
        reason=given.error.message[:200],
        transaction=None,
    )
    return Reply(status="error", error=given.error), event
