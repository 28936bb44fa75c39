"""Whom each device of a rollout is told to fetch from: chosen when it is planned, and a fact from its start on."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.releases import StoredRelease
from orchestrator.core.state import State
from orchestrator.planning.distribution import Distribution, plan_distribution
from orchestrator.planning.plan import Plan
from schemas.errors import FleetError
from schemas.policy import Policy

Caches = Mapping[str, tuple[str, ...]]
"""Base addresses of the caches of each site that has some."""


class SitesError(FleetError):
    """The operator's fault: a file of sites that cannot be used. The text names line and remedy."""


def choose_distribution(
    state: State, plan: Plan, release: StoredRelease, policy: Policy, caches: Caches
) -> Distribution:
    """Say where the targets of ``plan`` fetch from, and what that costs each site's line."""
    codes = state.devices.column(Device.info)[state.devices.rows(plan.targets)]
    infos = state.devices.vocabularies["info"].values
    wanted: Counter[tuple[str, str]] = Counter()
    for code, count in enumerate(np.bincount(codes).tolist()):
        stored = release.artifact_for(infos[code].arch) if count else None
        if stored is not None:
            wanted[infos[code].site or "", stored.artifact_sha256] += count
    sizes = {
        each.artifact_sha256: each.artifact_size_bytes + each.manifest_size_bytes for each in release.by_arch.values()
    }
    return plan_distribution(policy.distribution, wanted, sizes, caches.keys())


def bases_by_site(distribution: Distribution, registry_url: str, caches: Caches) -> dict[str, tuple[str, ...]]:
    """Return the base addresses for devices of each site, in order; a site that is missing has the registry."""
    if "cache" not in distribution.sources:
        return {}
    bases = {"registry": (registry_url,)}
    return {
        site: tuple(base for name in distribution.sources for base in (bases | {"cache": theirs})[name])
        for site, theirs in caches.items()
    }
