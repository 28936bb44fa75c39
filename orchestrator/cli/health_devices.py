"""The health of single devices for people: a line for each sample, and a table of the worst."""

from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, Data, read
from orchestrator.cli.health_groups import rate_text
from orchestrator.cli.terminal import command_lines, words

_COLUMNS: Final = ("DEVICE", "GROUP", "VERSION", "STATE", "REQUESTS", "ERRORS", "RESTARTS", "WHY")
_WIDE_ONLY: Final = frozenset({"GROUP", "REQUESTS", "RESTARTS"})
_NARROW: Final = 100
"""Below so many columns, those are left out."""


class _Device(Answer):
    device: str
    group: str
    version: str | None = None
    healthy: bool | None = None
    down_seconds: float | None = None
    bad_samples: int = 0
    silent: bool = False
    requests: int = 0
    error_rate: float | None = None
    restarts: int = 0
    why: str = ""


class _Page(Answer):
    devices: tuple[_Device, ...]
    count: int
    unhealthy: int = 0
    suspect: int = 0
    silent: int = 0


@dataclass
class Worst:
    """What the orchestrator said last of the worst devices.

    Attributes:
        data: Its answer.
        where: Of which devices, in words.
        trouble: Why there is no newer one; empty while all is well.
    """

    data: Data
    where: str
    trouble: str = ""


def render_worst(worst: Worst, width: int) -> RenderableType:
    """Show the worst devices, each with why, and what to type next.

    Raises:
        DecodeError: The orchestrator is of a version that answers otherwise.
    """
    page = read(_Page, worst.data)
    told = f"{page.unhealthy:,} not healthy, {page.suspect:,} with three bad samples or more, {page.silent:,} silent"
    head = words(f"{page.count:,} device{'' if page.count == 1 else 's'}{worst.where}: ", "bold") + words(told)
    doubts = [words(f"⚠ {worst.trouble}", "bold red")] if worst.trouble else []
    if not page.devices:
        return Group(*doubts, head)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = [name for name in _COLUMNS if width >= _NARROW or name not in _WIDE_ONLY]
    for name in columns:
        right = name in {"REQUESTS", "ERRORS", "RESTARTS"}
        table.add_column(name, no_wrap=name != "WHY", justify="right" if right else "left")
    for each in page.devices:
        cells: dict[str, RenderableType] = {
            "DEVICE": words(each.device, "bold"), "GROUP": words(each.group), "VERSION": words(each.version or "-"),
            "STATE": _state(each), "REQUESTS": f"{each.requests:,}", "ERRORS": rate_text(each.error_rate),
            "RESTARTS": str(each.restarts), "WHY": words(each.why or "-", "" if each.why else "dim"),
        }  # fmt: skip
        table.add_row(*(cells[name] for name in columns))
    first = page.devices[0].device
    commands = command_lines([f"tidegate health tail {first}", f"tidegate device {first}"])
    return Group(*doubts, head, Text(""), table, Text(""), commands)


def _state(each: _Device) -> Text:
    if each.silent:
        return words("○ silent", "yellow")
    if each.down_seconds is not None:
        return words("✖ down", "red")
    return health_text(each.healthy)


def health_text(healthy: bool | None) -> Text:
    """Say how a device is."""
    if healthy is None:
        return words("– unknown", "dim")
    return words("● healthy", "green") if healthy else words("✖ unhealthy", "red")
