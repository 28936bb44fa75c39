"""Checks of each group against its own baseline: rates, latencies, processor use, quality."""

from orchestrator.telemetry.evidence import Evidence, name_some
from orchestrator.telemetry.judgement import doubts, result
from orchestrator.telemetry.measures import Reading, read_groups
from orchestrator.telemetry.values import limit_text
from schemas.documents import CheckResult
from schemas.policy import CHECK_METRICS, Check
from schemas.verdicts import Verdict


def check_groups(check: Check, evidence: Evidence) -> CheckResult:
    """Judge each group and show the worst: by verdict, then by distance to the limit."""
    readings = list(read_groups(CHECK_METRICS[check.type], check.threshold, evidence, check.window))
    if not readings:
        return result(check, is_broken=False, doubts=["no devices"], text="", observed=None, limit=None, samples=0)
    judged = [(_judge(check, reading), reading) for reading in readings]
    return max(judged, key=lambda pair: (Verdict.from_word(pair[0].verdict), _excess(check, pair[1])))[0]


def _excess(check: Check, reading: Reading) -> float:
    observed, limit = reading.observation.value, reading.limit
    if observed is None or limit is None:
        return float("-inf")
    return limit - observed if check.threshold.operator in {">", ">="} else observed - limit


def _judge(check: Check, reading: Reading) -> CheckResult:
    shown, limit = reading.observation, reading.limit
    missing = doubts(check, limit, reading.window, shown.samples, "observations")
    if shown.missing:
        missing.append(f"{name_some(shown.missing)} do not {shown.lack}")
    return result(
        check,
        is_broken=shown.value is not None
        and limit is not None
        and shown.samples >= check.min_samples
        and not check.threshold.holds(shown.value, limit),
        doubts=missing,
        text=f"{reading.said}, {limit_text(check.threshold, limit, shown.normal)}",
        observed=shown.value,
        baseline=shown.normal,
        limit=limit,
        samples=shown.samples,
    )
