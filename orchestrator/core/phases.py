"""The canary's watch: three phases before its gate, each with checks of its own.

    immediate -> short_term -> soak -> the canary's gate

A check is judged where there is something to look at: where a canary reports it, says that it does, or the version
before did. In the soak the short-term checks stay in force; what only the soak watches is a caution when it is broken,
because a drift is a reason to look longer. A trend is judged once its window lies within the phase, so that starting up
is not taken for a leak.

Source:
    Reference, "Canary Health Evaluation"; DECISIONS.md, 27.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.core.context import Context
from orchestrator.core.judged import deployed
from orchestrator.core.rollout import Rollout
from orchestrator.core.soaking import canary_phase, soaked_seconds
from orchestrator.core.state import State
from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.judgement import verdict_of
from orchestrator.telemetry.measures import MEASURES
from orchestrator.telemetry.monitor import Monitor
from schemas.documents import CheckResult
from schemas.policy import CHECK_METRICS, Check, CheckType, Gate
from schemas.policy_phases import CanaryPhase
from schemas.verdicts import Verdict

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
_SETTLING: Final = 1 / 3
"""Share of a phase before which no version brings a canary back: samples come on another connection than a device's
word that it has switched, and may come later. On the old version it harms nobody meanwhile."""
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


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is to look at: the canary with its groups, the signals it says it has, and what was normal."""

    devices: Devices
    declared: frozenset[str]
    baselines: Mapping[str, Baseline]
    monitor: Monitor


def judge_phase(state: State, rollout: Rollout, context: Context, now: float, *, is_over: bool) -> PhaseVerdict | None:
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
    devices = deployed(state, rollout, context.monitor)
    declared = frozenset(signal for name in devices for signal in state.devices[name].info.signals)
    seen = _Seen(devices, declared, rollout.baselines, context.monitor)
    checks = tuple(phase_checks(rollout, phase))
    reasons = {check.type: _nothing_to_see(check, seen) for check in checks}
    watched = soaked_seconds(rollout, now) - rollout.phase_since_seconds
    settled = watched - rollout.policy.rollout.canary.phase_seconds(phase) * _SETTLING
    young = {check.type for check in checks if check.type in _TRENDS and watched < (check.window or 0.0)}
    young |= {"version_match"} if settled <= 0 else set()
    window_seconds = watched if is_over else settled
    due = [_since(window_seconds, it) for it in checks if not reasons[it.type] and (is_over or it.type not in young)]
    results: tuple[CheckResult, ...] = ()
    if due:
        gate = Gate.model_construct(checks=tuple(due))  # Those that are due may all be dry runs.
        _, results = judge_gate(
            gate, devices, rollout.baselines, context.monitor, version=rollout.release.version, now=now
        )
    if phase == "soak":
        own = {check.type for check in rollout.policy.rollout.canary.phases.soak.checks}
        results = tuple(_softened(each) if each.check in own else each for each in results)
    not_judged = tuple(f"{name}: {why}" for name, why in reasons.items() if why)
    return PhaseVerdict(phase, verdict_of(results), results, not_judged)


def phase_checks(rollout: Rollout, phase: CanaryPhase) -> Iterator[Check]:
    """Yield what is judged in a phase: its own checks, and in the soak the short-term ones that it does not replace."""
    phases = rollout.policy.rollout.canary.phases
    own = phases.gate(phase).checks
    yield from own
    if phase == "soak":
        replaced = {check.type for check in own}
        yield from (check for check in phases.short_term.checks if check.type not in replaced)


def _since(watched_seconds: float, check: Check) -> Check:
    """Look for the version only where the canary is watched: a moment before it switched, it named the one before."""
    if check.type != "version_match":
        return check
    return check.model_copy(update={"window": max(watched_seconds, 1e-3)})


def _softened(result: CheckResult) -> CheckResult:
    return result.model_copy(update={"verdict": Verdict.CAUTION.word}) if result.verdict == "fail" else result


def _nothing_to_see(check: Check, seen: _Seen) -> str:
    """Return why a check has nothing to look at; empty where it has."""
    signal, measure = _SIGNALS.get(check.type), MEASURES.get(CHECK_METRICS[check.type])
    if signal is None or not seen.devices:
        return ""
    groups = seen.devices.groups() & seen.baselines.keys() if measure is not None else ()
    if any(measure is not None and measure.is_normal(seen.baselines[group]) for group in groups):
        return ""  # The version before had it: its absence is no reason to look away.
    if signal not in seen.declared and signal not in seen.monitor.signals(seen.devices):
        return "no canary reports it"
    return "the version before did not report it" if check.threshold.needs_baseline and groups else ""
