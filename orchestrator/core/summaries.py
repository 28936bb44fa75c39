"""A plan in an answer's size: what an operator reads before the start."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orchestrator.core.releases import StoredRelease
from orchestrator.planning.plan import Plan
from schemas.policy import Policy

_SHOWN_MAX: Final = 200
_TEXT_MAX: Final = 200


def plan_summary(name: str, plan: Plan, release: StoredRelease, policy: Policy) -> dict[str, Any]:
    """Return a plan's shape: waves with their sizes, the canary with reasons, who is left out and why."""
    soaks = {wave.name: wave.soak_minutes * 60 for wave in policy.rollout.waves}
    soaks["canary"] = policy.rollout.canary.watch_seconds
    return {
        "rollout": name,
        "release": release.release,
        "version": release.version,
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "strategy": plan.strategy,
        "targets": plan.target_count,
        "offline": plan.offline_count,
        "estimated_seconds": plan.estimated_seconds,
        "waves": [
            {"wave": wave.name, "devices": len(wave.members), "soak_seconds": soaks.get(wave.name, 0.0)}
            for wave in plan.waves
        ],
        "canary": dict(list(plan.chosen.items())[:_SHOWN_MAX]),
        "excluded": _counted(plan.excluded),
        "not_canary": _counted(plan.not_canary),
        "dropped_waves": list(plan.dropped_waves),
        "uncovered": list(plan.uncovered),
        "warnings": list(plan.warnings),
    }


def _counted(reasons: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how many devices each reason holds for, the most frequent first."""
    counts = {reason[:_TEXT_MAX]: len(devices) for reason, devices in reasons.items()}
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN_MAX])
