"""Where things are, for people: counts and summaries that replies, status documents and the CLI share."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.progress import soak_required_seconds, soaked_seconds
from orchestrator.core.state import Phase, Rollout
from orchestrator.planning.plan import Plan
from schemas.times import format_timestamp

_SHOWN_MAX: Final = 200
_REASON_MAX: Final = 512


def counts(rollout: Rollout, wave: int | None = None) -> dict[str, int]:
    """Count members by where they are, in all waves or in one; ``failed_ever`` counts against the thresholds."""
    members = [member for member in rollout.members.values() if wave is None or member.wave == wave]
    tally = Counter(member.progress.value for member in members)
    return {**tally, "total": len(members), "failed_ever": sum(member.failed for member in members)}


def rollout_summary(rollout: Rollout, now: float) -> dict[str, Any]:
    """Return the few facts of a rollout that an operator asks for first."""
    return {
        "rollout": rollout.id,
        "release": rollout.release.release,
        "version": rollout.release.version,
        "phase": rollout.phase.value,
        "wave": rollout.wave_name,
        "paused": rollout.paused,
        "counts": counts(rollout),
        "soaked_seconds": round(soaked_seconds(rollout, now), 1),
        "soak_required_seconds": round(soak_required_seconds(rollout), 1),
        "reason": rollout.reason[:_REASON_MAX],
        "plan_digest": rollout.plan.digest,
        "started_at": format_timestamp(rollout.started_at),
        "started_by": rollout.by,
    }


def plan_summary(name: str, plan: Plan) -> Mapping[str, Any]:
    """Return a plan's shape: waves with their sizes, canary with reasons, who is left out and why."""
    return {
        "rollout": name,
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "waves": [{"wave": wave.name, "devices": len(wave.members)} for wave in plan.waves],
        "canary": dict(list(plan.chosen.items())[:_SHOWN_MAX]),
        "excluded": dict(list(plan.excluded.items())[:_SHOWN_MAX]),
        "excluded_count": len(plan.excluded),
        "dropped_waves": list(plan.dropped_waves),
        "uncovered": list(plan.uncovered),
    }


def reasons(rollout: Rollout, now: float) -> tuple[str, ...]:
    """Say why the rollout is where it is."""
    lines = []
    if rollout.paused:
        lines.append("paused")
    if rollout.phase is Phase.SOAKING:
        soaked, required = soaked_seconds(rollout, now), soak_required_seconds(rollout)
        lines.append(f"soaked {soaked:.0f} of {required:.0f} s")
    gate = rollout.gates.get(rollout.wave)
    if gate is not None:
        lines.append(f"{gate.gate}: {gate.verdict}, {gate.decision}")
    if rollout.reason:
        lines.append(rollout.reason)
    return tuple(line[:128] for line in lines)


def next_decision_at(rollout: Rollout, now: float) -> str | None:
    """Return when the current soak ends if nothing happens; None where nothing is awaited by time."""
    if rollout.phase is not Phase.SOAKING:
        return None
    return format_timestamp(now + max(0.0, soak_required_seconds(rollout) - soaked_seconds(rollout, now)))
