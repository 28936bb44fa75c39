"""How long the current wave has been watched, and how long it must be.

Source:
    Reference, "Canary Health Evaluation" and "Wave Configuration".
"""

from orchestrator.core.rollout import WATCHING, Rollout


def soaked_seconds(rollout: Rollout, now: float) -> float:
    """Return how much soak of the current wave has been watched."""
    running = rollout.phase in WATCHING
    return rollout.soaked_seconds + (max(0.0, now - rollout.soak_since) if running else 0.0)


def soak_required_seconds(rollout: Rollout, wave: int | None = None) -> float:
    """Return how much soak a wave needs before its gate, extensions of the current one included."""
    number = rollout.wave if wave is None else wave
    if number == rollout.wave and rollout.soak_until_seconds is not None:
        return rollout.soak_until_seconds
    return rollout.policy.rollout.canary.watch_seconds if number == 0 else soak_step_seconds(rollout, number)


def soak_step_seconds(rollout: Rollout, wave: int) -> float:
    """A wave's own soak: what an extension adds; at least one health check."""
    minutes = {each.name: each.soak_minutes for each in rollout.policy.rollout.waves}
    soak_minutes = minutes.get(rollout.plan.waves[wave].name, rollout.policy.rollout.canary.soak_minutes)
    return max(soak_minutes * 60, rollout.policy.rollout.global_.health_check_interval_seconds)
