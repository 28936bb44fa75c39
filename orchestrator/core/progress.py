"""How a rollout goes on: one step at a time, until nothing more follows.

    deploying -> soaking -> (awaiting_approval) -> deploying the next wave ... -> completed
    any of these -> rolling_back -> rolled_back, or halted for a person -> back to where it was

``watch`` looks for reasons to stop and runs once for each tick; ``step`` looks for reasons to go on and runs to a fixed
point. A stop never waits for anything; going on needs evidence.

Source:
    Reference, "Canary Health Evaluation", "Inter-Wave Health Verification", "Rollback Execution Order"; DECISIONS.md,
    4-6.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.orders import DEPLOY_TIMEOUT, deployed, may_run_it, order, order_back, order_hold
from orchestrator.core.state import Phase, Progress, Rollout, State
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.triggers import Firing, judge_trigger
from schemas.conditions import exceeds_percent
from schemas.messages import CheckResult
from schemas.policy import Gate
from schemas.verdicts import Verdict

EXECUTED_MIN: Final = 5
"""Below so many finished devices (or the wave, if smaller) a share of the finished ones says nothing."""
SOAK_STEPS: Final = 10
"""Soak is journaled in tenths, so that a restart repeats at most one of them."""
ORCHESTRATOR: Final = "orchestrator"
_WATCHED: Final = frozenset({Phase.DEPLOYING, Phase.SOAKING, Phase.AWAITING_APPROVAL, Phase.HALTED})
_SETTLED: Final = frozenset({Progress.COMMITTED, Progress.FAILED, Progress.RETURNED, Progress.STRANDED})


def watch(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Look for reasons to stop: triggers, a failing canary, devices that are overdue."""
    if rollout.phase not in _WATCHED:
        return _overdue(state, rollout, now)
    return (
        _fire_triggers(state, rollout, context, now)
        or _watch_canary(state, rollout, context, now)
        or _overdue(state, rollout, now)
    )


def step(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """Return what follows now, or nothing; apply it and ask again."""
    match rollout.phase:
        case Phase.DEPLOYING | Phase.SOAKING | Phase.AWAITING_APPROVAL:
            failed = _judge_failures(state, rollout)
            if failed or rollout.paused:
                return failed
            return _order_members(state, rollout) or _go_on(state, rollout, context, now)
        case Phase.ROLLING_BACK:
            return _finish_rollback(state, rollout)
        case Phase.HALTED | Phase.COMPLETED | Phase.ABORTED | Phase.ROLLED_BACK:
            return []


def soaked_seconds(rollout: Rollout, now: float) -> float:
    """Return how much soak of the current wave has been watched."""
    running = rollout.phase in {Phase.SOAKING, Phase.AWAITING_APPROVAL}
    return rollout.soaked_seconds + (max(0.0, now - rollout.soak_since) if running else 0.0)


def soak_required_seconds(rollout: Rollout) -> float:
    """Return how much soak the current wave needs before its gate, extensions included."""
    if rollout.soak_until_seconds is not None:
        return rollout.soak_until_seconds
    return rollout.policy.rollout.canary.watch_seconds if rollout.wave == 0 else _soak_step_seconds(rollout)


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


def _soak_step_seconds(rollout: Rollout) -> float:
    """The wave's own soak: what an extension adds; at least one health check."""
    minutes = {wave.name: wave.soak_minutes for wave in rollout.policy.rollout.waves}
    soak_minutes = minutes.get(rollout.wave_name, rollout.policy.rollout.canary.soak_minutes)
    return max(soak_minutes * 60, rollout.policy.rollout.global_.health_check_interval_seconds)


def _fire_triggers(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    devices = deployed(state, rollout)
    failed = {name for name, member in rollout.in_wave(rollout.wave) if member.failed and not member.excused}
    for trigger in rollout.policy.rollback_triggers.all:
        firing = judge_trigger(
            trigger,
            devices,
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


def halt(state: State, rollout: Rollout, reason: str) -> list[e.AnyEvent]:
    """Stop the rollout for a person; nothing that was not granted yet goes on."""
    return [e.RolloutHalted(rollout=rollout.id, reason=reason), *order_hold(state, rollout)]


def _watch_canary(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """A canary that fails a check is rolled back at once, whenever in its watch that is."""
    if rollout.wave != 0 or rollout.phase not in {Phase.SOAKING, Phase.AWAITING_APPROVAL}:
        return []
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(state, rollout, gate, context, now)
    if verdict is Verdict.FAIL:
        return _fail_wave(state, rollout, name, checks)
    last = rollout.gates.get(0)
    if rollout.phase is Phase.SOAKING and (last is None or last.verdict != verdict.word):
        return [_judged(rollout, name, verdict, "watch", checks)]
    return []


def _judged(
    rollout: Rollout, gate: str, verdict: Verdict, decision: str, checks: tuple[CheckResult, ...]
) -> e.GateJudged:
    return e.GateJudged(
        rollout=rollout.id,
        wave=rollout.wave,
        gate=gate,
        verdict=verdict.word,
        decision=decision,
        devices=len(rollout.having(Progress.COMMITTED)),
        checks=checks,
    )


def _fail_wave(state: State, rollout: Rollout, gate: str, checks: tuple[CheckResult, ...]) -> list[e.AnyEvent]:
    failing = tuple(check for check in checks if check.verdict == "fail")
    why = "; ".join(f"{check.check}: {check.why}" for check in failing)
    reason = f"{gate} failed after {rollout.wave_name}: {why}"
    if not _rolls_back(rollout):
        return [_judged(rollout, gate, Verdict.FAIL, "halt", checks), *halt(state, rollout, reason)]
    return [
        _judged(rollout, gate, Verdict.FAIL, "rollback", checks),
        *_wave_back(state, rollout, trigger=gate, reason=reason, evidence=failing),
    ]


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


def _judge_failures(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Stop when too many members of the wave failed: of the finished ones or of the whole wave, the stricter wins."""
    members = [member for _, member in rollout.in_wave(rollout.wave)]
    failed = sum(member.failed and not member.excused for member in members)
    finished = sum(member.progress in _SETTLED for member in members)
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


def _order_members(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """Write the desired state of every member whose wave is open; when it may act is the grant's to say."""
    names = [
        name
        for name in rollout.having(Progress.PENDING, Progress.HELD)
        if rollout.members[name].wave <= rollout.wave and not state.devices[name].quarantine
    ]
    return order(state, rollout, "install", names)


def _go_on(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    if rollout.phase is Phase.DEPLOYING:
        return _start_soak(state, rollout)
    if rollout.phase is not Phase.SOAKING:
        return []
    soaked, required = soaked_seconds(rollout, now), soak_required_seconds(rollout)
    if soaked >= required:
        return _judge_wave(state, rollout, context, now, soaked)
    if soaked - rollout.soaked_seconds >= required / SOAK_STEPS:
        return [e.SoakProgressed(rollout=rollout.id, wave=rollout.wave, soaked_seconds=soaked)]
    return []


def _start_soak(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """The soak starts when every online member has committed or failed, and one has committed or none can any more."""
    members = list(rollout.in_wave(rollout.wave))
    waits = [name for name, member in members if not _is_settled(state, name, member.progress)]
    has_committed = any(member.progress is Progress.COMMITTED for _, member in members)
    is_over = all(member.progress in _SETTLED for _, member in members)
    if waits or not (has_committed or is_over):
        return []
    return [e.SoakStarted(rollout=rollout.id, wave=rollout.wave)]


def _is_settled(state: State, name: str, progress: Progress) -> bool:
    if progress in _SETTLED:
        return True
    device = state.devices[name]
    queued = progress in {Progress.PENDING, Progress.ORDERED, Progress.HELD, Progress.RETURNING}
    return queued and (not device.is_online or bool(device.quarantine))


def _judge_wave(state: State, rollout: Rollout, context: Context, now: float, soaked: float) -> list[e.AnyEvent]:
    name, gate = current_gate(rollout)
    verdict, checks = judge_now(state, rollout, gate, context, now)
    final = rollout.policy.health_gates.completion_gate
    if verdict is Verdict.PASS and rollout.is_last_wave and final is not None:
        name = "completion_gate"
        verdict, checks = judge_now(state, rollout, final, context, now)
    match verdict:
        case Verdict.PASS:
            return _pass(rollout, name, checks)
        case Verdict.FAIL:
            return _fail_wave(state, rollout, name, checks)
        case Verdict.CAUTION | Verdict.INCONCLUSIVE:
            return _extend(state, rollout, name, verdict, checks, soaked=soaked)


def _pass(rollout: Rollout, gate: str, checks: tuple[CheckResult, ...]) -> list[e.AnyEvent]:
    if rollout.is_last_wave:
        done = e.RolloutEnded(
            rollout=rollout.id, outcome="completed", by=ORCHESTRATOR, reason="every wave passed its gate"
        )
        return [_judged(rollout, gate, Verdict.PASS, "complete", checks), done]
    if rollout.wave == 0 and rollout.policy.rollout.canary.require_human_approval_after:
        return [_judged(rollout, gate, Verdict.PASS, "await_approval", checks)]
    return [_judged(rollout, gate, Verdict.PASS, "proceed", checks), next_wave(rollout)]


def next_wave(rollout: Rollout) -> e.WaveStarted:
    """The wave after the current one begins; waves are never merged or skipped."""
    return e.WaveStarted(rollout=rollout.id, wave=rollout.wave + 1)


def _extend(
    state: State, rollout: Rollout, gate: str, verdict: Verdict, checks: tuple[CheckResult, ...], *, soaked: float
) -> list[e.AnyEvent]:
    why = "; ".join(f"{check.check}: {check.why}" for check in checks if check.verdict == verdict.word)
    reason = f"{gate} is {verdict.word}: {why}"
    if rollout.extensions >= rollout.policy.max_soak_extensions:
        judged = _judged(rollout, gate, verdict, "halt", checks)
        return [judged, *halt(state, rollout, f"{reason} (after {rollout.extensions} extensions of the soak)")]
    return [
        _judged(rollout, gate, verdict, "extend", checks),
        e.SoakExtended(
            rollout=rollout.id,
            wave=rollout.wave,
            extension=rollout.extensions + 1,
            until_seconds=soaked + _soak_step_seconds(rollout),
            reason=reason,
        ),
    ]


def _finish_rollback(state: State, rollout: Rollout) -> list[e.AnyEvent]:
    """A rollback is over when every device that can be reached is back; the others go back when they return."""
    for name in rollout.having(Progress.RETURNING):
        if state.devices[name].is_online or rollout.members[name].granted_at is not None:
            return []
    assert rollout.rollback is not None, "only an order leads to rolling_back"
    if rollout.having(Progress.COMMITTED, Progress.GRANTED):
        return [e.RolloutHalted(rollout=rollout.id, reason=f"{rollout.wave_name} rolled back: {rollout.reason}")]
    return [
        e.RolloutEnded(
            rollout=rollout.id, outcome="rolled_back", by=rollout.rollback.by, reason=rollout.rollback.reason
        )
    ]
