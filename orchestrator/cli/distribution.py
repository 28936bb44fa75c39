"""Where a plan's devices fetch from, as people read it before they start it."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer
from orchestrator.cli.sizes import size_text
from orchestrator.cli.terminal import words
from schemas.messages import FetchLimits
from schemas.times import format_duration

_SITES_SHOWN_MAX = 10


class SiteShare(Answer):
    """What the devices of one site fetch."""

    site: str = ""
    through: str = ""
    devices: int = 0
    giving: int = 0
    over_bus: int = 0
    bus_bytes: int = 0
    wan_bytes: int = 0
    direct_bytes: int = 0
    limits: FetchLimits | None = None
    fetch_seconds: float | None = None


class Distribution(Answer):
    """Where a plan's devices fetch from."""

    sources: tuple[str, ...] = ()
    reason: str = ""
    wan_bytes: int = 0
    direct_bytes: int = 0
    bus_bytes: int = 0
    sites: tuple[SiteShare, ...] = ()
    site_count: int = 0


def render_distribution(distribution: Distribution) -> list[RenderableType]:
    """Show it; nothing for an orchestrator that says nothing of it."""
    if not distribution.sources:
        return []
    order = ", then ".join(distribution.sources)
    parts: list[RenderableType] = [Text(""), words(f"Fetched from {order}: {distribution.reason}")]
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for _ in range(3):
        table.add_column()
    for each in distribution.sites[:_SITES_SHOWN_MAX]:
        table.add_row(words(each.site or "no site"), words(f"{each.devices} devices"), words(_line(each)))
    more = distribution.site_count - len(distribution.sites[:_SITES_SHOWN_MAX])
    if more > 0:
        table.add_row("", "", words(f"and {more} more sites; --json shows more", "dim"))
    saved = distribution.direct_bytes > distribution.wan_bytes
    instead = f" instead of {size_text(distribution.direct_bytes)}" if saved else ""
    carried = f", and {size_text(distribution.bus_bytes)} over the broker" if distribution.bus_bytes else ""
    in_all = f"    in all {size_text(distribution.wan_bytes)} from the registry{instead}{carried}, as archives"
    return [*parts, table, words(in_all, "dim")]


def _line(share: SiteShare) -> str:
    return _through(share) + ("" if share.limits is None else f"; {_limited(share, share.limits)}")


def _limited(share: SiteShare, limits: FetchLimits) -> str:
    """Say what one device may take, and how long an archive takes it then."""
    rate = "" if limits.bytes_per_second is None else f"{size_text(limits.bytes_per_second)}/s for each device"
    window = limits.window
    hours = "" if window is None else f"from {window.start} to {window.end} {window.time_zone}"
    took = "" if share.fetch_seconds is None else f": {format_duration(round(share.fetch_seconds))}"
    opens = " from when that begins" if took and hours else ""
    return f"{' '.join(part for part in (rate, hours) if part)}{took}{opens}"


def _through(share: SiteShare) -> str:
    if not share.over_bus:
        return _over_http(share)
    on_bus = f"{share.over_bus} over the broker: {size_text(share.bus_bytes)}"
    return on_bus if share.over_bus == share.devices else f"{on_bus}; the others {_over_http(share)}"


def _over_http(share: SiteShare) -> str:
    line = f"{size_text(share.wan_bytes)} over the WAN instead of {size_text(share.direct_bytes)}"
    if share.through == "cache":
        return f"through its cache: {line}"
    if share.through == "peers":
        return f"from each other, {share.giving} give: {line}"
    return f"from the registry: {size_text(share.wan_bytes)}"
