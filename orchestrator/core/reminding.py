"""Whom to ask: devices under way that have not said for long how far they are.

A device says each thing once, and a broker that has too much to hand on drops what it likes. So before somebody is late
its order is written again: a device that has the order already answers with its state, and changes nothing.

Source:
    DECISIONS.md, 82.
"""

from typing import Final

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.members import Member, Progress
from orchestrator.core.overdue import is_asleep, is_ours
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State

_SHARE: Final = 0.4
"""Of its time; so a device is asked twice before it is late."""


def unheard(state: State, rollout: Rollout, now: float) -> list[str]:
    """Name the members, let go or on their way back, that are there and have not spoken of it for a part of their time.

    Who was asked counts as if it had spoken, see ``observe``. Samples show that a device is there as well as its
    presence does, which may have been lost in the same way.
    """
    members, devices = rollout.members, state.devices
    under_way = members.where(Member.progress, Progress.GRANTED, Progress.RETURNING)
    if not under_way.any():
        return []
    patience = _SHARE * rollout.policy.rollout.global_.deploy_timeout_seconds
    since = np.maximum(devices.column(Device.said_at), devices.column(Device.online_since))
    is_due = now - np.maximum(since, state.listening_since) > patience
    is_there = devices.column(Device.is_online) | (now - devices.column(Device.heard_at) < patience)
    late = under_way & members.there(is_due & is_there)
    if not late.any():
        return []
    return members.named(late & ~is_asleep(rollout, now) & is_ours(state, rollout))
