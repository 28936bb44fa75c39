"""Orders to devices: the events that give them a newer generation.

Source:
    Reference, "Rollback Execution Order"; DECISIONS.md, 6 (what a stop means for devices under way).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.core import events as e
from orchestrator.core.state import DEPLOYED, Member, Progress, Rollout, State
from schemas.messages import Action, CheckResult

DEPLOY_TIMEOUT: Final = "deploy_timeout"
"""The code of a failure that only silence tells of."""


def order(state: State, rollout: Rollout, action: Action, names: Iterable[str], *, after: int = 0) -> list[e.AnyEvent]:
    """Give ``names`` a new generation; nothing for nobody.

    Args:
        state: For the next generation and what the devices run now.
        rollout: In whose name.
        action: What they shall do.
        names: Devices of the rollout.
        after: How many generations were already taken for events of the same decision.
    """
    devices = {name: state.devices[name].version for name in names}
    if not devices:
        return []
    generation = state.generation + 1 + after
    return [
        e.DevicesOrdered(rollout=rollout.id, action=action, generation=generation, epoch=state.epoch, devices=devices)
    ]


def order_hold(state: State, rollout: Rollout, *, after: int = 0) -> list[e.AnyEvent]:
    """Hold every member that was ordered and not granted; those in their trial finish it by the local rule."""
    return order(state, rollout, "hold", rollout.having(Progress.ORDERED), after=after)


def may_run_it(member: Member) -> bool:
    """Say whether a device runs the new version, or might for all that is known."""
    is_lost = member.progress is Progress.FAILED and member.is_lost
    return is_lost or member.progress in DEPLOYED | {Progress.GRANTED}


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
) -> list[e.AnyEvent]:
    """Order ``names`` back to what they ran before, and hold what has not been granted yet.

    A single device is quarantined and the rollout goes on; a wave or the fleet stops the rollout. What is on its way
    back already is not ordered twice. A device that was granted and never told how it ended may run the new version,
    so it is ordered back as well.
    """
    returning = [name for name in names if may_run_it(rollout.members[name])]
    ordered = e.RollbackOrdered(
        rollout=rollout.id,
        scope=scope,
        trigger=trigger,
        action=action,
        by=by,
        reason=reason,
        devices=tuple(returning),
        evidence=evidence,
    )
    back = order(state, rollout, "rollback", returning)
    if scope == "device":
        quarantines = [e.DeviceQuarantined(device=name, by=by, reason=trigger) for name in returning]
        return [ordered, *back, *quarantines] if returning else []
    return [ordered, *back, *order_hold(state, rollout, after=len(back))]


def deployed(state: State, rollout: Rollout) -> dict[str, str]:
    """Return each device that runs the new version for good, with its group: what gates and triggers judge."""
    return {name: state.devices[name].info.group for name in rollout.having(*DEPLOYED)}
