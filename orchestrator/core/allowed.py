"""Which commands would change something now."""

from typing import Final

from orchestrator.core.members import DEPLOYED, Mask, Member, Progress
from orchestrator.core.orders import may_run_it, taken_by
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import State

TRIED: Final = (Progress.FAILED, Progress.RETURNED, Progress.SKIPPED)
"""Progress of members that can be ordered again."""
SKIPPABLE: Final = (Progress.PENDING, Progress.ORDERED, Progress.HELD, Progress.FAILED)
"""Progress of members that can be left out: they have not been let go, or it is over."""


def may_resume(rollout: Rollout) -> bool:
    """Say whether a rollout that is halted can go on as it is: where devices run the release, or none was let go."""
    return rollout.halted_from is Phase.STAGING or bool(rollout.counts(*DEPLOYED))


def allowed_verbs(state: State, rollout: Rollout) -> tuple[str, ...]:
    """Return the commands about ``rollout`` that would change something now.

    While nothing is decided because the fleet fell silent, ``resume`` takes the silence for what it is. Nothing is
    approved meanwhile, nor while nobody reads health: there is nothing to judge by.
    """
    can_go_back = bool(may_run_it(rollout).any()) and taken_by(state, rollout) is None
    verbs = _of_phase(rollout, can_go_back=can_go_back)
    if state.unheard:
        verbs = tuple(verb for verb in verbs if verb != "approve")
    thaws = state.frozen and rollout.phase not in TERMINAL and "resume" not in verbs
    return ("resume", *verbs) if thaws else verbs


def _known(rollout: Rollout, *progress: Progress) -> Mask:
    """Say for each member whether it is there, and it is known what its device runs."""
    members = rollout.members
    known: Mask = members.where(Member.progress, *progress) & ~members.column(Member.is_lost)
    return known


def _of_phase(rollout: Rollout, *, can_go_back: bool) -> tuple[str, ...]:
    back = ("rollback",) if can_go_back else ()
    skip = ("skip",) if _known(rollout, *SKIPPABLE).any() else ()
    again = ("retry",) if _known(rollout, *TRIED).any() else ()
    match rollout.phase:
        case Phase.ABORTED | Phase.COMPLETED | Phase.SUPERSEDED:
            return back
        case Phase.ROLLED_BACK:
            return ()
        case Phase.ROLLING_BACK:
            return back
        case Phase.HALTED:
            resume = ("resume",) if may_resume(rollout) else ()
            return (*resume, *again, *skip, "rollback", "abort")
        case Phase.AWAITING_APPROVAL if rollout.paused:
            return ("resume", "reject", *again, *skip, "abort", "rollback")
        case _ if rollout.paused:
            return ("resume", *again, *skip, "abort", "rollback")
        case Phase.STAGING:
            return ("activate", "pause", *again, *skip, "abort", "rollback")
        case Phase.AWAITING_APPROVAL:
            return ("approve", "reject", "pause", *again, *skip, "abort", "rollback")
        case Phase.AWAITING_DEVICES:
            return ("finish", "pause", *again, *skip, "abort", "rollback")
        case _:
            return ("pause", *again, *skip, "abort", "rollback")
