"""Who keeps the healthy devices of a rollout from being updated, in words: what ``min_available`` waits for."""

from typing import Final

import numpy as np

from orchestrator.core.capacity import capacity, is_at_floor, unhealthy_max, unwell, waits_for_health
from orchestrator.core.explanation import Choice
from orchestrator.core.rollout import Phase, Rollout

_NAMED_MAX: Final = 3


def awaited_count(rollout: Rollout) -> int:
    """Count those that are not seen to be healthy and keep healthy devices waiting; 0 while nobody waits for that."""
    return _unwell(rollout)[0] if _is_held_up(rollout) else 0


def floor_reason(rollout: Rollout) -> str | None:
    """Say in one line for whom healthy devices wait; None while they need not wait for anybody's health."""
    if not _is_held_up(rollout):
        return None
    count, names = _unwell(rollout)
    percent = rollout.policy.rolling_update.min_available
    return f"min_available {percent:g}%: healthy devices wait for {count} not seen to be healthy: {', '.join(names)}"


def floor_told(rollout: Rollout) -> str:
    """Say in numbers why too few healthy devices would be left."""
    there, (count, names) = capacity(rollout), _unwell(rollout)
    which = f" ({', '.join(names)})" if names else ""
    needed = there.present - unhealthy_max(rollout, there.present)
    return (
        f"of {there.present} that are present {count} are not seen to be healthy{which}, {there.unavailable} are "
        f"under way or lost, and min_available {rollout.policy.rolling_update.min_available:g}% keeps {needed} healthy"
    )


def floor_choices(rollout: Rollout) -> tuple[Choice, ...]:
    """Return what a person may do about those that are not healthy; nothing where nobody waits for them."""
    _, names = _unwell(rollout)
    if not names or not is_at_floor(rollout, capacity(rollout)):
        return ()
    return (
        Choice(command=f"tidegate health top --rollout {rollout.id}", effect="see who is not healthy, and why"),
        Choice(command=f"tidegate device {names[0]}", effect="see where one of them is"),
        Choice(command=f"tidegate quarantine {names[0]}", effect="take it out of service, so that nobody waits for it"),
    )


def _is_held_up(rollout: Rollout) -> bool:
    return rollout.phase is Phase.DEPLOYING and waits_for_health(rollout)


def _unwell(rollout: Rollout) -> tuple[int, list[str]]:
    """Count those that are not seen to be healthy and name the first in the plan's order; … stands for the others."""
    rows = np.flatnonzero(unwell(rollout)).tolist()
    names = [rollout.members.names[row] for row in rows[:_NAMED_MAX]]
    return len(rows), [*names, *(["…"] if len(rows) > _NAMED_MAX else [])]
