"""What is done about a journal that was put back from a backup: it is not believed, and nothing goes on by itself.

Devices may have had orders, been brought back or been stopped since. So every order that the journal knows of is given
again under a generation above all that were ever given, devices answer with what they run now, and the rollouts that
were active wait for a person, who knows why the backup was needed.

Source:
    DECISIONS.md, 60.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.members import Mask, Member, Progress
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from schemas.messages import Action

_AGAIN: Final[dict[Action, tuple[Progress, ...]]] = {
    "install": (Progress.ORDERED, Progress.GRANTED, Progress.PROVEN, Progress.COMMITTED),
    "rollback": (Progress.RETURNING, Progress.STRANDED),
    "hold": (Progress.HELD,),
}


def number_above(now: float) -> int:
    """Return an epoch or a generation above all that were ever given: of neither was there one each second."""
    return int(now)


def decide_restored(state: State, reason: str) -> list[e.AnyEvent]:
    """Pause what was active, and give its orders again, so that devices say what they run now."""
    paused: list[e.AnyEvent] = [
        e.RolloutPaused(rollout=each.id, by=ORCHESTRATOR, reason=reason)
        for each in state.active
        if not each.paused and each.phase not in {Phase.ROLLING_BACK, Phase.HALTED}
    ]
    ordered: list[e.AnyEvent] = []
    for rollout in state.active:
        members = rollout.members
        is_ahead = members.where(Member.progress, Progress.ORDERED) & members.column(Member.is_ahead)
        for action, progress in _AGAIN.items():
            due = members.where(Member.progress, *progress)
            ordered += _order_again(state, rollout, action, due & ~is_ahead, after=len(ordered))
            ordered += _order_again(state, rollout, action, due & is_ahead, after=len(ordered), ahead=True)
    return [*paused, *ordered]


def _order_again(
    state: State, rollout: Rollout, action: Action, due: Mask, *, after: int, ahead: bool = False
) -> list[e.AnyEvent]:
    members = rollout.members
    ours = [name for name in members.named(due) if state.devices[name].rollout == rollout.id]
    if not ours:
        return []
    before = {name: members[name].from_version for name in ours}
    generation = state.generation + 1 + after
    return [
        e.DevicesOrdered(
            rollout=rollout.id, action=action, generation=generation, epoch=state.epoch, devices=before, ahead=ahead
        )
    ]
