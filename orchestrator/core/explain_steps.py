"""What led a rollout where it is: its start, the verdicts, the failures, and who turned it round or stopped it.

What is kept of a moment is told with it; texts, evidence and names are bounded, however large the fleet is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.explanation import Step
from orchestrator.core.members import Mask, Member
from orchestrator.core.own_waits import OwnWait
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.evidence import name_some
from schemas.documents import CheckResult
from schemas.times import format_timestamp

DEVICES_SHOWN_MAX: Final = 20
EVIDENCE_SHOWN_MAX: Final = 12
WAVES_SHOWN_MAX: Final = 20
TEXT_MAX: Final = 1000
_WHY_MAX: Final = 400
_REASON_MAX: Final = 300
_DECISIONS: Final[Mapping[str, str]] = {
    "watch": "still watched",
    "proceed": "so it went on",
    "extend": "so the soak was extended",
    "await_approval": "so a person must approve",
    "await_devices": "so it waits for the devices that are missing",
    "halt": "so it stopped for a person",
    "rollback": "so it was ordered back",
    "complete": "so it is complete",
}


def steps_of(state: State, rollout: Rollout) -> tuple[Step, ...]:
    """Return what led ``rollout`` where it is, oldest first."""
    waits = own_waits(state, rollout)
    told = [_waiting(waits)] if waits else []
    course = (_start(rollout), *_judged(rollout), *_failures(rollout), *told)
    return (*course, *_turns(rollout), *_brakes(state, rollout))


def own_waits(state: State, rollout: Rollout) -> dict[str, OwnWait]:
    """Return the members that wait for something of their own with this rollout's order."""
    found = {}
    for name in state.own_waits:
        if name in rollout.members and state.devices[name].rollout == rollout.id:
            wait = state.own_wait(state.devices[name])
            if wait is not None:
                found[name] = wait
    return found


def _start(rollout: Rollout) -> Step:
    waves = len(rollout.plan.waves)
    said = f"{rollout.by} started it: {rollout.release.release} to {len(rollout.members)} devices in {waves} waves"
    return _step(said, rollout.started_at, reason=rollout.reason_given)


def _judged(rollout: Rollout) -> list[Step]:
    """The verdicts after the waves so far; the newest with its checks."""
    steps: list[Step] = []
    for number in sorted(rollout.gates)[-WAVES_SHOWN_MAX:]:
        gate, approval = rollout.gates[number], rollout.approvals.get(number)
        steps.append(_gate(rollout, gate, is_newest=number == max(rollout.gates)))
        if approval is not None:
            wave = rollout.plan.waves[number].name
            steps.append(_step(f"{approval.by} approved going on after {wave}", reason=approval.reason))
    if rollout.extensions:
        limit = rollout.policy.max_soak_extensions
        steps.append(_step(f"the soak of {rollout.wave_name} was extended {rollout.extensions} of {limit} times"))
    return steps


def _gate(rollout: Rollout, gate: e.GateJudged, *, is_newest: bool) -> Step:
    wave = rollout.plan.waves[gate.wave].name
    decision = _DECISIONS.get(gate.decision, gate.decision)
    said = f"{gate.gate} after {wave} was {gate.verdict} over {gate.devices} devices, {decision}"
    return _step(said, rollout.gates_at[gate.wave], evidence=gate.checks if is_newest else ())


def _failures(rollout: Rollout) -> list[Step]:
    """Who failed, with the codes; those that no person has excused first."""
    members = rollout.members
    failed: Mask = members.column(Member.failed)
    if not failed.any():
        return []
    rows = members.of_wave(rollout.wave)
    counted = failed & ~members.column(Member.excused)
    names = [*members.named(counted), *members.named(failed & ~counted)]
    codes = Counter(members[name].error or "rolled back" for name in names)
    limits = {wave.name: wave.failure_threshold_percent for wave in rollout.policy.rollout.waves}
    here, size = int(counted[rows].sum()), rows.stop - rows.start
    limit = limits.get(rollout.wave_name, 0.0)
    told = ", ".join(f"{code} {count}" for code, count in codes.most_common(DEVICES_SHOWN_MAX))
    said = f"{len(names)} devices failed ({told}); {here} of {size} count against {rollout.wave_name}, limit {limit:g}%"
    times = members.column(Member.settled_at)[failed]
    at = float(np.nanmax(times)) if np.isfinite(times).any() else None
    return [_step(said, at, devices={name: _failure(rollout, name) for name in names[:DEVICES_SHOWN_MAX]})]


def _waiting(waits: Mapping[str, OwnWait]) -> Step:
    """Who waits for something of its own; those that wait longest by name."""
    codes = ", ".join(f"{code} {count}" for code, count in Counter(each.code for each in waits.values()).most_common())
    longest = sorted(waits, key=lambda name: (waits[name].since, name))[:DEVICES_SHOWN_MAX]
    shown = {name: f"{waits[name].code} since {format_timestamp(waits[name].since)}" for name in longest}
    said = f"devices wait for something of their own: {codes}; tidegate device DEVICE says what helps"
    return _step(said, min(each.since for each in waits.values()), devices=shown)


def _failure(rollout: Rollout, name: str) -> str:
    member = rollout.members[name]
    marks = [member.error or "rolled back", f"in {rollout.plan.waves[member.wave].name}", member.progress.value]
    if member.excused:
        marks.append("excused")
    if member.is_lost:
        marks.append("nobody knows what it runs")
    return ", ".join(marks)[:128]


def _turns(rollout: Rollout) -> list[Step]:
    """What turned it round or stopped it, and who said so."""
    steps = []
    back, verified = rollout.rollback, rollout.verified
    if back is not None:
        whose = f"{back.trigger}, " if not back.reason.startswith(back.trigger) else ""
        said = f"{back.by} ordered {len(back.devices)} devices back ({whose}scope {back.scope})"
        steps.append(_step(said, rollout.rollback_at, reason=back.reason, evidence=back.evidence))
    if verified is not None:
        gone = f"; not back: {name_some(verified.not_back)}" if verified.not_back else ""
        ill = f"; not healthy: {name_some(verified.not_healthy)}" if verified.not_healthy else ""
        said = f"after the rollback {verified.healthy} devices are healthy, {verified.verdict}{gone}{ill}"
        steps.append(_step(said, evidence=verified.checks))
    who = rollout.reason_by or "the orchestrator"
    if rollout.phase in TERMINAL:
        said = f"{who} ended it as {rollout.phase.value.replace('_', ' ')}"
        steps.append(_step(said, rollout.ended_at, reason=rollout.reason))
    elif rollout.phase is Phase.HALTED:
        steps.append(_step(f"{who} stopped it for a person", reason=rollout.reason))
    elif rollout.paused:
        steps.append(_step(f"{who} paused it", reason=rollout.reason))
    return steps


def _brakes(state: State, rollout: Rollout) -> list[Step]:
    """What holds every rollout at the moment."""
    if rollout.phase in TERMINAL:
        return []
    brakes = [_step("the orchestrator decides nothing", reason=state.frozen)] if state.frozen else []
    if state.is_held:
        brakes.append(_step("somebody set all/hold: no device activates an install; a rollback goes on"))
    return brakes


def _step(
    text: str,
    at: float | None = None,
    *,
    reason: str = "",
    evidence: Iterable[CheckResult] = (),
    devices: Mapping[str, str] | None = None,
) -> Step:
    said = f"{text}: {reason[:_REASON_MAX]}" if reason else text
    shown = [check.model_copy(update={"why": check.why[:_WHY_MAX]}) for check in evidence][:EVIDENCE_SHOWN_MAX]
    when = None if at is None else format_timestamp(at)
    return Step(at=when, text=said[:TEXT_MAX], evidence=tuple(shown), devices=devices or {})
