"""Gates: whether what is deployed is good enough to go on.

Each check is one function, listed in ``CHECKS``; a gate is the worst of its checks. A check fails when the evidence at
hand breaks its limit, even if other evidence is missing; it passes only when nothing is missing.
"""

from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.evidence import (
    Evidence,
    Reading,
    limit_text,
    name_some,
    read_groups,
    share_holds,
)
from orchestrator.telemetry.monitor import Monitor, Window
from schemas.conditions import Metric
from schemas.messages import CheckResult
from schemas.policy import Check, CheckType, Gate
from schemas.verdicts import Verdict, worst

BAD_SAMPLES_MAX: Final = 2
"""With more bad samples than this in the window, a device is not healthy, whatever it says of itself."""

_BAD_SAMPLES_SECONDS: Final = 600.0
_WHY_MAX: Final = 1024  # what the wire's text holds


def judge_gate(
    gate: Gate,
    deployed: Mapping[str, str],
    baselines: Mapping[str, Baseline],
    monitor: Monitor,
    *,
    version: str,
    now: float,
) -> tuple[Verdict, tuple[CheckResult, ...]]:
    """Judge all devices that run the new version, given with their groups; the gate is the worst of its checks.

    Without devices every check is inconclusive, and so is a gate without checks.
    """
    evidence = Evidence(deployed, baselines, monitor, version, now)
    results = tuple(CHECKS[check.type](check, evidence) for check in gate.checks)
    return worst(Verdict.from_word(result.verdict) for result in results), results


def _check_error_rate(check: Check, evidence: Evidence) -> CheckResult:
    """Errors per request of the worst group."""
    return _check_groups(Metric.ERROR_RATE, check, evidence)


def _check_latency_p95(check: Check, evidence: Evidence) -> CheckResult:
    """95th percentile of all latencies of the worst group."""
    return _check_groups(Metric.LATENCY_P95, check, evidence)


def _check_crash_count(check: Check, evidence: Evidence) -> CheckResult:
    """Restarts of all devices together. A crash is a fact: more samples cannot undo it, so it takes no minimum."""
    seconds, condition = check.window, check.threshold
    window = evidence.window(evidence.deployed, seconds)
    limit = condition.limit_value(None)
    restarts = evidence.restarts(seconds)
    text = f"{window.crash_count} restarts of {window.device_count} devices, {limit_text(condition, limit, None)}"
    if restarts:
        text += f"; {name_some(restarts)}"
    doubts = _doubts(check, limit, window.silent, window.sample_count, "samples")
    if window.without_restarts:
        doubts.append(f"{name_some(window.without_restarts)} do not count restarts")
    return _result(
        check,
        is_broken=limit is not None and not condition.holds(window.crash_count, limit),
        doubts=doubts,
        text=text,
        observed=float(window.crash_count) if window.sample_count else None,
        limit=limit,
        samples=window.sample_count,
    )


def _check_application_health(check: Check, evidence: Evidence) -> CheckResult:
    """Share of the devices whose application says, in the latest sample, that it is healthy."""
    window = evidence.window(evidence.deployed, check.window)
    return _check_healthy(check, window, window.unhealthy)


def _check_device_health(check: Check, evidence: Evidence) -> CheckResult:
    """The same, and a device whose samples contradict each other is not healthy either."""
    window = evidence.window(evidence.deployed, check.window)
    seconds = check.window or _BAD_SAMPLES_SECONDS
    contradictory = {
        device
        for device in evidence.running()
        if evidence.monitor.bad_samples(device, evidence.now, seconds) > BAD_SAMPLES_MAX
    }
    return _check_healthy(check, window, tuple(sorted({*window.unhealthy, *contradictory})))


CHECKS: Final[Mapping[CheckType, Callable[[Check, Evidence], CheckResult]]] = {
    "error_rate": _check_error_rate,
    "latency_p95": _check_latency_p95,
    "crash_count": _check_crash_count,
    "application_health": _check_application_health,
    "device_health": _check_device_health,
}
"""Where each check of the policy is defined."""


def _check_groups(metric: Metric, check: Check, evidence: Evidence) -> CheckResult:
    """Judge each group against its own baseline and show the worst: by verdict, then by distance to the limit."""
    readings = list(read_groups(metric, check.threshold, evidence, check.window))
    if not readings:
        return _result(check, is_broken=False, doubts=["no devices"], text="", observed=None, limit=None, samples=0)
    judged = [(_judge_reading(check, reading), reading) for reading in readings]
    return max(judged, key=lambda pair: (Verdict.from_word(pair[0].verdict), _excess(pair[1])))[0]


def _excess(reading: Reading) -> float:
    if reading.observed is None or reading.limit is None:
        return float("-inf")
    return reading.observed - reading.limit


def _judge_reading(check: Check, reading: Reading) -> CheckResult:
    observed, limit = reading.observed, reading.limit
    doubts = _doubts(check, limit, reading.silent, reading.samples, "observations")
    if reading.missing:
        doubts.append(f"{name_some(reading.missing)} do not count requests and errors")
    return _result(
        check,
        is_broken=observed is not None
        and limit is not None
        and reading.samples >= check.min_samples
        and not check.threshold.holds(observed, limit),
        doubts=doubts,
        text=f"{reading.said}, {limit_text(check.threshold, limit, reading.baseline)}",
        observed=observed,
        baseline=reading.baseline,
        limit=limit,
        samples=reading.samples,
    )


def _check_healthy(check: Check, window: Window, unhealthy: tuple[str, ...]) -> CheckResult:
    """Judge the share of healthy devices; it is broken when it is so whatever the unknown devices are."""
    condition, total = check.threshold, window.device_count
    limit = condition.limit_value(None)
    unknown = tuple(sorted({*window.silent, *window.undecided} - set(unhealthy)))
    healthy = total - len(unhealthy) - len(unknown)
    is_broken = (
        total > 0
        and limit is not None
        and window.sample_count >= check.min_samples
        and not share_holds(condition.operator, healthy, total, limit)
        and not share_holds(condition.operator, healthy + len(unknown), total, limit)
    )
    doubts = _doubts(check, limit, window.silent, window.sample_count, "samples")
    if window.undecided:
        doubts.append(f"{name_some(window.undecided)} do not say whether they are healthy")
    text = f"{healthy} of {total} devices healthy, {limit_text(condition, limit, None)}"
    if unhealthy:
        text += f"; unhealthy: {name_some(unhealthy)}"
    observed = healthy / total if total else None
    return _result(
        check,
        is_broken=is_broken,
        doubts=doubts,
        text=text,
        observed=observed,
        limit=limit,
        samples=window.sample_count,
    )


def _doubts(check: Check, limit: float | None, silent: tuple[str, ...], samples: int, noun: str) -> list[str]:
    """Name what keeps any check from passing."""
    doubts = ["there is no limit without a baseline"] if limit is None else []
    if silent:
        doubts.append(f"no fresh sample of this version from {name_some(silent)}")
    if samples < check.min_samples:
        doubts.append(f"{samples} {noun}, at least {check.min_samples} are needed")
    return doubts


def _result(
    check: Check,
    *,
    is_broken: bool,
    doubts: list[str],
    text: str,
    observed: float | None,
    limit: float | None,
    samples: int,
    baseline: float | None = None,
) -> CheckResult:
    verdict = Verdict.FAIL if is_broken else Verdict.INCONCLUSIVE if doubts else Verdict.PASS
    parts = [text, *doubts] if text else doubts
    return CheckResult(
        check=check.type,
        limit_expr=str(check.threshold),
        observed=observed,
        baseline=baseline,
        limit=limit,
        samples=samples,
        verdict=verdict.word,
        why="; ".join(parts)[:_WHY_MAX],
    )
