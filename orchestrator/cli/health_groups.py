"""Groups of devices as their summaries show them, the worst first: pure functions from documents to text."""

from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.terminal import command_lines, words
from orchestrator.telemetry.values import format_value
from schemas.codec import decode
from schemas.conditions import Metric
from schemas.documents import GroupSummary
from schemas.errors import DecodeError
from schemas.topics import Address, Kind

HEARD: Final = (Kind.GROUP_SUMMARY, Kind.ORCHESTRATOR_AVAILABILITY)
"""What is subscribed to."""
_COLUMNS: Final = ("GROUP", "DEVICES", "FRESH", "HEALTHY", "REQUESTS", "ERRORS", "P50", "P95", "P99")


@dataclass
class Groups:
    """What was seen so far of the groups' summaries.

    Attributes:
        orchestrator: What its availability says; empty while that is unknown.
        trouble: What is wrong with the connection; empty while it holds.
    """

    summaries: dict[str, GroupSummary] = field(default_factory=dict)
    orchestrator: str = ""
    trouble: str = ""

    def hear(self, address: Address, payload: bytes) -> None:
        """Take one message; a summary that cannot be read, or was cleared, is left out."""
        if address.kind is Kind.ORCHESTRATOR_AVAILABILITY:
            self.orchestrator = payload.decode("ascii", "replace")
        elif address.kind is Kind.GROUP_SUMMARY:
            summary = read_summary(payload)
            if summary is None:
                self.summaries.pop(address.ids["group"], None)
            else:
                self.summaries[address.ids["group"]] = summary

    def worst_first(self) -> list[GroupSummary]:
        """Return the groups by the share of unhealthy devices, by error rate, by the share of silent devices."""
        return sorted(self.summaries.values(), key=_badness)

    @property
    def doubts(self) -> list[str]:
        """What makes the numbers doubtful."""
        offline = "the orchestrator is offline: these are its last words, however old"
        return [*([self.trouble] if self.trouble else []), *([offline] if self.orchestrator == "offline" else [])]


def read_summary(payload: bytes) -> GroupSummary | None:
    """Read a summary; None for what is none, or another version's."""
    try:
        return decode(GroupSummary, payload)
    except DecodeError:
        return None


def _badness(each: GroupSummary) -> tuple[float, float, float, float, str]:
    devices = max(each.devices, 1)
    unhealthy, silent = (each.fresh - each.healthy) / devices, (each.devices - each.fresh) / devices
    return -unhealthy, -(each.error_rate or 0.0), -silent, -(each.latency_p95_seconds or 0.0), each.group


def render_groups(groups: Groups) -> RenderableType:
    """Show the groups, of which there is one at least, the worst first, and what to type next."""
    doubts = [words(f"⚠ {each}", "bold red") for each in groups.doubts]
    worst = groups.worst_first()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True, justify="left" if column == "GROUP" else "right")
    for each in worst:
        table.add_row(
            words(each.group, "bold"), str(each.devices), _part(each.fresh, each.devices, "yellow"),
            _part(each.healthy, each.fresh, "red"), f"{each.requests:,}",
            words(rate_text(each.error_rate), "red" if each.error_rate else ""),
            latency_text(each.latency_p50_seconds), latency_text(each.latency_p95_seconds),
            latency_text(each.latency_p99_seconds),
        )  # fmt: skip
    return Group(*doubts, table, Text(""), command_lines([f"tidegate health top --group {worst[0].group}"]))


def _part(count: int, of: int, style: str) -> Text:
    return words(count, style if count < of else "")


def group_line(each: GroupSummary, at: str) -> Text:
    """Return a summary as one line; ``at`` is when it came."""
    percentiles = {"p50": each.latency_p50_seconds, "p95": each.latency_p95_seconds, "p99": each.latency_p99_seconds}
    latencies = "  ".join(f"{name} {latency_text(seconds)}" for name, seconds in percentiles.items())
    traffic = f"{each.requests:,} requests  {rate_text(each.error_rate)} errors  {latencies}"
    text = f"{each.group}  {each.fresh}/{each.devices} fresh  {each.healthy}/{each.fresh} healthy  {traffic}"
    style = "red" if each.healthy < each.fresh else "yellow" if each.fresh < each.devices else ""
    return words(f"{at}  ", "dim") + words(text, style)


def rate_text(rate: float | None) -> str:
    """Write an error rate; ``-`` where it is not known."""
    return "-" if rate is None else format_value(Metric.ERROR_RATE, rate)


def latency_text(seconds: float | None) -> str:
    """Write a latency; ``-`` where it is not known."""
    return "-" if seconds is None else format_value(Metric.LATENCY_P95, seconds)
