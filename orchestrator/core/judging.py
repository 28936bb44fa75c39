"""Gates after waves: which one, over which devices, and how its verdict becomes a fact."""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.judged import deployed
from orchestrator.core.members import DEPLOYED
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.evidence import share_holds
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.judgement import verdict_of
from schemas.documents import CheckResult
from schemas.policy import Gate
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import Verdict

COVERAGE: Final = "fleet_coverage"


def current_gate(rollout: Rollout) -> tuple[str, Gate]:
    """Return the gate after the current wave, with its name."""
    gates = rollout.policy.health_gates
    return ("canary_gate", gates.canary_gate) if rollout.wave == 0 else ("wave_gate", gates.wave_gate)


def judge_now(
    state: State, rollout: Rollout, gate: Gate, context: Context, now: float
) -> tuple[Verdict, tuple[CheckResult, ...]]:
    """Judge ``gate`` over all devices deployed so far, canary and every wave."""
    return judge_gate(
        gate,
        deployed(state, rollout, context.monitor),
        rollout.baselines,
        context.monitor,
        version=rollout.release.version,
        now=now,
        coverage=coverage(rollout),
    )


def coverage(rollout: Rollout) -> tuple[int, int]:
    """Return how many devices run the new version, of how many targets; what a person skipped is not deployed."""
    return rollout.counts(*DEPLOYED), len(rollout.members)


def is_covered(rollout: Rollout, gate: Gate) -> bool:
    """Say whether as many targets were reached as ``gate`` wants."""
    reached, total = coverage(rollout)
    checks = [check for check in gate.checks if check.type == COVERAGE and not check.dry_run]
    limits = [(check.threshold, check.threshold.limit_value(None)) for check in checks]
    return all(limit is not None and share_holds(it.operator, reached, total, limit) for it, limit in limits)


def without_coverage(checks: tuple[CheckResult, ...]) -> Verdict:
    """Return the verdict of all checks but those on how many devices were reached; of none it is a pass."""
    rest = [each for each in checks if each.check != COVERAGE and not each.dry_run]
    return verdict_of(rest) if rest else Verdict.PASS


def judged(
    rollout: Rollout,
    gate: str,
    verdict: Verdict,
    decision: str,
    checks: tuple[CheckResult, ...],
    *,
    phase: CanaryPhase | None = None,
    not_judged: tuple[str, ...] = (),
) -> e.GateJudged:
    """Write a verdict down as a fact about the current wave, with what is done about it."""
    return e.GateJudged(
        rollout=rollout.id,
        wave=rollout.wave,
        gate=gate,
        verdict=verdict.word,
        decision=decision,
        devices=rollout.counts(*DEPLOYED),
        checks=checks,
        phase=phase,
        not_judged=not_judged,
    )
