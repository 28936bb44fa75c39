"""Checks of shares: how many devices are healthy, run what they should, or were reached at all."""

from dataclasses import dataclass
from typing import Final

from orchestrator.telemetry.evidence import Evidence, limit_text, name_some, share_holds
from orchestrator.telemetry.judgement import doubts, result
from schemas.messages import CheckResult
from schemas.policy import Check

BAD_SAMPLES_MAX: Final = 2
"""With more bad samples than this in the window, a device is not healthy, whatever it says of itself."""

_BAD_SAMPLES_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Parted:
    """The judged devices, parted: ``silent`` have no fresh sample, ``undecided`` do not say."""

    total: int
    bad: tuple[str, ...]
    silent: tuple[str, ...]
    undecided: tuple[str, ...]
    samples: int


def check_application_health(check: Check, evidence: Evidence) -> CheckResult:
    """Judge how many applications say, in the latest sample, that they are healthy."""
    return _check_healthy(check, evidence, set())


def check_device_health(check: Check, evidence: Evidence) -> CheckResult:
    """Judge the same, where a device whose samples contradict each other is not healthy either."""
    counted = evidence.sums(check.window or _BAD_SAMPLES_SECONDS)
    return _check_healthy(check, evidence, {device for device, sums in counted.items() if sums.bad > BAD_SAMPLES_MAX})


def _check_healthy(check: Check, evidence: Evidence, contradictory: set[str]) -> CheckResult:
    window = evidence.window(evidence.deployed, check.window)
    bad = tuple(sorted({*window.unhealthy, *contradictory}))
    parted = _Parted(window.device_count, bad, window.silent, window.undecided, window.sample_count)
    return _judge(check, parted, good="healthy", bad="unhealthy", lack="say whether they are healthy")


def check_version_match(check: Check, evidence: Evidence) -> CheckResult:
    """Judge how many devices name, in a fresh sample, the version they were given."""
    window = evidence.monitor.window(evidence.deployed, version=None, seconds=check.window, now=evidence.now)
    silent = set(window.silent)
    named = {device: evidence.monitor.version_of(device) for device in evidence.deployed if device not in silent}
    parted = _Parted(
        window.device_count,
        tuple(sorted(device for device, its in named.items() if its is not None and its != evidence.version)),
        window.silent,
        tuple(sorted(device for device, its in named.items() if its is None)),
        window.sample_count,
    )
    return _judge(check, parted, good=f"on version {evidence.version}", bad="on another", lack="name a version")


def _judge(check: Check, parted: _Parted, *, good: str, bad: str, lack: str) -> CheckResult:
    """Judge the share of good devices; it is broken when it is so whatever the unknown devices are."""
    condition, total, limit = check.threshold, parted.total, check.threshold.limit_value(None)
    unknown = {*parted.silent, *parted.undecided} - set(parted.bad)
    well = total - len(parted.bad) - len(unknown)
    is_broken = (
        total > 0
        and limit is not None
        and parted.samples >= check.min_samples
        and not share_holds(condition.operator, well, total, limit)
        and not share_holds(condition.operator, well + len(unknown), total, limit)
    )
    missing = doubts(check, limit, parted.silent, parted.samples, "samples")
    if parted.undecided:
        missing.append(f"{name_some(parted.undecided)} do not {lack}")
    text = f"{well} of {total} devices {good}, {limit_text(condition, limit, None)}"
    if parted.bad:
        text += f"; {bad}: {name_some(parted.bad)}"
    observed = well / total if total else None
    return result(
        check,
        is_broken=is_broken,
        doubts=missing,
        text=text,
        observed=observed,
        limit=limit,
        samples=parted.samples,
    )


def check_fleet_coverage(check: Check, evidence: Evidence) -> CheckResult:
    """Judge how many of the targets run the version for good. It takes no samples; of no targets nothing is shown."""
    condition, limit = check.threshold, check.threshold.limit_value(None)
    reached, total = evidence.coverage or (0, 0)
    missing = [] if total > 0 else ["no targets"]
    if limit is None:
        missing.append("there is no limit without a baseline")
    return result(
        check,
        is_broken=limit is not None and total > 0 and not share_holds(condition.operator, reached, total, limit),
        doubts=missing,
        text=f"{reached} of {total} targets run it for good, {limit_text(condition, limit, None)}",
        observed=reached / total if total > 0 else None,
        limit=limit,
        samples=total,
    )
