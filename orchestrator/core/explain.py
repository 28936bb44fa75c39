"""Why a rollout is where it is: the decisions that led there with their evidence, what is awaited, and what may follow.

Pure functions of the state. What they return fits into one message with room to spare, however large the fleet is.

Source:
    Reference, "Inter-Wave Health Verification" (a stop names its evidence); wire contract, "Ops commands".
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np

from orchestrator.core.capacity import waits_for_health
from orchestrator.core.explain_device import explain_device
from orchestrator.core.explain_floor import floor_choices, floor_reason, floor_told
from orchestrator.core.explain_steps import DEVICES_SHOWN_MAX, TEXT_MAX, own_waits, steps_of
from orchestrator.core.explanation import Awaited, Choice, Explanation, choices
from orchestrator.core.members import DEPLOYED, QUEUED, Mask, Member, Progress
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.status import next_decision_at, staging_status
from orchestrator.telemetry.evidence import name_some
from schemas.times import format_duration, format_timestamp

__all__ = ["explain_device", "explain_rollout"]


def explain_rollout(state: State, rollout: Rollout, now: float, *, allowed: Sequence[str]) -> dict[str, Any]:
    """Say why ``rollout`` is where it is, as the JSON of an ``Explanation``.

    Args:
        state: For the brake and the freeze, which hold everything.
        rollout: Of ``state``.
        now: Seconds since the epoch.
        allowed: The commands that would change something now.
    """
    explanation = Explanation(
        summary=_summary(state, rollout, now)[:TEXT_MAX],
        why=steps_of(state, rollout),
        awaited=_awaited(state, rollout, now),
        next=(*_of_floor(rollout), *choices(rollout.id, allowed), *_of_return(rollout)),
    )
    return explanation.model_dump(mode="json")


def _summary(state: State, rollout: Rollout, now: float) -> str:
    members, wave = rollout.members, rollout.wave_name
    rows = members.of_wave(rollout.wave)
    done, size = int(_in(rollout, *DEPLOYED)[rows].sum()), rows.stop - rows.start
    failed, away = int(members.column(Member.failed)[rows].sum()), int(_away(rollout)[rows].sum())
    deployed, total = rollout.counts(*DEPLOYED), len(members)
    stopped = "paused; " if rollout.paused else "frozen; " if state.frozen else "on hold; " if state.is_held else ""
    staged = staging_status(rollout)
    match rollout.phase:
        case Phase.STAGING if staged is not None:
            return f"{stopped}it is fetched and installed ahead: {staged.devices} of {staged.of} devices have it ready"
        case Phase.DEPLOYING:
            under_way = int(_in(rollout, Progress.GRANTED)[rows].sum())
            told = f"{done} of {size} done, {under_way} under way, {failed} failed, {away} offline"
            return f"{stopped}{wave} is being installed: {told}"
        case Phase.SOAKING:
            left = "once the fleet is heard again" if state.frozen else f"at {next_decision_at(rollout, now)}"
            return f"{stopped}{wave} is installed ({done} of {size}) and watched until its gate, {left}"
        case Phase.AWAITING_APPROVAL:
            return f"{stopped}{wave} passed its gate; a person must approve going on to {total - deployed} devices"
        case Phase.AWAITING_DEVICES:
            return f"all that could be reached is well ({deployed} of {total}); the others are missing"
        case Phase.ROLLING_BACK:
            returned = rollout.counts(Progress.RETURNED)
            return f"going back: {returned} are back, {rollout.counts(Progress.RETURNING)} on their way"
        case Phase.HALTED:
            return f"stopped at {wave} for a person; {deployed} of {total} devices run {rollout.release.version}"
        case _:
            ended = rollout.phase.value.replace("_", " ")
            return f"ended: {ended}; {deployed} of {total} devices run {rollout.release.version}"


def _awaited(state: State, rollout: Rollout, now: float) -> Awaited | None:
    if rollout.phase in TERMINAL:
        queued = rollout.counts(*QUEUED) if rollout.phase is Phase.COMPLETED else 0
        return Awaited(text=f"{queued} devices that were offline; they follow when they return") if queued else None
    if state.frozen:
        return Awaited(text="the fleet to be heard again, or a person who resumes it")
    if rollout.phase is Phase.ROLLING_BACK:
        return _outcomes(state, rollout, Progress.RETURNING)
    if state.unread and rollout.phase in {Phase.SOAKING, Phase.AWAITING_DEVICES}:
        return Awaited(text=f"the end of this: {state.unread}")
    if rollout.paused:
        return Awaited(text="a person who resumes it")
    if rollout.phase is Phase.HALTED:
        return Awaited(text="a person who looks and decides")
    if rollout.phase is Phase.STAGING:
        by = next_decision_at(rollout, now)
        return Awaited(text="a person who activates it" if by is None else "the time to begin", by=by)
    if rollout.phase is Phase.AWAITING_APPROVAL:
        other = f"; not {rollout.by}, who started it" if rollout.policy.four_eyes else ""
        return Awaited(text=f"a person who approves or rejects{other}")
    if rollout.phase is Phase.AWAITING_DEVICES:
        return Awaited(text=f"{_some(rollout, _away(rollout))} to return, or a person who finishes it")
    if rollout.phase is Phase.SOAKING:
        return Awaited(text="the end of the soak, and then the gate", by=next_decision_at(rollout, now))
    if state.is_held:
        return Awaited(text="the end of the hold: mosquitto_pub -q 1 -r -n -t fleet/v1/all/hold")
    return _outcomes(state, rollout, Progress.GRANTED)


def _outcomes(state: State, rollout: Rollout, progress: Progress) -> Awaited:
    """Wait for devices under way, until the first of them is overdue; else for those that could begin."""
    members, rows = rollout.members, rollout.members.of_wave(rollout.wave)
    under_way = _in(rollout, progress) & members.was_granted
    if under_way.any():
        first = float(members.column(Member.granted)[under_way].min(initial=inf))
        by = first + rollout.policy.rollout.global_.deploy_timeout_seconds
        return Awaited(text=f"the outcome of {_some(rollout, under_way)}", by=format_timestamp(by))
    waiting = _in(rollout, *QUEUED)
    waiting[: rows.start] = False
    waiting[rows.stop :] = False
    able = waiting & members.online
    busy = np.zeros(len(members), dtype=np.bool_)
    busy[members.rows(own_waits(state, rollout))] = True
    if able.any() and not (able & ~busy).any():
        return Awaited(text=f"consent, hours or hooks at {_some(rollout, able)}; no deadline runs meanwhile")
    able &= ~busy
    if (able & ~members.unwell).any() and waits_for_health(rollout):
        return Awaited(text=f"more healthy devices: {floor_told(rollout)}")
    if able.any():
        limit = format_duration(rollout.policy.rollout.global_.deploy_timeout_seconds)
        return Awaited(text=f"{_some(rollout, able)} to fetch it and ask for a turn, at most {limit} each")
    return Awaited(text=f"{_some(rollout, waiting) if waiting.any() else 'devices'} to return")


def _of_floor(rollout: Rollout) -> tuple[Choice, ...]:
    return () if floor_reason(rollout) is None else floor_choices(rollout)


def _of_return(rollout: Rollout) -> tuple[Choice, ...]:
    is_under_way = rollout.phase is Phase.ROLLING_BACK
    return (Choice(command=f"tidegate watch {rollout.id}", effect="see who is back"),) if is_under_way else ()


def _in(rollout: Rollout, *progress: Progress) -> Mask:
    return rollout.members.where(Member.progress, *progress)


def _away(rollout: Rollout) -> Mask:
    return _in(rollout, *QUEUED) & ~rollout.members.online


def _some(rollout: Rollout, mask: Mask) -> str:
    names = [rollout.members.names[row] for row in np.flatnonzero(mask)[:DEVICES_SHOWN_MAX]]
    more = int(mask.sum()) - len(names)
    return name_some(names) if not more else f"{int(mask.sum())} devices ({', '.join(names[:5])}, …)"
