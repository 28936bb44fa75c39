"""Checks of shares: how many devices are healthy, run what they should, or were reached at all."""

from dataclasses import dataclass

import numpy as np

from orchestrator.telemetry.devices import Names
from orchestrator.telemetry.evidence import Evidence, name_some, share_holds
from orchestrator.telemetry.judgement import doubts, result
from orchestrator.telemetry.values import limit_text
from orchestrator.telemetry.window import Window
from schemas.documents import CheckResult
from schemas.policy import Check


@dataclass(frozen=True, slots=True)
class _Parted:
    """The judged devices of a window, parted: ``undecided`` do not say."""

    window: Window
    bad: Names
    undecided: Names


def check_health(check: Check, evidence: Evidence) -> CheckResult:
    """Judge how many devices say, in the latest sample, that they are healthy."""
    window = evidence.window(check.window)
    parted = _Parted(window, window.unhealthy, window.undecided)
    return _judge(check, parted, good="healthy", bad="unhealthy", lack="say whether they are healthy")


def check_version_match(check: Check, evidence: Evidence) -> CheckResult:
    """Judge how many devices name, in a fresh sample, the version they were given."""
    devices = evidence.deployed
    window = evidence.monitor.window(devices, version=None, seconds=check.window, now=evidence.now)
    is_right, is_named = evidence.monitor.runs(devices, evidence.version)
    fresh = window.fresh.places
    bad, undecided = fresh[is_named[fresh] & ~is_right[fresh]], fresh[~is_named[fresh]]
    parted = _Parted(window, Names(devices, bad), Names(devices, undecided))
    return _judge(check, parted, good=f"on version {evidence.version}", bad="on another", lack="name a version")


def _judge(check: Check, parted: _Parted, *, good: str, bad: str, lack: str) -> CheckResult:
    """Judge the share of good devices; it is broken when it is so whatever the unknown devices are."""
    window, condition, limit = parted.window, check.threshold, check.threshold.limit_value(None)
    total, unknown = window.device_count, _unknown_count(parted)
    well = total - len(parted.bad) - unknown
    is_broken = (
        total > 0
        and limit is not None
        and window.sample_count >= check.min_samples
        and not share_holds(condition.operator, well, total, limit)
        and not share_holds(condition.operator, well + unknown, total, limit)
    )
    missing = doubts(check, limit, window, window.sample_count, "samples")
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
        samples=window.sample_count,
    )


def _unknown_count(parted: _Parted) -> int:
    """Count the devices of which nothing is known, and that are not bad for certain."""
    window = parted.window
    unknown = np.zeros(window.device_count, dtype=np.bool_)
    for names in (window.silent, window.suspect, parted.undecided):
        unknown[names.places] = True
    unknown[parted.bad.places] = False
    return int(unknown.sum())


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
