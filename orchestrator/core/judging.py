"""Gates after waves: which one, over which devices, and how its verdict becomes a fact."""

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.orders import deployed
from orchestrator.core.state import DEPLOYED, Rollout, State
from orchestrator.telemetry.gates import judge_gate
from schemas.messages import CheckResult
from schemas.policy import Gate
from schemas.verdicts import Verdict


def current_gate(rollout: Rollout) -> tuple[str, Gate]:
    """Return the gate after the current wave, with its name."""
    gates = rollout.policy.health_gates
    return ("canary_gate", gates.canary_gate) if rollout.wave == 0 else ("wave_gate", gates.wave_gate)


def judge_now(
    state: State, rollout: Rollout, gate: Gate, context: Context, now: float
) -> tuple[Verdict, tuple[CheckResult, ...]]:
    """Judge ``gate`` over all devices deployed so far, canary and every wave."""
    devices = deployed(state, rollout)
    return judge_gate(gate, devices, rollout.baselines, context.monitor, version=rollout.release.version, now=now)


def judged(
    rollout: Rollout, gate: str, verdict: Verdict, decision: str, checks: tuple[CheckResult, ...]
) -> e.GateJudged:
    """Write a verdict down as a fact about the current wave, with what is done about it."""
    return e.GateJudged(
        rollout=rollout.id,
        wave=rollout.wave,
        gate=gate,
        verdict=verdict.word,
        decision=decision,
        devices=len(rollout.having(*DEPLOYED)),
        checks=checks,
    )
