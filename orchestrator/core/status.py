"""Where things are, for people: counts and summaries that replies, status documents and the CLI share."""

from typing import Any, Final

import numpy as np

from orchestrator.core.explain_floor import floor_reason
from orchestrator.core.members import DEPLOYED, QUEUED, Mask, Member, Progress
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.soaking import canary_phase, soak_required_seconds, soaked_seconds, step_end_seconds
from schemas.documents import StagingStatus, WaveStatus
from schemas.times import format_timestamp

_REASON_MAX: Final = 512


def counts(rollout: Rollout, wave: int | None = None) -> dict[str, int]:
    """Count members by where they are, in all waves or in one; ``failed_ever`` counts against the thresholds."""
    members = rollout.members
    rows = slice(None) if wave is None else members.of_wave(wave)
    sizes = np.bincount(members.column(Member.progress)[rows]).tolist()
    names = members.vocabularies["progress"].values
    tally = {names[code].value: size for code, size in enumerate(sizes) if size}
    failed_ever = int(members.column(Member.failed)[rows].sum())
    return {**tally, "total": sum(tally.values()), "failed_ever": failed_ever}


def wave_status(rollout: Rollout, wave: int, now: float, healthy: Mask | None = None) -> WaveStatus:
    """Say where one wave is, in numbers.

    Args:
        rollout: Whose.
        wave: Its number; 0 is the canary.
        now: Seconds since the epoch.
        healthy: Which members are well by their last fresh sample; None: nobody knows of any.
    """
    members = rollout.members
    rows = members.of_wave(wave)
    done = members.where(Member.progress, *DEPLOYED)[rows]
    away = members.where(Member.progress, *QUEUED)[rows] & ~members.online[rows]
    is_current = wave == rollout.wave
    gate = rollout.gates.get(wave)
    soaked = soaked_seconds(rollout, now) if is_current else rollout.soaks.get(wave, 0.0)
    return WaveStatus(
        wave=rollout.plan.waves[wave].name,
        devices=rows.stop - rows.start,
        done=int(done.sum()),
        healthy=0 if healthy is None else int((healthy[rows] & done).sum()),
        failed=int(members.column(Member.failed)[rows].sum()),
        offline=int(away.sum()),
        state=wave_state(rollout, wave),
        soaked_seconds=round(soaked, 1),
        soak_required_seconds=round(soak_required_seconds(rollout, wave), 1),
        gate=None if gate is None else gate.verdict,
    )


def staging_status(rollout: Rollout) -> StagingStatus | None:
    """Say how far the members are whose waves are not open; None where nobody fetches ahead, or no more."""
    members = rollout.members
    if not rollout.policy.distribution.stages or rollout.phase in TERMINAL:
        return None
    awaited = (members.column(Member.wave) > rollout.open_wave) & ~members.where(Member.progress, Progress.SKIPPED)
    if not awaited.any():
        return None
    staged = members.staged & awaited
    moment = rollout.policy.distribution.activates_at
    return StagingStatus(
        devices=int(staged.sum()),
        of=int(awaited.sum()),
        fetched_bytes=int(members.column(Member.staged_bytes)[staged].sum()),
        activates_at=None if moment is None or rollout.open_wave >= 0 else format_timestamp(moment),
    )


def wave_state(rollout: Rollout, wave: int) -> str:
    """Say in one word where a wave is: waiting, done, or the rollout's phase."""
    if wave == rollout.wave:
        return rollout.phase.value
    return "waiting" if wave > rollout.wave else "done"


def rollout_summary(rollout: Rollout, now: float) -> dict[str, Any]:
    """Return the few facts of a rollout that an operator asks for first."""
    staged = staging_status(rollout)
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
        "targets": len(rollout.members),
        **({} if staged is None else {"staged": staged.model_dump(mode="json")}),
    }


def reasons(rollout: Rollout, now: float) -> tuple[str, ...]:
    """Say why the rollout is where it is."""
    lines = []
    if rollout.paused:
        lines.append("paused")
    staged = staging_status(rollout)
    if staged is not None:
        lines.append(f"staged on {staged.devices} of {staged.of}, {staged.fetched_bytes / 1e6:.1f} MB fetched for it")
    if rollout.phase is Phase.SOAKING:
        soaked, required = soaked_seconds(rollout, now), soak_required_seconds(rollout)
        phase = canary_phase(rollout)
        watch = f", {phase.replace('_', '-')} phase" if phase else ""
        lines.append(f"soaked {soaked:.0f} of {required:.0f} s{watch}")
    short = floor_reason(rollout)
    if short is not None:
        lines.append(short)
    gate = rollout.gates.get(rollout.wave)
    if gate is not None:
        lines.append(f"{gate.gate}: {gate.verdict}, {gate.decision}")
    if rollout.reason:
        lines.append(rollout.reason)
    return tuple(line[:128] for line in lines)


def next_decision_at(rollout: Rollout, now: float) -> str | None:
    """Return when the soak ends, or a staged rollout begins, if nothing happens; None where no moment is awaited."""
    activates_at = rollout.policy.distribution.activates_at
    if rollout.phase is Phase.STAGING and activates_at is not None:
        return format_timestamp(max(now, activates_at))
    if rollout.phase is not Phase.SOAKING:
        return None
    return format_timestamp(now + max(0.0, step_end_seconds(rollout) - soaked_seconds(rollout, now)))
