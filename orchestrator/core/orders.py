"""Orders to devices: the events that give them a newer generation.

Source:
    Reference, "Rollback Execution Order"; DECISIONS.md, 6 (what a stop means for devices under way).
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Mask, Member, Progress
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.documents import CheckResult
from schemas.messages import Action

ORCHESTRATOR: Final = e.ORCHESTRATOR


def order(
    state: State, rollout: Rollout, action: Action, names: Iterable[str], *, after: int = 0, ahead: bool = False
) -> list[e.AnyEvent]:
    """Give ``names`` a new generation; nothing for nobody.

    Args:
        state: For the next generation and what the devices run now.
        rollout: In whose name.
        action: What they shall do.
        names: Devices of the rollout.
        after: How many generations were already taken for events of the same decision.
        ahead: Whether their wave is not open.
    """
    names = list(names)
    if not names:
        return []
    versions = state.devices.vocabularies["version"].values
    codes = state.devices.column(Device.version)[state.devices.rows(names)]
    devices = {name: versions[code] for name, code in zip(names, codes, strict=True)}
    generation = state.generation + 1 + after
    return [
        e.DevicesOrdered(
            rollout=rollout.id, action=action, generation=generation, epoch=state.epoch, devices=devices, ahead=ahead
        )
    ]


def order_hold(state: State, rollout: Rollout, *, after: int = 0) -> list[e.AnyEvent]:
    """Hold every member that was ordered and not granted; those in their trial finish it by the local rule.

    Who has a newer rollout's order by now is not ours to hold.
    """
    members = rollout.members
    known = state.devices.vocabularies["rollout"].known((rollout.id,))
    ours: Mask = members.where(Member.progress, Progress.ORDERED) & np.isin(members.seen(Device.rollout), known)
    return order(state, rollout, "hold", members.named(ours), after=after)


def may_run_it(rollout: Rollout) -> Mask:
    """Say for each member whether its device runs the new version, or might for all that is known."""
    members = rollout.members
    is_lost: Mask = members.where(Member.progress, Progress.FAILED) & members.column(Member.is_lost)
    return is_lost | members.where(Member.progress, *DEPLOYED, Progress.GRANTED)


def taken_by(state: State, rollout: Rollout) -> Rollout | None:
    """Return another rollout that has ordered devices which run what this one brought, or might; None if none has.

    Their standby slots are that one's: what they ran before this rollout is no longer there to go back to.
    """
    rollouts = state.devices.vocabularies["rollout"]
    codes = rollout.members.seen(Device.rollout)
    taken = codes[may_run_it(rollout) & ~np.isin(codes, rollouts.known((None, rollout.id)))]
    return state.rollouts[rollouts.values[taken[0]]] if taken.size else None


def order_back(
    state: State,
    rollout: Rollout,
    scope: e.RollbackScope,
    names: Sequence[str],
    *,
    trigger: str,
    action: str,
    by: str,
    reason: str,
    evidence: tuple[CheckResult, ...] = (),
    monitor_seconds: float = 0.0,
) -> list[e.AnyEvent]:
    """Order ``names`` back to what they ran before, and hold what has not been granted yet.

    A single device is quarantined and the rollout goes on; a wave or the fleet stops the rollout. What is on its way
    back already is not ordered twice. A device that was granted and never told how it ended may run the new version,
    so it is ordered back as well.
    """
    rows = rollout.members.rows(names)
    returning = [rollout.members.names[row] for row in rows[may_run_it(rollout)[rows]]]
    ordered = e.RollbackOrdered(
        rollout=rollout.id,
        scope=scope,
        trigger=trigger,
        action=action,
        by=by,
        reason=reason,
        devices=tuple(returning),
        evidence=evidence,
        monitor_seconds=monitor_seconds,
    )
    back = order(state, rollout, "rollback", returning)
    if scope == "device":
        quarantines = [e.DeviceQuarantined(device=name, by=by, reason=trigger) for name in returning]
        return [ordered, *back, *quarantines] if returning else []
    return [ordered, *back, *order_hold(state, rollout, after=len(back))]
