"""Staging: members of all waves fetch and install ahead, and nothing that serves is replaced.

    staging -> activated, by a person or at the policy's time -> the canary, and everything else as ever

A device installs into standby and then asks; as long as its wave is not open it is told to wait. When its wave opens it
is ordered once more, so that it asks at once, and only from then on does its deadline count. Until then a device that
is slow, away or not there at all is late for nothing.

Source:
    Reference, "Deployment Artifact Management"; DECISIONS.md, 77.
"""

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.members import Mask, Member, Progress
from orchestrator.core.orders import ORCHESTRATOR, order
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State


def is_due(rollout: Rollout, now: float) -> Mask:
    """Say which members have no order and may be given one, as far as their wave allows it."""
    members = rollout.members
    due: Mask = members.where(Member.progress, Progress.PENDING, Progress.HELD)
    return due & (members.column(Member.retry_at) <= now)


def order_ahead(state: State, rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Let members whose wave is not open fetch and install, in the plan's order and within the policy's limit.

    With a limit only those that are connected are ordered; each that has it verified, or goes away, makes room.
    """
    policy = rollout.policy.distribution
    if not policy.stages:
        return []
    members = rollout.members
    is_early = members.column(Member.wave) > rollout.open_wave
    due = is_due(rollout, now) & is_early & ~members.quarantined
    limit = policy.max_parallel_downloads
    if limit is None:
        return order(state, rollout, "install", members.named(due), ahead=True)
    fetching = members.where(Member.progress, Progress.ORDERED) & is_early & members.online & ~members.staged
    rows = np.flatnonzero(due & members.online)[: max(0, limit - int(fetching.sum()))]
    return order(state, rollout, "install", [members.names[row] for row in rows.tolist()], ahead=True)


def activate(rollout: Rollout, *, by: str, reason: str) -> list[e.AnyEvent]:
    """Let a staged rollout begin with its canary."""
    return [e.RolloutActivated(rollout=rollout.id, by=by, reason=reason), e.WaveStarted(rollout=rollout.id, wave=0)]


def activate_when_due(rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Let a staged rollout begin once the moment has come that its policy names."""
    moment = rollout.policy.distribution.activates_at
    if rollout.phase is not Phase.STAGING or moment is None or now < moment:
        return []
    return activate(rollout, by=ORCHESTRATOR, reason=f"activated from {rollout.policy.distribution.activate} on")
