"""How a rollout goes on: one step at a time, until nothing more follows.

    (staging) -> deploying -> soaking -> (awaiting_approval)
        -> deploying the next wave ... -> (awaiting_devices) -> completed
    any of these -> rolling_back -> rolled_back, or halted for a person -> back to where it was

Here are the reasons to go on, which need evidence; the reasons to stop are in ``stopping``. For each tick ``watch``
runs once and then ``step`` to a fixed point.

Source:
    Reference, "Canary Health Evaluation" and "Inter-Wave Health Verification"; DECISIONS.md, 4 and 5.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.concluding import COMPLETION_GATE, conclude, conclude_phase
from orchestrator.core.context import Context
from orchestrator.core.judging import current_gate, is_covered, judge_now
from orchestrator.core.members import DEPLOYED, QUEUED, SETTLED, Mask, Member, Progress
from orchestrator.core.orders import order
from orchestrator.core.overdue import is_asleep
from orchestrator.core.phases import judge_phase
from orchestrator.core.rollout import WATCHING, Phase, Rollout
from orchestrator.core.soaking import soak_required_seconds, soaked_seconds, step_end_seconds
from orchestrator.core.staging import activate_when_due, is_due, order_ahead
from orchestrator.core.state import State
from orchestrator.core.stopping import judge_failures
from orchestrator.core.verifying import finish_rollback
from schemas.verdicts import Verdict

SOAK_STEPS: Final = 10
"""Soak is journaled in tenths, so that a restart repeats at most one of them."""


def step(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Return what follows now, or nothing; apply it and ask again."""
    match rollout.phase:
        case Phase.STAGING:
            failed = judge_failures(state, rollout)
            if failed or rollout.paused:
                return failed
            return activate_when_due(rollout, now) or order_ahead(state, rollout, now)
        case Phase.DEPLOYING | Phase.SOAKING | Phase.AWAITING_APPROVAL | Phase.AWAITING_DEVICES:
            failed = judge_failures(state, rollout)
            if failed:
                return failed
            if rollout.paused:
                return _watch_on(state, rollout, context, now)
            ordered = _order_members(state, rollout, now) or order_ahead(state, rollout, now)
            return ordered or _go_on(state, rollout, context, now)
        case Phase.ROLLING_BACK:
            return finish_rollback(state, rollout, context, now)
        case Phase.HALTED | Phase.COMPLETED | Phase.ABORTED | Phase.ROLLED_BACK | Phase.SUPERSEDED:
            return []


def stop_soaks(state: State, watched_until: float) -> list[e.AnyEvent]:
    """Count the soaks under way only up to ``watched_until``: what was not watched does not count."""
    if state.frozen:
        return []  # They were stopped when the silence began.
    return [
        e.SoakProgressed(rollout=rollout.id, wave=rollout.wave, soaked_seconds=soaked_seconds(rollout, watched_until))
        for rollout in state.active
        if rollout.phase in WATCHING
    ]


def _order_members(state: State, rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Write the desired state of every member whose wave is open; when it may act is the grant's to say.

    What was ordered ahead is ordered again: the device hears that its wave has begun, and its deadline begins.
    """
    members = rollout.members
    due = is_due(rollout, now) | (members.where(Member.progress, Progress.ORDERED) & members.column(Member.is_ahead))
    if not due.any():
        return []
    due &= (members.column(Member.wave) <= rollout.wave) & ~members.quarantined
    return order(state, rollout, "install", members.named(due))


def _go_on(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    if rollout.phase is Phase.DEPLOYING:
        return _start_soak(rollout, now)
    if state.unread:
        return []
    if rollout.phase is Phase.AWAITING_DEVICES:
        return _complete(state, rollout, context, now)
    if rollout.phase is not Phase.SOAKING:
        return []
    soaked = soaked_seconds(rollout, now)
    if soaked >= step_end_seconds(rollout):
        return _judge_phase(state, rollout, context, now, soaked) or _judge_wave(state, rollout, context, now, soaked)
    if soaked - rollout.soaked_seconds >= soak_required_seconds(rollout) / SOAK_STEPS:
        return [e.SoakProgressed(rollout=rollout.id, wave=rollout.wave, soaked_seconds=soaked)]
    return []


def _start_soak(rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """The soak starts when every online member has committed or failed, and one has committed or none can any more.

    A member in quarantine cannot: it may go only after a person has released it, and a wave does not wait for that.
    """
    members = rollout.members
    rows = members.of_wave(rollout.wave)
    kept_out = members.where(Member.progress, *QUEUED) & members.quarantined
    settled = (members.where(Member.progress, *SETTLED) | kept_out)[rows]
    waits = ~(settled | _is_away(rollout, now)[rows])
    has_committed = members.where(Member.progress, *DEPLOYED)[rows].any()
    if waits.any() or not (has_committed or settled.all()):
        return []
    return [e.SoakStarted(rollout=rollout.id, wave=rollout.wave)]


def _is_away(rollout: Rollout, now: float) -> Mask:
    """Say which members do not hold their wave: not there, asleep or in quarantine, and not under way."""
    members = rollout.members
    absent = ~members.online | is_asleep(rollout, now) | members.quarantined
    return members.where(Member.progress, *QUEUED) & absent


def _watch_on(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """A pause keeps the next wave waiting, not the watch: a canary that passed a phase enters the next."""
    soaked = soaked_seconds(rollout, now)
    if state.unread or rollout.phase is not Phase.SOAKING or soaked < step_end_seconds(rollout):
        return []
    shown = judge_phase(state, rollout, context, now, is_over=True)
    if shown is None or shown.verdict is not Verdict.PASS:
        return []
    return conclude_phase(state, rollout, current_gate(rollout)[0], shown, soaked=soaked)


def _judge_phase(state: State, rollout: Rollout, context: Context, now: float, soaked: float) -> list[e.AnyEvent]:
    """Judge the canary's phase that is over; nothing follows once the last one has passed, or in other waves."""
    shown = judge_phase(state, rollout, context, now, is_over=True)
    return [] if shown is None else conclude_phase(state, rollout, current_gate(rollout)[0], shown, soaked=soaked)


def _judge_wave(state: State, rollout: Rollout, context: Context, now: float, soaked: float) -> list[e.AnyEvent]:
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(state, rollout, gate, context, now)
    final = rollout.policy.health_gates.completion_gate
    if verdict is Verdict.PASS and rollout.is_last_wave and final is not None:
        name = COMPLETION_GATE
        verdict, checks = judge_now(state, rollout, final, context, now)
    return conclude(state, rollout, name, verdict, checks, soaked=soaked)


def _complete(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Judge the last gate again once enough devices have come."""
    final = rollout.policy.health_gates.completion_gate
    assert final is not None, "only its coverage leads to waiting for devices"
    if not is_covered(rollout, final):
        return []
    verdict, checks = judge_now(state, rollout, final, context, now)
    if verdict in {Verdict.CAUTION, Verdict.INCONCLUSIVE}:
        return []
    return conclude(state, rollout, COMPLETION_GATE, verdict, checks, soaked=soaked_seconds(rollout, now))
