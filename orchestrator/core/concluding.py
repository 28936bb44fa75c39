"""What follows from a gate's verdict: go on, wait for a person or for devices, watch longer, or stop.

Source:
    Reference, "Canary Health Evaluation" (verdict decision) and "Inter-Wave Health Verification".
"""

from collections.abc import Iterable

from orchestrator.core import events as e
from orchestrator.core.judging import judged, without_coverage
from orchestrator.core.orders import ORCHESTRATOR
from orchestrator.core.phases import PhaseVerdict, phase_checks
from orchestrator.core.rollout import Rollout
from orchestrator.core.soaking import phases_left, soak_step_seconds
from orchestrator.core.state import State
from orchestrator.core.stopping import fail_wave, halt
from schemas.documents import CheckResult
from schemas.policy import Check
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import Verdict

COMPLETION_GATE = "completion_gate"


def conclude(
    state: State,
    rollout: Rollout,
    gate: str,
    verdict: Verdict,
    checks: tuple[CheckResult, ...],
    *,
    soaked: float,
) -> list[e.AnyEvent]:
    """Return what follows from a gate's ``verdict`` on ``checks`` after ``soaked`` seconds of soak."""
    if gate == COMPLETION_GATE and verdict is not Verdict.PASS and without_coverage(checks) is Verdict.PASS:
        return [judged(rollout, gate, verdict, "await_devices", checks)]
    match verdict:
        case Verdict.PASS:
            return _pass(rollout, gate, checks)
        case Verdict.FAIL:
            return fail_wave(state, rollout, gate, checks)
        case Verdict.CAUTION | Verdict.INCONCLUSIVE:
            return _extend(state, rollout, gate, verdict, checks, soaked=soaked)


def conclude_phase(
    state: State, rollout: Rollout, gate: str, shown: PhaseVerdict, *, soaked: float
) -> list[e.AnyEvent]:
    """Return what follows from a phase of the canary's watch that is over; nothing after the last one that passed."""
    match shown.verdict:
        case Verdict.PASS:
            following = phases_left(rollout)[1:]
            if not following:
                return []
            passed = judged(
                rollout, gate, shown.verdict, "watch", shown.checks, phase=shown.phase, not_judged=shown.not_judged
            )
            return [passed, e.CanaryPhaseStarted(rollout=rollout.id, phase=following[0], soaked_seconds=soaked)]
        case Verdict.FAIL:
            return fail_wave(state, rollout, gate, shown.checks, phase=shown.phase, not_judged=shown.not_judged)
        case Verdict.CAUTION | Verdict.INCONCLUSIVE:
            return _extend(
                state, rollout, gate, shown.verdict, shown.checks,
                soaked=soaked, phase=shown.phase, not_judged=shown.not_judged,
            )  # fmt: skip


def next_wave(rollout: Rollout) -> e.WaveStarted:
    """The wave after the current one begins; waves are never merged or skipped."""
    return e.WaveStarted(rollout=rollout.id, wave=rollout.wave + 1)


def _pass(rollout: Rollout, gate: str, checks: tuple[CheckResult, ...]) -> list[e.AnyEvent]:
    if rollout.is_last_wave:
        done = e.RolloutEnded(
            rollout=rollout.id, outcome="completed", by=ORCHESTRATOR, reason="every wave passed its gate"
        )
        return [judged(rollout, gate, Verdict.PASS, "complete", checks), done]
    if rollout.wave == 0 and rollout.policy.rollout.canary.require_human_approval_after:
        return [judged(rollout, gate, Verdict.PASS, "await_approval", checks)]
    return [judged(rollout, gate, Verdict.PASS, "proceed", checks), next_wave(rollout)]


def _rules(rollout: Rollout, gate: str, phase: CanaryPhase | None) -> Iterable[Check]:
    """Return the checks that were judged: a phase's own, or the gate's."""
    if phase is not None:
        return phase_checks(rollout, phase)
    gates = rollout.policy.health_gates
    named = {"canary_gate": gates.canary_gate, "wave_gate": gates.wave_gate, COMPLETION_GATE: gates.completion_gate}
    judged_gate = named[gate]
    return () if judged_gate is None else judged_gate.checks


def _over_limit(rollout: Rollout, rules: Iterable[Check], checks: tuple[CheckResult, ...]) -> str:
    """Return which check has been inconclusive more often in a row than it may, in words; empty if none has."""
    in_doubt = {each.check for each in checks if each.verdict == "inconclusive" and not each.dry_run}
    for rule in rules:
        limit, before = rule.consecutive_error_limit, rollout.inconclusive.get(rule.type, 0)
        if limit is not None and rule.type in in_doubt and before >= limit:
            return f", {rule.type} may be inconclusive {limit} times in a row"
    return ""


def _extend(
    state: State,
    rollout: Rollout,
    gate: str,
    verdict: Verdict,
    checks: tuple[CheckResult, ...],
    *,
    soaked: float,
    phase: CanaryPhase | None = None,
    not_judged: tuple[str, ...] = (),
) -> list[e.AnyEvent]:
    why = "; ".join(f"{check.check}: {check.why}" for check in checks if check.verdict == verdict.word)
    named = f"{gate} ({phase.replace('_', '-')} phase)" if phase else gate
    reason = f"{named} is {verdict.word}: {why or 'nothing can be judged'}"
    over = _over_limit(rollout, _rules(rollout, gate, phase), checks)
    if over or rollout.extensions >= rollout.policy.max_soak_extensions:
        verdict_fact = judged(rollout, gate, verdict, "halt", checks, phase=phase, not_judged=not_judged)
        after = f"{rollout.extensions} extensions of the soak{over}"
        return [verdict_fact, *halt(state, rollout, f"{reason} (after {after})")]
    return [
        judged(rollout, gate, verdict, "extend", checks, phase=phase, not_judged=not_judged),
        e.SoakExtended(
            rollout=rollout.id,
            wave=rollout.wave,
            extension=rollout.extensions + 1,
            until_seconds=soaked + soak_step_seconds(rollout, rollout.wave),
            reason=reason,
        ),
    ]
