"""When a rollback is over: every device that can be reached is back, and is seen to be well.

Source:
    Reference, "Rollback Execution Order" (verify health; verify that the fleet returns to its baseline).
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.judged import members_at
from orchestrator.core.members import DEPLOYED, Member, Progress
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.gates import judge_gate
from schemas.documents import CheckResult
from schemas.policy import Gate
from schemas.verdicts import Verdict

_COMPARED: Final = frozenset({"error_rate", "latency_p95"})


def finish_rollback(state: State, rollout: Rollout, context: Context, now: float) -> list[e.AnyEvent]:
    """End a rollback once the devices are back and verified, or were not to be verified in time.

    Devices that cannot be reached do not hold it: they go back when they return.
    """
    members = rollout.members
    returning = members.where(Member.progress, Progress.RETURNING)
    if (returning & (members.online | members.was_granted)).any():
        return []
    verified = _verify(state, rollout, context, now)
    if verified is None:
        return []
    assert rollout.rollback is not None, "only an order leads to rolling_back"
    if rollout.counts(*DEPLOYED, Progress.GRANTED):
        name = rollout.plan.waves[members[rollout.rollback.devices[0]].wave].name if rollout.rollback.devices else "it"
        return [verified, e.RolloutHalted(rollout=rollout.id, reason=f"{name} rolled back: {rollout.reason}")]
    reason = rollout.rollback.reason
    if verified.not_healthy or verified.not_back:
        reason += f" ({len(verified.not_healthy)} not verified healthy, {len(verified.not_back)} not back)"
    return [
        verified,
        e.RolloutEnded(rollout=rollout.id, outcome="rolled_back", by=rollout.rollback.by, reason=reason),
    ]


def _verify(state: State, rollout: Rollout, context: Context, now: float) -> e.RollbackVerified | None:
    """Judge what the devices show since they are back; None while more may still come."""
    members = rollout.members
    assert rollout.rollback is not None, "only an order leads to rolling_back"
    rows = members.rows(rollout.rollback.devices)
    rows = rows[(members.where(Member.progress, Progress.RETURNED) & members.online)[rows]]
    since = float(members.column(Member.settled_at)[rows].max(initial=rollout.rollback_at))
    returned = members_at(state, rollout, rows, context.monitor)
    is_well = context.monitor.well(returned, version=None, seconds=max(now - since, 1e-3), now=now)
    is_not_yet, _ = context.monitor.runs(returned, rollout.release.version)
    not_healthy = tuple(returned.some(is_not_yet | ~is_well))
    verdict, checks = _compare(rollout, context, returned, now, seconds=max(now - since, 1e-3))
    if returned and now - since < rollout.rollback.monitor_seconds:
        return None
    is_late = now - since >= rollout.policy.rolling_update.progress_deadline
    if returned and (not_healthy or verdict is not Verdict.PASS) and not is_late:
        return None
    if not_healthy:
        verdict = max(verdict, Verdict.INCONCLUSIVE)
    away = members.where(Member.progress, Progress.RETURNING, Progress.STRANDED)
    return e.RollbackVerified(
        rollout=rollout.id,
        scope=rollout.rollback.scope,
        verdict=verdict.word,
        healthy=len(returned) - len(not_healthy),
        not_healthy=not_healthy,
        not_back=tuple(members.named(away)),
        checks=checks,
    )


def _compare(
    rollout: Rollout, context: Context, returned: Devices, now: float, *, seconds: float
) -> tuple[Verdict, tuple[CheckResult, ...]]:
    """Judge the canary gate's rates and latencies on the old version; a smaller rollback is judged by health alone."""
    compared = [
        check.model_copy(update={"window": seconds})
        for check in rollout.policy.health_gates.canary_gate.checks
        if check.type in _COMPARED and not check.dry_run
    ]
    assert rollout.rollback is not None, "only an order leads to rolling_back"
    if rollout.rollback.scope != "fleet" or not returned or not compared:
        return Verdict.PASS, ()
    gate = Gate(checks=tuple(compared))
    return judge_gate(gate, returned, rollout.baselines, context.monitor, version=None, now=now)
