"""A plan in an answer's size: what an operator reads before the start."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from orchestrator.core.releases import StoredRelease
from orchestrator.planning.distribution import Distribution
from orchestrator.planning.plan import Plan
from schemas.policy import Policy

SHOWN_MAX: Final = 200
"""Names of one kind in a summary; whoever counts all finds the number beside them."""
_REASONS_MAX: Final = 40
_SITES_MAX: Final = 40
_TEXT_MAX: Final = 160


def plan_summary(name: str, plan: Plan, release: StoredRelease, policy: Policy) -> dict[str, Any]:
    """Return a plan's shape: waves with their sizes, the canary with reasons, who is left out and why."""
    soaks = {wave.name: wave.soak_minutes * 60 for wave in policy.rollout.waves}
    soaks["canary"] = policy.rollout.canary.watch_seconds
    return {
        "rollout": name,
        "release": release.release,
        "version": release.version,
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "strategy": plan.strategy,
        "targets": plan.target_count,
        "offline": plan.offline_count,
        "estimated_seconds": plan.estimated_seconds,
        "waves": [
            {"wave": wave.name, "devices": len(wave.members), "soak_seconds": soaks.get(wave.name, 0.0)}
            for wave in plan.waves
        ],
        "canary": {device: reason[:_TEXT_MAX] for device, reason in islice(plan.chosen.items(), SHOWN_MAX)},
        "excluded": _counted(plan.excluded),
        "not_canary": _counted(plan.not_canary),
        "dropped_waves": list(plan.dropped_waves),
        "uncovered": list(plan.uncovered[:SHOWN_MAX]),
        "uncovered_count": len(plan.uncovered),
        "warnings": list(plan.warnings),
    }


def distribution_summary(distribution: Distribution) -> dict[str, Any]:
    """Return where devices fetch from and why, with the largest sites one by one."""
    return {
        "sources": list(distribution.sources),
        "reason": distribution.reason,
        "wan_bytes": distribution.wan_bytes,
        "direct_bytes": distribution.direct_bytes,
        "bus_bytes": distribution.bus_bytes,
        "sites": [each.model_dump(mode="json") for each in distribution.sites[:_SITES_MAX]],
        "site_count": len(distribution.sites),
    }


def _counted(reasons: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how many devices each reason holds for, the most frequent first and the rare ones together."""
    counts = Counter[str]()
    for reason, devices in reasons.items():
        counts[reason[:_TEXT_MAX]] += len(devices)
    told = dict(counts.most_common(_REASONS_MAX))
    rest = len(counts) - len(told)
    return {**told, f"{rest} other reasons": counts.total() - sum(told.values())} if rest else told


def fitted(document: Mapping[str, Any], bytes_max: int, dispensable: Sequence[str]) -> dict[str, Any]:
    """Return ``document`` with empty values for as many of ``dispensable``, in order, as it must go without.

    Args:
        document: A JSON object.
        bytes_max: What it may take as ASCII.
        dispensable: Keys of mappings and lists; those that were emptied are named under ``shortened``.
    """
    fitting = dict(document)
    for count, key in enumerate(dispensable):
        if len(json.dumps(fitting, separators=(",", ":"))) <= bytes_max:
            break
        fitting |= {key: type(document[key])(), "shortened": list(dispensable[: count + 1])}
    return fitting
