"""Where a fleet fetches from, why, and what that costs each line.

Source:
    Reference, "Artifact Distribution".
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.policy_distribution import DistributionPolicy, SourceName

REGISTRY_DEVICES_MAX: Final = 500
"""The reference advises a registry alone for fewer."""


class SiteShare(BaseModel):
    """What the devices of one site fetch.

    Attributes:
        site: Its name; empty for devices that name none.
        through: What they ask first.
        devices: How many.
        wan_bytes: What comes from the registry for them, if nothing fails.
        direct_bytes: What would come if each fetched from there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    through: SourceName
    devices: int
    wan_bytes: int
    direct_bytes: int


class Distribution(BaseModel):
    """Where the targets of a plan fetch from.

    Attributes:
        sources: In which order a device asks that has all of them.
        reason: Why.
        sites: Each with its share, those with most devices first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceName, ...]
    reason: str
    sites: tuple[SiteShare, ...]

    @property
    def wan_bytes(self) -> int:
        """What comes from the registry in all."""
        return sum(each.wan_bytes for each in self.sites)

    @property
    def direct_bytes(self) -> int:
        """What would come if each device fetched from there."""
        return sum(each.direct_bytes for each in self.sites)


Wanted = Mapping[tuple[str, str], int]
"""How many devices of a site want an artifact, by the site's name and the artifact's digest."""


def plan_distribution(
    policy: DistributionPolicy, wanted: Wanted, sizes: Mapping[str, int], cached_sites: Collection[str]
) -> Distribution:
    """Choose the sources for a plan's targets and say what each site's line carries.

    Args:
        policy: Names sources, or leaves the choice.
        wanted: The targets.
        sizes: What a device fetches of each artifact, with its manifest, in bytes.
        cached_sites: Sites that have a cache.
    """
    devices = sum(wanted.values())
    behind = sum(count for (site, _), count in wanted.items() if site in cached_sites)
    sources, reason = _choice(policy, devices, behind)
    by_site: dict[str, dict[str, int]] = defaultdict(dict)
    for (site, digest), count in wanted.items():
        by_site[site][digest] = count
    shares = []
    for site, counts in by_site.items():
        through: Literal["cache", "registry"] = (
            "cache" if sources[0] == "cache" and site in cached_sites else "registry"
        )
        direct_bytes = sum(sizes[digest] * count for digest, count in counts.items())
        once_bytes = sum(sizes[digest] for digest in counts)
        shares.append(
            SiteShare(
                site=site,
                through=through,
                devices=sum(counts.values()),
                wan_bytes=once_bytes if through == "cache" else direct_bytes,
                direct_bytes=direct_bytes,
            )
        )
    shares.sort(key=lambda each: (-each.devices, each.site))
    return Distribution(sources=sources, reason=reason, sites=tuple(shares))


def _choice(policy: DistributionPolicy, devices: int, behind: int) -> tuple[tuple[SourceName, ...], str]:
    if policy.sources != "auto":
        without = devices - behind
        told = f"; {without} of {devices} devices have no cache at their site and are told the registry"
        is_told = "registry" not in policy.sources and without
        return policy.sources, "the policy says so" + (told if is_told else "")
    if behind:
        return ("cache", "registry"), f"{behind} of {devices} devices are at sites with a cache"
    many = f"; for more than {REGISTRY_DEVICES_MAX} devices a cache for each site spares the registry's line"
    few = f"; for fewer than {REGISTRY_DEVICES_MAX} devices the registry alone is simplest"
    return ("registry",), "no site of theirs has a cache" + (many if devices > REGISTRY_DEVICES_MAX else few)
