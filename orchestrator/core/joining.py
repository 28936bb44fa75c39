"""Devices that appear while a rollout runs: they follow at the end of its last wave and skip no gate.

Source:
    DECISIONS.md, 25.
"""

from typing import Final

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.members import Member
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.targets import NOT_ANNOUNCED, exclusions

_JOINABLE: Final = frozenset(
    {Phase.STAGING, Phase.DEPLOYING, Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.AWAITING_DEVICES}
)


def decide_joined(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Let devices join that had not announced themselves when ``rollout`` was planned and that it is for.

    A rollout that is nothing but a canary takes nobody: its wave was chosen.
    """
    if len(rollout.plan.waves) == 1 or rollout.phase not in _JOINABLE or rollout.paused:
        return []
    devices = state.devices
    is_new = np.zeros(len(devices), dtype=np.bool_)
    is_new[rollout.known_devices :] = True
    awaited = rollout.plan.excluded.get(NOT_ANNOUNCED, ())
    is_new[devices.rows(awaited)] = True
    is_new[rollout.members.column(Member.device_row)] = False
    is_new &= ~devices.where(Device.said, None)
    if not is_new.any():
        return []
    is_new &= exclusions(state, rollout.release, rollout.policy).codes == 0
    names = devices.named(is_new)
    return [e.DevicesJoined(rollout=rollout.id, devices=tuple(names))] if names else []
