"""Deadlines: devices that did not tell how it ended, and devices that fell silent.

Source:
    Reference, "Wave Configuration" (deploy_timeout_minutes); DECISIONS.md, 19 and 24.
"""

from typing import Final

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Mask, Member, Progress
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State

DEPLOY_TIMEOUT: Final = "deploy_timeout"
"""A device was let go, or could have come so far, and did not say how it ended."""
SILENT: Final = "silent"
"""A device that runs the new version has not been heard for too long."""


def overdue(state: State, rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Fail devices that did not report an outcome in time; those that had not begun are tried again first.

    Who was ordered ahead of the wave is late for nothing.
    """
    members, limits = rollout.members, rollout.policy.rollout.global_
    was_granted = members.was_granted
    began_at = np.where(was_granted, members.column(Member.granted), members.column(Member.ordered_at))
    began_at = np.maximum(began_at, state.heard_again_at)  # While nobody was heard, nobody was late.
    may_be_late = members.where(Member.progress, Progress.ORDERED, Progress.GRANTED, Progress.RETURNING)
    may_be_late &= now - began_at > limits.deploy_timeout_seconds
    if not may_be_late.any():
        return []
    is_idle = members.online & ~members.seen(Device.is_asking).astype(np.bool_) & ~is_asleep(rollout, now)
    is_idle &= ~members.column(Member.is_ahead)
    if rollout.paused:
        is_idle[:] = False
    free_since = np.maximum(members.seen(Device.online_since), members.seen(Device.busy_since))
    late = may_be_late & (was_granted | (is_idle & (now - free_since > limits.deploy_timeout_seconds)))
    events: list[e.AnyEvent] = []
    for name in members.named(late & is_ours(state, rollout)):
        member = members[name]
        if member.progress is Progress.ORDERED and member.attempts < limits.max_retries:
            events.append(retry(rollout, name, DEPLOY_TIMEOUT, now))
        else:
            events += _failed(rollout, name, DEPLOY_TIMEOUT, f"no outcome within {limits.deploy_timeout_seconds:g} s")
    return events


def retry(rollout: Rollout, name: str, code: str, now: float) -> e.DeviceRetried:
    """Try a device again after the policy's pause."""
    limits = rollout.policy.rollout.global_
    attempt = rollout.members[name].attempts + 1
    return e.DeviceRetried(
        rollout=rollout.id,
        device=name,
        code=code,
        attempt=attempt,
        not_before=now + limits.retry_after_seconds,
        by=ORCHESTRATOR,
        reason=f"attempt {attempt + 1} of {limits.max_retries + 1}",
    )


def fallen_silent(state: State, rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Fail deployed devices that were not heard for the policy's deadline, though somebody listened all the time."""
    limit = rollout.policy.rollout.global_.silence_deadline_seconds
    members = rollout.members
    listened_since = max(state.listening_since, state.heard_again_at)  # Before, nobody could be heard.
    silent_at_home = now - np.maximum(state.devices.column(Device.heard_at), listened_since) > limit
    silent_at_home &= ~(state.devices.column(Device.sleeps_until) > now)
    silent = members.there(silent_at_home) & members.where(Member.progress, *DEPLOYED)
    if not silent.any():
        return []
    message = f"not heard for {limit:g} s"
    names = members.named(silent & is_ours(state, rollout))
    return [event for name in names for event in _failed(rollout, name, SILENT, message)]


def is_asleep(rollout: Rollout, now: float) -> Mask:
    """Say which members announced a sleep that is not over: they are not late and not silent."""
    members = rollout.members
    return members.there(members.inventory.column(Device.sleeps_until) > now)


def is_ours(state: State, rollout: Rollout) -> Mask:
    """Say which members hold an order of this rollout; a later one may have them."""
    members = rollout.members
    ours: Mask = state.devices.where(Device.rollout, rollout.id)[members.column(Member.device_row)]
    return ours


def _failed(rollout: Rollout, name: str, code: str, message: str) -> list[e.AnyEvent]:
    member = rollout.members[name]
    failed = e.DeviceFailed(
        rollout=rollout.id, device=name, generation=member.generation, code=code, message=message, version=None
    )
    return [failed, e.DeviceQuarantined(device=name, by=ORCHESTRATOR, reason=code)]
