"""``tidegate devices`` and ``device``: the fleet by a filter, counted before anything is done to it, and one of it."""

from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, Data, read, run
from orchestrator.cli.explaining import render_explanation
from orchestrator.cli.looking import now
from orchestrator.cli.options import DEFAULT_BROKER, LOOK, BrokerOption, JsonOption, TimeoutOption
from orchestrator.cli.phases import phase_words
from orchestrator.cli.quantities import clock
from orchestrator.cli.terminal import command_lines, make_console, words

app = typer.Typer()

_COLUMNS: Final = ("DEVICE", "TYPE", "REGION", "GROUP", "VERSION", "STATE", "ROLLOUT", "HEARD")


class _Media(Answer):
    order: int | None = None
    outcome: str | None = None


class _Device(Answer):
    device: str
    type: str
    region: str
    group: str
    version: str | None = None
    media: _Media | None = None
    online: bool = False
    quarantine: str = ""
    rollout: str | None = None
    progress: str | None = None
    last_seen_seconds: float | None = None


class _Page(Answer):
    devices: tuple[_Device, ...]
    count: int
    next: str | None = None


@app.command("devices", rich_help_panel=LOOK)
def devices(
    where: Annotated[
        str | None, typer.Option("--where", help='A filter, for example: type == "pi" and version < "2.4"')
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many to show.")] = 50,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this device.")] = None,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show the devices that a filter selects, in the order of their names; the same filters are a policy's targets."""
    body = {"what": "devices", "where": where, "count_only": count, "limit": limit, "after": after}
    body = {name: value for name, value in body.items() if value is not None}

    def shown(data: Data) -> RenderableType:
        return render_devices(data, where, count_only=count)

    run(broker, "list", body, timeout_seconds=timeout, as_json=as_json, shown=shown)


@app.command("device", rich_help_panel=LOOK)
def device(
    name: Annotated[str, typer.Argument(help="The device.", metavar="DEVICE")],
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a device runs, what it was ordered, and what it waits for."""
    width = make_console().width
    run(
        broker, "get", {"device": name}, timeout_seconds=timeout, as_json=as_json,
        shown=lambda data: render_explanation(data, name, now(), width),
    )  # fmt: skip


def render_devices(data: Data, where: str | None, *, count_only: bool) -> RenderableType:
    """Show how many devices there are and a page of them."""
    page = read(_Page, data)
    total = words(f"{page.count:,} device{'' if page.count == 1 else 's'}{f' where {where}' if where else ''}", "bold")
    if count_only or not page.devices:
        return total
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column != "STATE", justify="right" if column == "HEARD" else "left")
    for each in page.devices:
        heard = "never" if each.last_seen_seconds is None else f"{clock(each.last_seen_seconds)} ago"
        rollout = "-" if each.rollout is None else f"{each.rollout} {phase_words(each.progress or '')}"
        table.add_row(
            words(each.device, "bold"), words(each.type), words(each.region), words(each.group),
            words(_version(each)), _state(each), words(rollout), words(heard, "dim"),
        )  # fmt: skip
    option = f"--where '{where}' " if where else ""
    following = [f"tidegate devices {option}--after {page.next}"] if page.next else []
    return Group(table, Text(""), total, command_lines([*following, f"tidegate device {page.devices[0].device}"]))


def _version(each: _Device) -> str:
    brought = each.media is not None and each.media.order is not None and each.media.outcome == "installed"
    return f"{each.version or 'unknown'}{' (media)' if brought else ''}"


def _state(each: _Device) -> Text:
    if each.quarantine:
        return words(f"✖ quarantined: {each.quarantine}", "red")
    return words("● online", "green") if each.online else words("○ offline", "dim")
