"""How long the current wave has been watched, and how long it must be.

A canary is watched in phases, one after the other, each with a length of its own; a wave in one piece.

Source:
    Reference, "Canary Health Evaluation" and "Wave Configuration".
"""

from orchestrator.core.rollout import WATCHING, Rollout
from orchestrator.core.state import State
from schemas.policy_phases import CanaryPhase


def soaked_seconds(rollout: Rollout, now: float) -> float:
    """Return how much soak of the current wave has been watched."""
    running = rollout.phase in WATCHING
    return rollout.soaked_seconds + (max(0.0, now - rollout.soak_since) if running else 0.0)


def watched_until(state: State, now: float) -> float:
    """Return up to when soak counts: while nothing is decided, because nobody is heard, none does."""
    return state.frozen_at if state.frozen else now


def soak_required_seconds(rollout: Rollout, wave: int | None = None) -> float:
    """Return how much soak a wave needs before its gate, extensions of the current one included."""
    number = rollout.wave if wave is None else wave
    canary = rollout.policy.rollout.canary
    if number == rollout.wave:
        return step_end_seconds(rollout) + sum(canary.phase_seconds(phase) for phase in phases_left(rollout)[1:])
    return canary.watch_seconds if number == 0 else soak_step_seconds(rollout, number)


def step_end_seconds(rollout: Rollout) -> float:
    """Return at how much soak the next judgement is due: at the end of the canary's phase, or of the wave's soak."""
    if rollout.soak_until_seconds is not None:
        return rollout.soak_until_seconds
    return rollout.phase_since_seconds + soak_step_seconds(rollout, rollout.wave)


def soak_step_seconds(rollout: Rollout, wave: int) -> float:
    """Return what an extension adds: a wave's own soak, at least one health check, or the canary's phase again."""
    rules = rollout.policy.rollout
    if wave == 0:
        phase = canary_phase(rollout)
        return rules.canary.phase_seconds(phase) if phase else 0.0
    minutes = {each.name: each.soak_minutes for each in rules.waves}
    soak_minutes = minutes.get(rollout.plan.waves[wave].name, rules.canary.soak_minutes)
    return max(soak_minutes * 60, rules.global_.health_check_interval_seconds)


def canary_phase(rollout: Rollout) -> CanaryPhase | None:
    """Return in which phase the canary is watched; None after it, or if its policy has no phase of any length."""
    return next(iter(phases_left(rollout)), None)


def phases_left(rollout: Rollout) -> tuple[CanaryPhase, ...]:
    """Return the canary's phases from the current one on."""
    phases = rollout.policy.rollout.canary.watched_phases if rollout.wave == 0 else ()
    current = rollout.canary_phase
    return phases[phases.index(current) :] if current in phases else phases
