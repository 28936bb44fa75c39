"""Where a fleet fetches from, why, and what that costs each line.

Source:
    Reference, "Artifact Distribution".
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.messages import FetchLimits
from schemas.policy_distribution import DistributionPolicy, SourceName

DAY_SECONDS: Final = 24 * 3600.0
REGISTRY_DEVICES_MAX: Final = 500
"""The reference advises a registry alone for fewer."""


class SiteShare(BaseModel):
    """What the devices of one site fetch.

    Attributes:
        site: Its name; empty for devices that name none.
        through: What they ask first.
        devices: How many.
        giving: How many of them give the others what they have, where the plan makes use of that.
        taking: How many of them take pieces over the broker, where the plan makes use of that.
        without_http: How many of them take nothing else, whatever the plan makes use of.
        over_bus: How many of them fetch over the broker, if nothing fails.
        bus_bytes: What comes there for those.
        wan_bytes: What comes from the registry for them, if nothing fails.
        direct_bytes: What would come if each fetched from there.
        limits: What one of them may take of the line.
        fetch_seconds: How long the largest of its archives takes one device at that rate, from when a window opens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    site: str
    through: SourceName
    devices: int
    giving: int = 0
    taking: Annotated[int, Field(exclude_if=lambda taking: not taking)] = 0
    without_http: Annotated[int, Field(exclude_if=lambda without: not without)] = 0
    over_bus: Annotated[int, Field(exclude_if=lambda over_bus: not over_bus)] = 0
    bus_bytes: Annotated[int, Field(exclude_if=lambda size: not size)] = 0
    wan_bytes: int
    direct_bytes: int
    limits: Annotated[FetchLimits | None, Field(exclude_if=lambda limits: limits is None)] = None
    fetch_seconds: Annotated[float | None, Field(exclude_if=lambda seconds: seconds is None)] = None


class Distribution(BaseModel):
    """Where the targets of a plan fetch from.

    Attributes:
        sources: In which order a device asks that has all of them.
        reason: Why.
        sites: Each with its share, those with most devices first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    sources: tuple[SourceName, ...]
    reason: str
    sites: tuple[SiteShare, ...]

    @property
    def wan_bytes(self) -> int:
        """What comes from the registry in all."""
        return sum(each.wan_bytes for each in self.sites)

    @property
    def bus_bytes(self) -> int:
        """What comes over the broker in all."""
        return sum(each.bus_bytes for each in self.sites)

    @property
    def direct_bytes(self) -> int:
        """What would come if each device fetched from there."""
        return sum(each.direct_bytes for each in self.sites)


Wanted = Mapping[tuple[str, str], int]
"""How many devices of a site want an artifact, by the site's name and the artifact's digest."""


class Takers(NamedTuple):
    """The targets that take pieces over the broker, among those that want an artifact.

    Attributes:
        all: Those that do.
        without_http: Those of them that take nothing else.
    """

    all: Wanted
    without_http: Wanted


NO_TAKERS: Final = Takers({}, {})


class Size(NamedTuple):
    """What a device fetches: an archive, or less in chunks, and the manifest, which no peer gives."""

    artifact_bytes: int
    manifest_bytes: int


def plan_distribution(
    policy: DistributionPolicy,
    wanted: Wanted,
    sizes: Mapping[str, Size],
    cached_sites: Collection[str],
    giving: Mapping[str, int] | None = None,
    *,
    limits: Mapping[str, FetchLimits] | None = None,
    takers: Takers = NO_TAKERS,
) -> Distribution:
    """Choose the sources for a plan's targets and say what each site's line carries.

    Args:
        policy: Names sources, or leaves the choice.
        wanted: The targets.
        sizes: Of each artifact.
        cached_sites: Sites that have a cache.
        giving: How many targets of a site would give the others of it what they have; sites that are missing have none.
        limits: What one device of a site may take of its line.
        takers: Which targets take pieces over the broker.
    """
    giving, limits = giving or {}, limits or {}
    devices = sum(wanted.values())
    behind = sum(count for (site, _), count in wanted.items() if site in cached_sites)
    sources, reason = _choice(policy, devices, behind, sum(giving.values()), sum(takers.without_http.values()))
    by_site: dict[str, dict[str, int]] = defaultdict(dict)
    for (site, digest), count in wanted.items():
        by_site[site][digest] = count
    shares = []
    for site, counts in by_site.items():
        alone, taking = (
            {it: of[site, it] for it in counts if of.get((site, it))} for of in (takers.without_http, takers.all)
        )
        without = sum(alone.values())
        if "mqtt" not in sources:
            alone, taking = {}, {}
        has = {"cache": site in cached_sites, "peers": bool(giving.get(site)), "registry": True, "mqtt": bool(taking)}
        order = [name for name in sources if has[name]] or ["registry"]
        over_http = [name for name in order if name != "mqtt"] or ["registry"]
        on_bus = taking if order[0] == "mqtt" else alone
        first = policy.peers.first if over_http[0] == "peers" else None
        once = "cache" in over_http[:2] if first is not None else over_http[0] == "cache"
        fetching = {it: count - on_bus.get(it, 0) for it, count in counts.items() if count > on_bus.get(it, 0)}
        shares.append(
            SiteShare(
                site=site,
                through=order[0] if fetching else "mqtt",
                devices=sum(counts.values()),
                giving=giving.get(site, 0) if "peers" in sources else 0,
                taking=sum(taking.values()),
                without_http=without,
                over_bus=sum(on_bus.values()),
                bus_bytes=sum(sum(sizes[it]) * count for it, count in on_bus.items()),
                wan_bytes=sum(_wan_bytes(sizes[it], count, first=first, once=once) for it, count in fetching.items()),
                direct_bytes=sum(sum(sizes[it]) * count for it, count in counts.items()),
                limits=limits.get(site),
                fetch_seconds=fetch_seconds(limits.get(site), max(sizes[it].artifact_bytes for it in counts)),
            )
        )
    shares.sort(key=lambda each: (-each.devices, each.site))
    return Distribution(sources=sources, reason=reason, sites=tuple(shares))


def fetch_seconds(limits: FetchLimits | None, size_bytes: int) -> float | None:
    """Return how long ``size_bytes`` take one device, from the moment a window opens; None where no rate is given."""
    if limits is None or limits.bytes_per_second is None:
        return None
    seconds, open_seconds = size_bytes / limits.bytes_per_second, window_seconds(limits)
    return seconds // open_seconds * DAY_SECONDS + seconds % open_seconds


def window_seconds(limits: FetchLimits) -> float:
    """Return for how long of a day devices may fetch; daylight saving left out."""
    if limits.window is None:
        return DAY_SECONDS
    start, end = (int(text[:2]) * 3600 + int(text[3:]) * 60 for text in (limits.window.start, limits.window.end))
    return float((end - start) % int(DAY_SECONDS)) or DAY_SECONDS


def _wan_bytes(size: Size, count: int, *, first: int | None, once: bool) -> int:
    """Say what the registry gives of one artifact: once, to those who go first, or to everybody."""
    if once:
        return sum(size)
    return size.artifact_bytes * min(count, count if first is None else first) + size.manifest_bytes * count


def _choice(
    policy: DistributionPolicy, devices: int, behind: int, giving: int, without_http: int
) -> tuple[tuple[SourceName, ...], str]:
    sources, reason = _choice_over_http(policy, devices, behind, giving)
    if not without_http:
        return sources, reason
    told = f"{reason}; {without_http} of {devices} devices have no HTTP"
    if policy.sources == "auto":
        return (*sources, "mqtt"), f"{told}, only mqtt"
    return sources, told if "mqtt" in sources else f"{told}, and the policy names no mqtt"


def _choice_over_http(
    policy: DistributionPolicy, devices: int, behind: int, giving: int
) -> tuple[tuple[SourceName, ...], str]:
    give = f"{giving} of {devices} devices give the others of their site what they have"
    if policy.sources != "auto":
        reason = f"the policy says so; {give}" if "peers" in policy.sources else "the policy says so"
        without = devices - behind
        told = f"; {without} of {devices} devices have no cache at their site and are told the registry"
        is_told = policy.sources == ("cache",) and without
        return policy.sources, reason + (told if is_told else "")
    if behind:
        return ("cache", "registry"), f"{behind} of {devices} devices are at sites with a cache"
    many = devices > REGISTRY_DEVICES_MAX
    if many and giving * 2 >= devices:
        return ("peers", "registry"), f"no site of theirs has a cache, and {give}"
    advice = (
        f"; for more than {REGISTRY_DEVICES_MAX} devices a cache for each site spares the registry's line, or devices "
        "that give each other what they have ([peers] in their settings)"
    )
    few = f"; for fewer than {REGISTRY_DEVICES_MAX} devices the registry alone is simplest"
    return ("registry",), "no site of theirs has a cache" + (advice if many else few)
