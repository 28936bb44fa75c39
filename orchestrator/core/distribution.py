"""Whom each device of a rollout is told to fetch from: chosen when it is planned, and a fact from its start on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.releases import StoredRelease
from orchestrator.core.state import State
from orchestrator.planning.distribution import Distribution, Size, Takers, plan_distribution
from orchestrator.planning.plan import Plan
from schemas.errors import FleetError
from schemas.messages import FetchLimits
from schemas.pieces import MQTT_BASE
from schemas.policy import Policy

Caches = Mapping[str, tuple[str, ...]]
"""Base addresses of the caches of each site that has some."""


Limits = Mapping[str, FetchLimits]
"""What each device of a site may take of its line, for the sites that limit it."""


class SitesError(FleetError):
    """The operator's fault: a file of sites that cannot be used. The text names line and remedy."""


def choose_distribution(
    state: State,
    plan: Plan,
    release: StoredRelease,
    policy: Policy,
    caches: Caches,
    *,
    limits: Limits = MappingProxyType({}),
) -> Distribution:
    """Say where the targets of ``plan`` fetch from, and what that costs each site's line."""
    rows = state.devices.rows(plan.targets)
    codes = state.devices.column(Device.info)[rows]
    gives = state.devices.column(Device.peer_url)[rows] != 0  # The empty text is the first.
    infos = state.devices.vocabularies["info"].values
    wanted: Counter[tuple[str, str]] = Counter()
    taking: Counter[tuple[str, str]] = Counter()
    without_http: Counter[tuple[str, str]] = Counter()
    for code, count in enumerate(np.bincount(codes).tolist()):
        stored = release.artifact_for(infos[code].arch) if count else None
        if stored is None:
            continue
        place, transports = (infos[code].site or "", stored.artifact_sha256), infos[code].transports
        wanted[place] += count
        if "mqtt" in transports:
            taking[place] += count
            without_http[place] += count * ("http" not in transports)
    giving: Counter[str] = Counter()
    for code, count in enumerate(np.bincount(codes[gives]).tolist()):
        if count and infos[code].site:
            giving[infos[code].site] += count
    sizes = {
        each.artifact_sha256: Size(each.artifact_size_bytes, each.manifest_size_bytes)
        for each in release.by_arch.values()
    }
    return plan_distribution(
        policy.distribution, wanted, sizes, caches.keys(), giving, limits=limits, takers=Takers(taking, without_http)
    )


def bases_by_site(distribution: Distribution, registry_url: str, caches: Caches) -> dict[str, tuple[str, ...]]:
    """Return the base addresses for devices of each site, in order; a site that is missing has the registry."""
    sources = distribution.sources
    found: dict[str, tuple[str, ...]] = {}
    if "cache" in sources:
        found = {site: _bases(sources, registry_url, theirs) for site, theirs in caches.items()}
    for each in distribution.sites:
        if each.taking:
            bases = _bases(sources, registry_url, caches.get(each.site, ()), MQTT_BASE)
            # Whoever takes nothing over the broker is not left without a source.
            has_all = each.taking == each.devices or bases != (MQTT_BASE,)
            found[each.site] = bases if has_all else (*bases, registry_url)
    return found


def peer_ranks(distribution: Distribution, registry_url: str, caches: Caches) -> dict[str, int]:
    """Return the sites whose devices give each other what they have, with how many base addresses are asked before."""
    sources = distribution.sources
    if "peers" not in sources:
        return {}
    before = sources[: sources.index("peers")]
    return {
        each.site: len(_bases(before, registry_url, caches.get(each.site, ()), *((MQTT_BASE,) if each.taking else ())))
        for each in distribution.sites
        if each.giving
    }


def _bases(sources: Iterable[str], registry_url: str, caches: tuple[str, ...], *over_the_bus: str) -> tuple[str, ...]:
    bases = {"registry": (registry_url,), "cache": caches, "mqtt": over_the_bus}
    return tuple(base for name in sources for base in bases.get(name, ()))
