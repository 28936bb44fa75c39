"""The canary's watch: three phases before its gate, each with checks of its own.

    immediate -> short_term -> soak -> the canary's gate

A check is judged where there is something to look at: where a canary reports it, says that it does, or the version
before did. In the soak the short-term checks stay in force; what only the soak watches is a caution when it is broken,
because a drift is a reason to look longer. A trend is judged once its window lies within the phase, so that starting up
is not taken for a leak.

Source:
    Reference, "Canary Health Evaluation"; DECISIONS.md, 27.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.core.context import Context
from orchestrator.core.orders import deployed
from orchestrator.core.rollout import Rollout
from orchestrator.core.soaking import canary_phase, soaked_seconds
from orchestrator.core.state import State
from orchestrator.telemetry.evidence import MEASURES
from orchestrator.telemetry.gates import judge_gate, reporting
from schemas.messages import CheckResult
from schemas.policy import CHECK_METRICS, Check, CheckType, Gate
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import Verdict, worst

_SIGNALS: Final[Mapping[CheckType, str]] = {
    "error_rate": "error_rate",
    "latency_p50": "latency",
    "latency_p95": "latency",
    "latency_p99": "latency",
    "cpu": "cpu",
    "memory_trend": "memory",
    "disk_trend": "disk",
    "quality": "quality",
    "log_errors": "log_errors",
    "throttle_events": "throttle_events",
}
"""What a device calls what a check looks at, in its ``info``; the other checks look at what every device says."""
_TRENDS: Final = frozenset({"memory_trend", "disk_trend"})


@dataclass(frozen=True, slots=True)
class PhaseVerdict:
    """What a phase shows so far.

    Attributes:
        not_judged: Checks with nothing to look at, each with the reason.
    """

    phase: CanaryPhase
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    not_judged: tuple[str, ...]


def judge_phase(
    state: State, rollout: Rollout, context: Context, now: float, *, is_over: bool
) -> PhaseVerdict | None:
    """Judge what the canary shows in the current phase; None where the policy has no phase of any length.

    Args:
        state: For the canary's groups and signals.
        rollout: In its canary wave.
        context: The telemetry.
        now: Seconds since the epoch.
        is_over: Whether the phase has lasted as long as it should; before that, trends may be too young to judge.
    """
    phase = canary_phase(rollout)
    if phase is None:
        return None
    devices = deployed(state, rollout)
    reasons = {check.type: _nothing_to_see(check, devices, state, rollout, context, now) for check in _checks(rollout, phase)}
    watched = soaked_seconds(rollout, now) - rollout.phase_since_seconds
    due = [
        check
        for check in _checks(rollout, phase)
        if not reasons[check.type] and (is_over or check.type not in _TRENDS or watched >= (check.window or 0.0))
    ]
    results: tuple[CheckResult, ...] = ()
    if due:
        gate = Gate(checks=tuple(due))
        _, results = judge_gate(
            gate, devices, rollout.baselines, context.monitor, version=rollout.release.version, now=now
        )
    if phase == "soak":
        own = {check.type for check in rollout.policy.rollout.canary.phases.soak.checks}
        results = tuple(_softened(each) if each.check in own else each for each in results)
    not_judged = tuple(f"{name}: {why}" for name, why in reasons.items() if why)
    return PhaseVerdict(phase, worst(Verdict.from_word(each.verdict) for each in results), results, not_judged)


def _checks(rollout: Rollout, phase: CanaryPhase) -> Iterator[Check]:
    """Yield what is judged in a phase: its own checks, and in the soak the short-term ones that it does not replace."""
    phases = rollout.policy.rollout.canary.phases
    own = phases.gate(phase).checks
    yield from own
    if phase == "soak":
        replaced = {check.type for check in own}
        yield from (check for check in phases.short_term.checks if check.type not in replaced)


def _softened(result: CheckResult) -> CheckResult:
    return result.model_copy(update={"verdict": Verdict.CAUTION.word}) if result.verdict == "fail" else result


def _nothing_to_see(
    check: Check, devices: Mapping[str, str], state: State, rollout: Rollout, context: Context, now: float
) -> str:
    """Return why a check has nothing to look at on these devices; empty where it has."""
    signal = _SIGNALS.get(check.type)
    if signal is None or not devices:
        return ""
    measure = MEASURES.get(CHECK_METRICS[check.type])
    normal = {
        group: measure.normal(rollout.baselines[group])
        for group in set(devices.values())
        if measure is not None and group in rollout.baselines
    }
    if any(value is not None for value in normal.values()):
        return ""  # The version before had it: its absence is no reason to look away.
    if not (reporting(check.type, devices, context.monitor, now) or _declared(signal, devices, state)):
        return "no canary reports it"
    return "the version before did not report it" if check.threshold.needs_baseline and normal else ""


def _declared(signal: str, devices: Collection[str], state: State) -> bool:
    """Say whether one of the devices says of itself that it reports a signal."""
    return any(signal in state.devices[name].info.signals for name in devices)
