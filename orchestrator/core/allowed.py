"""Which commands would change something now."""

from orchestrator.core.members import DEPLOYED, Progress
from orchestrator.core.orders import may_run_it
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import State


def may_resume(rollout: Rollout) -> bool:
    """Say whether a rollout that is halted can go on as it is: where devices run the release, or none was let go."""
    return rollout.halted_from is Phase.STAGING or bool(rollout.counts(*DEPLOYED))


def allowed_verbs(state: State, rollout: Rollout) -> tuple[str, ...]:
    """Return the commands about ``rollout`` that would change something now.

    While nothing is decided because the fleet fell silent, ``resume`` takes the silence for what it is.
    """
    verbs = _of_phase(rollout)
    thaws = state.frozen and rollout.phase not in TERMINAL and "resume" not in verbs
    return ("resume", *verbs) if thaws else verbs


def _of_phase(rollout: Rollout) -> tuple[str, ...]:
    back = ("rollback",) if may_run_it(rollout).any() else ()
    skip = ("skip",) if rollout.counts(Progress.PENDING, Progress.ORDERED, Progress.HELD, Progress.FAILED) else ()
    again = ("retry",) if rollout.counts(Progress.FAILED, Progress.RETURNED, Progress.SKIPPED) else ()
    match rollout.phase:
        case Phase.ABORTED | Phase.COMPLETED | Phase.SUPERSEDED:
            return back
        case Phase.ROLLED_BACK:
            return ()
        case Phase.ROLLING_BACK:
            return back
        case Phase.HALTED:
            resume = ("resume",) if may_resume(rollout) else ()
            return (*resume, *again, "rollback", "abort")
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
