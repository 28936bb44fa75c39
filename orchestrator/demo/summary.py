"""What the demo ends with: what ran where and for how long, what was prevented, and where to look."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.demo.observer import Observed


def summarize(seen: Observed, devices: Sequence[str], *, now: float, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary object.

    Args:
        seen: What the observer saw.
        devices: All devices of the demo.
        now: The observer's clock, in seconds.
        facts: What only the story knows (versions, seconds, places); copied in.
    """
    final = {name: seen.reported[name].installed_version for name in devices if name in seen.reported}
    rollbacks = [
        {
            "rollout": rollout,
            "trigger": order.trigger,
            "scope": order.scope,
            "devices": list(order.devices),
            "evidence": [check.model_dump(mode="json") for check in order.evidence],
        }
        for rollout, orders in seen.rollbacks.items()
        for order in orders
    ]
    return {
        **facts,
        "devices": len(devices),
        "ever_ran": {version: sorted(names) for version, names in _ever_ran(seen).items()},
        "exposed_seconds": {version: round(seconds, 1) for version, seconds in _longest(seen, now).items()},
        "rollbacks": rollbacks,
        "final_versions": final,
        "final_counts": {
            version: list(final.values()).count(version) for version in sorted(set(map(str, final.values())))
        },
        "outcomes": {rollout: status.phase for rollout, status in seen.status.items()},
        "audit_records_seen": seen.audit_count,
    }


def _ever_ran(seen: Observed) -> dict[str, set[str]]:
    ran: dict[str, set[str]] = {}
    for device, exposures in seen.exposures.items():
        for exposure in exposures:
            ran.setdefault(exposure.version, set()).add(device)
    return ran


def _longest(seen: Observed, now: float) -> dict[str, float]:
    """For each version, the longest time that one device ran it."""
    longest: dict[str, float] = {}
    for exposures in seen.exposures.values():
        for exposure in exposures:
            seconds = (exposure.until if exposure.until is not None else now) - exposure.since
            longest[exposure.version] = max(longest.get(exposure.version, 0.0), seconds)
    return longest


def closing_words(summary: Mapping[str, Any], program: str) -> str:
    """Say for people what the demo showed and where to look; ``program`` is how they call us."""
    bad = summary["bad_version"]
    exposed = summary["ever_ran"].get(bad, [])
    seconds = summary["exposed_seconds"].get(bad, 0.0)
    counts = summary["final_counts"].items()
    final = ", ".join(f"{count} of {summary['devices']} on {version}" for version, count in counts)
    return "\n".join(
        (
            "",
            f"Prevented: {len(exposed)} of {summary['devices']} devices ever ran {bad}, for {seconds:.0f} s at most.",
            f"Now: {final}, after {summary['seconds']:.0f} s.",
            f"Report: {summary['report']}",
            f"Audit: {program} audit verify --folder {Path(summary['journal']).parent}",
            f"Next time, look for yourself while it runs: {summary['look']}",
        )
    )
