"""How much room a rollout has: who is out of service because of it, and who serves and is seen to be healthy.

Percentages are of the members that are present, and rounding never leaves room for nobody: one device may always be
out of service. The floor of ``min_available`` counts health beside that, so a fleet that is ill waits.

Source:
    Reference, "Configuration Parameters" (max_unavailable, "Max devices being updated at once"; min_available,
    "Minimum healthy devices at all times"); DECISIONS.md, 5 and 86.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from orchestrator.core.members import Mask, Member, Members, Progress
from orchestrator.core.rollout import Rollout
from schemas.conditions import percent_of


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many targets are out of service because of the rollout, and how many serve.

    Attributes:
        in_flight: Granted, and nobody knows yet how it ended: out of service, also when they fall silent.
        unavailable: These, and devices of which nobody knows whether they serve.
        serving: The others that are connected, well or not.
        present: What the floor is a share of: the unavailable, and those that serve and are not in quarantine.
        healthy: Those of them that serve and are not seen to be unwell.
    """

    in_flight: int
    unavailable: int
    serving: int
    present: int
    healthy: int


class _Masks(NamedTuple):
    in_flight: Mask
    unavailable: Mask
    serving: Mask
    counted: Mask
    healthy: Mask


def capacity(rollout: Rollout) -> Capacity:
    """Count the members of a rollout."""
    masks = _masks(rollout.members)
    in_flight, unavailable, serving, counted, healthy = map(int, map(np.count_nonzero, masks))
    return Capacity(in_flight, unavailable, serving, unavailable + counted, healthy)


def unwell(rollout: Rollout) -> Mask:
    """Say which members serve, or should, and keep others waiting because they are not seen to be healthy."""
    masks = _masks(rollout.members)
    return masks.counted & ~masks.healthy


def is_returning(members: Members) -> Mask:
    """Say which members were let go back, and have not said how it ended."""
    return members.where(Member.progress, Progress.RETURNING) & members.was_granted


def unavailable_max(rollout: Rollout, present: int) -> int:
    """Return how many of ``present`` devices may be out of service at once: the stricter limit, and at least 1."""
    by_maximum, _ = percent_of(present, rollout.policy.rolling_update.max_unavailable)
    return max(1, min(by_maximum, unhealthy_max(rollout, present)))


def unhealthy_max(rollout: Rollout, present: int) -> int:
    """Return how many of ``present`` devices may be anything but healthy and serving: what the floor leaves, or 1."""
    _, needed = percent_of(present, rollout.policy.rolling_update.min_available)
    return max(1, present - needed)


def is_at_floor(rollout: Rollout, there: Capacity) -> bool:
    """Say whether no healthy device may be taken out of service: too few would be left."""
    return there.present - there.healthy >= unhealthy_max(rollout, there.present)


def waits_for_health(rollout: Rollout) -> bool:
    """Say whether so many members are unwell that no healthy one may go, also when nobody is under way."""
    if not rollout.members.inventory.unwell.any():
        return False
    there = capacity(rollout)
    return there.present - there.unavailable - there.healthy >= unhealthy_max(rollout, there.present)


def _masks(members: Members) -> _Masks:
    in_flight = members.where(Member.progress, Progress.GRANTED) | is_returning(members)
    lost = members.column(Member.is_lost) | members.where(Member.progress, Progress.STRANDED)
    unavailable = in_flight | lost
    serving = members.online & ~unavailable
    counted = serving & ~members.quarantined
    healthy = counted & ~members.unwell
    return _Masks(in_flight, unavailable, serving, counted, healthy)
