"""How a rollout goes on: one step at a time, until nothing more follows.

    deploying -> soaking -> (awaiting_approval) -> deploying the next wave ... -> completed
    any of these -> rolling_back -> rolled_back, or halted for a person -> back to where it was

Here are the reasons to go on, which need evidence; the reasons to stop are in ``stopping``. For each tick ``watch``
runs once and then ``step`` to a fixed point.

Source:
    Reference, "Canary Health Evaluation" and "Inter-Wave Health Verification"; DECISIONS.md, 4 and 5.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.judging import current_gate, judge_now, judged
from orchestrator.core.orders import order
from orchestrator.core.state import DEPLOYED, Phase, Progress, Rollout, State
from orchestrator.core.stopping import ORCHESTRATOR, SETTLED, fail_wave, halt, judge_failures
from schemas.messages import CheckResult
from schemas.verdicts import Verdict

SOAK_STEPS: Final = 10
"""Soak is journaled in tenths, so that a restart repeats at most one of them."""


def step(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Return what follows now, or nothing; apply it and ask again."""
    match rollout.phase:
        case Phase.DEPLOYING | Phase.SOAKING | Phase.AWAITING_APPROVAL:
            failed = judge_failures(state, rollout)
            if failed or rollout.paused:
                return failed
            return _order_members(state, rollout) or _go_on(state, rollout, context, now)
        case Phase.ROLLING_BACK:
            return _finish_rollback(state, rollout)
        case Phase.HALTED | Phase.COMPLETED | Phase.ABORTED | Phase.ROLLED_BACK:
            return []


def soaked_seconds(rollout: Rollout, now: float) -> float:
    """Return how much soak of the current wave has been watched."""
    running = rollout.phase in {Phase.SOAKING, Phase.AWAITING_APPROVAL}
    return rollout.soaked_seconds + (max(0.0, now - rollout.soak_since) if running else 0.0)


def stop_soaks(state: State, watched_until: float) -> list[e.AnyEvent]:
    """Count the soaks under way only up to ``watched_until``: what was not watched does not count."""
    return [
        e.SoakProgressed(rollout=rollout.id, wave=rollout.wave, soaked_seconds=soaked_seconds(rollout, watched_until))
        for rollout in state.active
        if rollout.phase in {Phase.SOAKING, Phase.AWAITING_APPROVAL}
    ]


def soak_required_seconds(rollout: Rollout) -> float:
    """Return how much soak the current wave needs before its gate, extensions included."""
    if rollout.soak_until_seconds is not None:
        return rollout.soak_until_seconds
    return rollout.policy.rollout.canary.watch_seconds if rollout.wave == 0 else _soak_step_seconds(rollout)


def next_wave(rollout: Rollout) -> e.WaveStarted:
    """The wave after the current one begins; waves are never merged or skipped."""
    return e.WaveStarted(rollout=rollout.id, wave=rollout.wave + 1)


def _soak_step_seconds(rollout: Rollout) -> float:
    """The wave's own soak: what an extension adds; at least one health check."""
    minutes = {wave.name: wave.soak_minutes for wave in rollout.policy.rollout.waves}
    soak_minutes = minutes.get(rollout.wave_name, rollout.policy.rollout.canary.soak_minutes)
    return max(soak_minutes * 60, rollout.policy.rollout.global_.health_check_interval_seconds)


def _order_members(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Write the desired state of every member whose wave is open; when it may act is the grant's to say."""
    names = [
        name
        for name in rollout.having(Progress.PENDING, Progress.HELD)
        if rollout.members[name].wave <= rollout.wave and not state.devices[name].quarantine
    ]
    return order(state, rollout, "install", names)


def _go_on(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    if rollout.phase is Phase.DEPLOYING:
        return _start_soak(state, rollout)
    if rollout.phase is not Phase.SOAKING:
        return []
    soaked, required = soaked_seconds(rollout, now), soak_required_seconds(rollout)
    if soaked >= required:
        return _judge_wave(state, rollout, context, now, soaked)
    if soaked - rollout.soaked_seconds >= required / SOAK_STEPS:
        return [e.SoakProgressed(rollout=rollout.id, wave=rollout.wave, soaked_seconds=soaked)]
    return []


def _start_soak(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """The soak starts when every online member has committed or failed, and one has committed or none can any more."""
    members = list(rollout.in_wave(rollout.wave))
    waits = [name for name, member in members if not _is_settled(state, name, member.progress)]
    has_committed = any(member.progress in DEPLOYED for _, member in members)
    is_over = all(member.progress in SETTLED for _, member in members)
    if waits or not (has_committed or is_over):
        return []
    return [e.SoakStarted(rollout=rollout.id, wave=rollout.wave)]


def _is_settled(state: State, name: str, progress: Progress) -> bool:
    if progress in SETTLED:
        return True
    device = state.devices[name]
    queued = progress in {Progress.PENDING, Progress.ORDERED, Progress.HELD, Progress.RETURNING}
    return queued and (not device.is_online or bool(device.quarantine))


def _judge_wave(state: State, rollout: Rollout, context: Context, now: float, soaked: float) -> list[e.AnyEvent]:
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(state, rollout, gate, context, now)
    final = rollout.policy.health_gates.completion_gate
    if verdict is Verdict.PASS and rollout.is_last_wave and final is not None:
        name = "completion_gate"
        verdict, checks = judge_now(state, rollout, final, context, now)
    match verdict:
        case Verdict.PASS:
            return _pass(rollout, name, checks)
        case Verdict.FAIL:
            return fail_wave(state, rollout, name, checks)
        case Verdict.CAUTION | Verdict.INCONCLUSIVE:
            return _extend(state, rollout, name, verdict, checks, soaked=soaked)


def _pass(rollout: Rollout, gate: str, checks: tuple[CheckResult, ...]) -> list[e.AnyEvent]:
    if rollout.is_last_wave:
        done = e.RolloutEnded(
            rollout=rollout.id, outcome="completed", by=ORCHESTRATOR, reason="every wave passed its gate"
        )
        return [judged(rollout, gate, Verdict.PASS, "complete", checks), done]
    if rollout.wave == 0 and rollout.policy.rollout.canary.require_human_approval_after:
        return [judged(rollout, gate, Verdict.PASS, "await_approval", checks)]
    return [judged(rollout, gate, Verdict.PASS, "proceed", checks), next_wave(rollout)]


def _extend(
    state: State, rollout: Rollout, gate: str, verdict: Verdict, checks: tuple[CheckResult, ...], *, soaked: float
) -> list[e.AnyEvent]:
    why = "; ".join(f"{check.check}: {check.why}" for check in checks if check.verdict == verdict.word)
    reason = f"{gate} is {verdict.word}: {why}"
    if rollout.extensions >= rollout.policy.max_soak_extensions:
        verdict_fact = judged(rollout, gate, verdict, "halt", checks)
        return [verdict_fact, *halt(state, rollout, f"{reason} (after {rollout.extensions} extensions of the soak)")]
    return [
        judged(rollout, gate, verdict, "extend", checks),
        e.SoakExtended(
            rollout=rollout.id,
            wave=rollout.wave,
            extension=rollout.extensions + 1,
            until_seconds=soaked + _soak_step_seconds(rollout),
            reason=reason,
        ),
    ]


def _finish_rollback(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """A rollback is over when every device that can be reached is back; the others go back when they return."""
    for name in rollout.having(Progress.RETURNING):
        if state.devices[name].is_online or rollout.members[name].granted_at is not None:
            return []
    assert rollout.rollback is not None, "only an order leads to rolling_back"
    if rollout.having(*DEPLOYED, Progress.GRANTED):
        return [e.RolloutHalted(rollout=rollout.id, reason=f"{rollout.wave_name} rolled back: {rollout.reason}")]
    return [
        e.RolloutEnded(
            rollout=rollout.id, outcome="rolled_back", by=rollout.rollback.by, reason=rollout.rollback.reason
        )
    ]
