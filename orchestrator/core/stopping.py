"""Reasons to stop: triggers, a failing canary, failed and overdue devices. A stop never waits for anything.

Source:
    Reference, "Trigger Definitions", "Canary Health Evaluation" and "Rollback Execution Order"; DECISIONS.md, 6 and 19.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.judging import current_gate, judge_now, judged
from orchestrator.core.orders import DEPLOY_TIMEOUT, deployed, may_run_it, order_back, order_hold
from orchestrator.core.state import DEPLOYED, Phase, Progress, Rollout, State
from orchestrator.telemetry.triggers import Firing, judge_trigger
from schemas.conditions import exceeds_percent
from schemas.messages import CheckResult
from schemas.verdicts import Verdict

EXECUTED_MIN: Final = 5
"""Below so many finished devices (or the wave, if smaller) a share of the finished ones says nothing."""
ORCHESTRATOR: Final = "orchestrator"
SETTLED: Final = DEPLOYED | {Progress.FAILED, Progress.RETURNED, Progress.STRANDED}
"""Where a member is when its part of the wave is over."""
_WATCHED: Final = frozenset({Phase.DEPLOYING, Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.HALTED})


def watch(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Look for reasons to stop: triggers, a failing canary, devices that are overdue."""
    if rollout.phase not in _WATCHED:
        return _overdue(state, rollout, now)
    return (
        _fire_triggers(state, rollout, context, now)
        or _watch_canary(state, rollout, context, now)
        or _overdue(state, rollout, now)
    )


def judge_failures(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Stop when too many members of the wave failed: of the finished ones or of the whole wave, the stricter wins."""
    members = [member for _, member in rollout.in_wave(rollout.wave)]
    failed = sum(member.failed and not member.excused for member in members)
    finished = sum(member.progress in SETTLED for member in members)
    if not failed:
        return []
    limits = {wave.name: wave.failure_threshold_percent for wave in rollout.policy.rollout.waves}
    percent = limits.get(rollout.wave_name, 0.0)  # No canary may fail.
    enough = finished >= min(EXECUTED_MIN, len(members))
    if not exceeds_percent(failed, len(members), percent) and not (
        enough and exceeds_percent(failed, finished, percent)
    ):
        return []
    codes = sorted({member.error or "rolled back" for member in members if member.failed})
    reason = f"{failed} of {finished} finished in {rollout.wave_name} failed ({', '.join(codes)}), limit {percent:g}%"
    if _rolls_back(rollout):
        return _wave_back(state, rollout, trigger="failure_threshold", reason=reason)
    return halt(state, rollout, reason)


def fail_wave(state: State, rollout: Rollout, gate: str, checks: tuple[CheckResult, ...]) -> list[e.AnyEvent]:
    """Stop after a gate that failed: a canary and a wave with ``auto_rollback`` go back, others halt for a person."""
    failing = tuple(check for check in checks if check.verdict == "fail")
    why = "; ".join(f"{check.check}: {check.why}" for check in failing)
    reason = f"{gate} failed after {rollout.wave_name}: {why}"
    if not _rolls_back(rollout):
        return [judged(rollout, gate, Verdict.FAIL, "halt", checks), *halt(state, rollout, reason)]
    return [
        judged(rollout, gate, Verdict.FAIL, "rollback", checks),
        *_wave_back(state, rollout, trigger=gate, reason=reason, evidence=failing),
    ]


def halt(state: State, rollout: Rollout, reason: str) -> list[e.AnyEvent]:
    """Stop the rollout for a person; nothing that was not granted yet goes on."""
    return [e.RolloutHalted(rollout=rollout.id, reason=reason), *order_hold(state, rollout)]


def _fire_triggers(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    devices = deployed(state, rollout)
    failed = {name for name, member in rollout.in_wave(rollout.wave) if member.failed and not member.excused}
    for trigger in rollout.policy.rollback_triggers.all:
        in_scope = devices
        if trigger.scope == "current_wave":
            in_scope = {name: group for name, group in devices.items() if rollout.members[name].wave == rollout.wave}
        firing = judge_trigger(
            trigger,
            in_scope,
            rollout.baselines,
            context.monitor,
            version=rollout.release.version,
            failed=failed,
            wave_size=len(rollout.plan.waves[rollout.wave].members),
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
    scope: e.RollbackScope
    match firing.action:
        case "halt_and_assess":
            return [] if rollout.phase is Phase.HALTED else halt(state, rollout, reason)
        case "rollback_device" | "rollback_affected":
            scope, names = "device", firing.devices
        case "rollback_wave":
            scope, names = "wave", rollout.plan.waves[rollout.wave].members
        case "rollback_all":
            scope, names = "fleet", rollout.plan.targets
    if not any(may_run_it(rollout.members[name]) for name in names):
        return []
    return order_back(
        state, rollout, scope, names,
        trigger=firing.trigger, action=firing.action, by=ORCHESTRATOR, reason=reason, evidence=firing.evidence,
    )  # fmt: skip


def _watch_canary(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """A canary that fails a check is rolled back at once, whenever in its watch that is."""
    if rollout.wave != 0 or rollout.phase not in {Phase.SOAKING, Phase.AWAITING_APPROVAL}:
        return []
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(state, rollout, gate, context, now)
    if verdict is Verdict.FAIL:
        return fail_wave(state, rollout, name, checks)
    last = rollout.gates.get(0)
    if rollout.phase is Phase.SOAKING and (last is None or last.verdict != verdict.word):
        return [judged(rollout, name, verdict, "watch", checks)]
    return []


def _overdue(state: State, rollout: Rollout, now: float) -> list[e.AnyEvent]:
    """Devices that were granted, or could have come so far, and did not report an outcome in time, have failed."""
    limit = rollout.policy.rollout.global_.deploy_timeout_seconds
    events: list[e.AnyEvent] = []
    for name in rollout.having(Progress.ORDERED, Progress.GRANTED, Progress.RETURNING):
        member, device = rollout.members[name], state.devices[name]
        if device.rollout != rollout.id:
            continue  # A later rollout has it.
        since = member.granted_at
        if since is None and device.is_online and not device.is_asking:
            since = max(member.ordered_at, device.online_since)
        if since is None or now - since <= limit or (rollout.paused and member.granted_at is None):
            continue
        message = f"no outcome within {limit:g} s"
        events.append(
            e.DeviceFailed(
                rollout=rollout.id, device=name, generation=member.generation,
                code=DEPLOY_TIMEOUT, message=message, version=None,
            )
        )  # fmt: skip
        events.append(e.DeviceQuarantined(device=name, by=ORCHESTRATOR, reason=DEPLOY_TIMEOUT))
    return events


def _wave_back(
    state: State, rollout: Rollout, *, trigger: str, reason: str, evidence: tuple[CheckResult, ...] = ()
) -> list[e.AnyEvent]:
    names = rollout.plan.waves[rollout.wave].members
    return order_back(
        state, rollout, "wave", names,
        trigger=trigger, action="rollback_wave", by=ORCHESTRATOR, reason=reason, evidence=evidence,
    )  # fmt: skip


def _rolls_back(rollout: Rollout) -> bool:
    """Whether a failing wave goes back by itself; a canary always does."""
    return rollout.wave == 0 or {w.name: w.auto_rollback for w in rollout.policy.rollout.waves}[rollout.wave_name]
