"""Reasons to stop: triggers, a failing canary, failed and overdue devices. A stop never waits for anything.

Source:
    Reference, "Trigger Definitions", "Canary Health Evaluation" and "Rollback Execution Order"; DECISIONS.md, 6 and 19.
"""

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.judged import deployed_rows, members_at
from orchestrator.core.judging import current_gate, judge_now, judged
from orchestrator.core.members import DEPLOYED, SETTLED, Member, Progress
from orchestrator.core.orders import ORCHESTRATOR, may_run_it, order_back, order_hold
from orchestrator.core.overdue import fallen_silent, overdue
from orchestrator.core.phases import judge_phase
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.triggers import OF_SINGLE_DEVICES, TRIGGERS, Firing, judge_trigger
from schemas.conditions import Metric, exceeds_percent
from schemas.documents import CheckResult
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import Verdict

FAILURE_THRESHOLD: Final = "failure_threshold"
EXECUTED_MIN: Final = 5
"""Below so many finished devices (or the wave, if smaller) a share of the finished ones says nothing."""


def watch(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Look for reasons to stop: triggers, a failing canary, devices that are overdue or silent."""
    if rollout.phase in TERMINAL:
        return overdue(state, rollout, now)
    if rollout.phase is Phase.ROLLING_BACK:
        return _fire_triggers(state, rollout, context, now) or overdue(state, rollout, now)
    return (
        _fire_triggers(state, rollout, context, now)
        or _watch_canary(state, rollout, context, now)
        or overdue(state, rollout, now)
        or fallen_silent(state, rollout, now)
    )


def watch_devices(
    state: State, rollout: Rollout, names: Iterable[str], context: Context, now: float
) -> list[e.AnyEvent]:
    """Look for reasons to stop that the samples of single devices give: it need not wait until all are looked at."""
    if rollout.phase in TERMINAL:
        return []
    members = rollout.members
    concerned = [name for name in names if name in members and members[name].progress in DEPLOYED]
    if not concerned:
        return []
    return _fire_triggers(state, rollout, context, now, rows=members.rows(concerned), metrics=OF_SINGLE_DEVICES)


def judge_failures(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Stop when too many members of a wave failed; where none of it was let go yet, there is nothing to bring back."""
    found = failing_wave(rollout)
    if found is None:
        return []
    wave, reason = found
    if wave <= rollout.open_wave and rolls_back(rollout, wave):
        return _wave_back(state, rollout, wave, trigger=FAILURE_THRESHOLD, reason=reason)
    return halt(state, rollout, reason)


def failing_wave(rollout: Rollout) -> tuple[int, str] | None:
    """Return the first wave with too many failed members, and why: of the finished ones or of all, the stricter wins.

    Waves that are over count as well: a member that comes late is judged like the others of its wave. So do waves whose
    members fetch ahead: who has it verified has finished, for what can be judged of it before its wave. Whom a person
    left out counts in neither number.
    """
    members = rollout.members
    counted = members.column(Member.failed) & ~members.column(Member.excused)
    if not counted.any():
        return None
    left_out = members.where(Member.progress, Progress.SKIPPED) & ~members.column(Member.failed)
    finished = (members.where(Member.progress, *SETTLED) & ~left_out) | members.staged
    for wave in range(len(rollout.plan.waves)):
        rows = members.of_wave(wave)
        total = int((~left_out[rows]).sum())
        reason = _too_many(rollout, wave, int(counted[rows].sum()), int(finished[rows].sum()), total)
        if reason:
            return wave, reason
    return None


def _too_many(rollout: Rollout, wave: int, failed: int, finished: int, total: int) -> str:
    """Return why so many failures are too many; empty if they are not."""
    percent = threshold_percent(rollout, wave)
    enough = finished >= min(EXECUTED_MIN, total)
    of_finished = enough and exceeds_percent(failed, finished, percent)
    if not failed or not (of_finished or exceeds_percent(failed, total, percent)):
        return ""
    codes = sorted({member.error or "rolled back" for _, member in rollout.in_wave(wave) if member.failed})
    name = rollout.plan.waves[wave].name
    return f"{failed} of {finished} finished in {name} failed ({', '.join(codes[:5])}), limit {percent:g}%"


def threshold_percent(rollout: Rollout, wave: int) -> float:
    """Return above which share of failures a wave stops; of a canary no device may fail."""
    name = rollout.plan.waves[wave].name
    return {each.name: each.failure_threshold_percent for each in rollout.policy.rollout.waves}.get(name, 0.0)


def fail_wave(
    state: State,
    rollout: Rollout,
    gate: str,
    checks: tuple[CheckResult, ...],
    *,
    phase: CanaryPhase | None = None,
    not_judged: tuple[str, ...] = (),
) -> list[e.AnyEvent]:
    """Stop after a gate that failed: a canary and a wave with ``auto_rollback`` go back, others halt for a person."""
    failing = tuple(check for check in checks if check.verdict == "fail" and not check.dry_run)
    why = "; ".join(f"{check.check}: {check.why}" for check in failing)
    when = f"in the {phase.replace('_', '-')} phase of" if phase else "after"
    reason = f"{gate} failed {when} {rollout.wave_name}: {why}"
    decision = "rollback" if rolls_back(rollout, rollout.wave) else "halt"
    verdict = judged(rollout, gate, Verdict.FAIL, decision, checks, phase=phase, not_judged=not_judged)
    if decision == "halt":
        return [verdict, *halt(state, rollout, reason)]
    return [
        verdict,
        *_wave_back(
            state, rollout, rollout.wave,
            trigger=gate, reason=reason, evidence=failing, monitor_seconds=_investigated_seconds(rollout, phase),
        ),
    ]  # fmt: skip


def _investigated_seconds(rollout: Rollout, phase: CanaryPhase | None) -> float:
    """Return how long a canary is watched after it went back: one that had seemed well at first, as long again."""
    return rollout.policy.rollout.canary.phase_seconds(phase) if phase == "short_term" else 0.0


def halt(state: State, rollout: Rollout, reason: str) -> list[e.AnyEvent]:
    """Stop the rollout for a person; nothing that was not granted yet goes on."""
    return [e.RolloutHalted(rollout=rollout.id, reason=reason), *order_hold(state, rollout)]


def _fire_triggers(
    state: State,
    rollout: Rollout,
    context: Context,
    now: float,
    *,
    rows: NDArray[np.intp] | None = None,
    metrics: Collection[Metric] = TRIGGERS,
) -> list[e.AnyEvent]:
    """Judge the triggers of some metrics on deployed members, some or all; the first that leads to anything acts."""
    members = rollout.members
    wave = members.of_wave(rollout.wave)
    counted = members.column(Member.failed) & ~members.column(Member.excused)
    counted[: wave.start] = counted[wave.stop :] = False
    failed = members.named(counted)
    rows = deployed_rows(rollout) if rows is None else rows
    if not len(rows) and not failed:
        return []
    every = members_at(state, rollout, rows, context.monitor)
    in_wave = every.take(np.flatnonzero(members.column(Member.wave)[rows] == rollout.wave))
    for trigger in rollout.policy.rollback_triggers.all:
        if trigger.condition.metric not in metrics:
            continue
        firing = judge_trigger(
            trigger,
            in_wave if trigger.scope == "current_wave" else every,
            rollout.baselines,
            context.monitor,
            version=rollout.release.version,
            thermal_limit_celsius=rollout.policy.thermal_limit_celsius,
            failed=failed,
            wave_size=wave.stop - wave.start,
            now=now,
        )
        if firing is not None:
            events = _act(state, rollout, firing)
            if events:
                return events
    return []


def _act(state: State, rollout: Rollout, firing: Firing) -> list[e.AnyEvent]:
    why = firing.evidence[0].why if firing.evidence else "no evidence given"
    reason = f"{firing.trigger}: {why}"
    if rollout.phase is Phase.ROLLING_BACK and not _is_wider(rollout, firing):
        return []
    scope: e.RollbackScope
    names: list[str]
    match firing.action:
        case "halt_and_assess":
            return [] if rollout.phase is Phase.HALTED else halt(state, rollout, reason)
        case "rollback_device" | "rollback_affected":
            scope, names = "device", list(firing.devices)
        case "rollback_wave":
            scope, names = "wave", rollout.members.names[rollout.members.of_wave(rollout.wave)]
        case "rollback_all":
            scope, names = "fleet", rollout.members.names
    if not may_run_it(rollout)[rollout.members.rows(names)].any():  # Those that failed are back by themselves.
        stops = scope != "device" and rollout.phase not in {Phase.HALTED, Phase.ROLLING_BACK}
        return (judge_failures(state, rollout) or halt(state, rollout, reason)) if stops else []
    return order_back(
        state, rollout, scope, names,
        trigger=firing.trigger, action=firing.action, by=ORCHESTRATOR, reason=reason, evidence=firing.evidence,
    )  # fmt: skip


def _is_wider(rollout: Rollout, firing: Firing) -> bool:
    """Say whether a trigger asks for more than the rollback that is under way."""
    return firing.action == "rollback_all" and rollout.rollback is not None and rollout.rollback.scope == "wave"


def _watch_canary(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """A canary that breaks a check of its phase is rolled back at once, and one that awaits approval by its gate."""
    if rollout.wave != 0 or rollout.phase not in {Phase.SOAKING, Phase.AWAITING_APPROVAL}:
        return []
    name, gate = current_gate(rollout)
    if rollout.phase is Phase.AWAITING_APPROVAL:
        verdict, checks = judge_now(state, rollout, gate, context, now)
        return fail_wave(state, rollout, name, checks) if verdict is Verdict.FAIL else []
    shown = judge_phase(state, rollout, context, now, is_over=False)
    if shown is None:
        return []
    if shown.verdict is Verdict.FAIL:
        return fail_wave(state, rollout, name, shown.checks, phase=shown.phase, not_judged=shown.not_judged)
    last = rollout.gates.get(0)
    if last is not None and (last.phase, last.verdict) == (shown.phase, shown.verdict.word):
        return []
    return [judged(rollout, name, shown.verdict, "watch", shown.checks, phase=shown.phase, not_judged=shown.not_judged)]


def _wave_back(
    state: State,
    rollout: Rollout,
    wave: int,
    *,
    trigger: str,
    reason: str,
    evidence: tuple[CheckResult, ...] = (),
    monitor_seconds: float = 0.0,
) -> list[e.AnyEvent]:
    names = rollout.members.names[rollout.members.of_wave(wave)]
    return order_back(
        state, rollout, "wave", names,
        trigger=trigger, action="rollback_wave", by=ORCHESTRATOR, reason=reason, evidence=evidence,
        monitor_seconds=monitor_seconds,
    )  # fmt: skip


def rolls_back(rollout: Rollout, wave: int) -> bool:
    """Say whether a failing wave goes back by itself; a canary always does."""
    name = rollout.plan.waves[wave].name
    return {each.name: each.auto_rollback for each in rollout.policy.rollout.waves}.get(name, True)
