"""``tidegate import``: what people declare about devices, from a file."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import track
from rich.table import Table

from orchestrator.adapters.inventories import Format, read_inventory
from orchestrator.cli.answers import Answer, ask, read
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, JsonOption, ReasonOption, TimeoutOption
from orchestrator.cli.refusals import describe
from orchestrator.cli.terminal import command_lines, complain, show, words
from schemas.commands import DEVICES_PER_PART_MAX
from schemas.documents import Reply
from schemas.inventory import DeviceEntry

app = typer.Typer()

_SHOWN_MAX: Final = 12
_BAR_FROM_PARTS: Final = 4
_PART_BYTES_MAX: Final = 48 * 1024


class _Imported(Answer):
    """What the orchestrator answers to the last part."""

    added: int
    changed: int
    unchanged: int
    removed: int
    applied: bool
    changes: tuple[Mapping[str, Any], ...] = ()


@app.command("import", rich_help_panel=SET_UP)
def import_devices(
    file: Annotated[Path, typer.Argument(help="CSV, YAML, or what `ansible-inventory --list` prints.", metavar="FILE")],
    form: Annotated[
        Format | None, typer.Option("--format", help="The format, where the file's ending does not tell it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Devices that are not in the file lose what was declared of them.")
    ] = False,
    broker: BrokerOption = DEFAULT_BROKER,
    reason: ReasonOption = "",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Declare devices: type, region, group, maintenance and more; what is declared wins over what a device says.

    The file is taken whole or not at all. What it does not say of a device is left to the device.
    """
    with reported():
        devices = read_inventory(file, form)
    reply = _send(broker, devices, {"dry_run": dry_run, "replace": replace, "reason": reason}, timeout)
    if as_json:
        print(reply.model_dump_json(exclude_none=True))
    if reply.error is not None:
        if not as_json:
            complain(f"error: {describe(reply.error)}; nothing was imported")
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        with reported():
            show(render_import(read(_Imported, reply.data or {}), _again(file, form, replace=replace)))


def _send(broker: str, devices: Mapping[str, DeviceEntry], how: Mapping[str, Any], timeout_seconds: float) -> Reply:
    """Send the file in parts and return the answer to the last, or the first refusal."""
    name, parts = secrets.token_hex(8), _parts(devices)
    console = Console(stderr=True)
    bar = track(parts, "sending", console=console, transient=True)
    is_long = len(parts) >= _BAR_FROM_PARTS and console.is_terminal
    for number, part in enumerate(bar if is_long else parts, 1):
        body = {"import_id": name, "part": number, "parts": len(parts), "devices": part, **how}
        reply = ask(broker, "import", body, timeout_seconds=timeout_seconds)
        if reply.error is not None:
            break
    return reply


def _parts(devices: Mapping[str, DeviceEntry]) -> list[dict[str, Any]]:
    """Divide the devices so that each part fits into a message."""
    parts: list[dict[str, Any]] = []
    room = 0
    for name, entry in devices.items():
        said = entry.model_dump(mode="json", exclude_none=True)
        size = len(name) + len(json.dumps(said)) + 8
        if not parts or size > room or len(parts[-1]) == DEVICES_PER_PART_MAX:
            parts.append({})
            room = _PART_BYTES_MAX
        parts[-1][name] = said
        room -= size
    return parts


def _again(file: Path, form: Format | None, *, replace: bool) -> str:
    return f"tidegate import {file}{f' --format {form}' if form else ''}{' --replace' if replace else ''}"


def render_import(done: _Imported, again: str) -> RenderableType:
    """Say what was or would be changed, and what to type next."""
    counts = f"{done.added:,} new, {done.changed:,} changed, {done.removed:,} removed, {done.unchanged:,} as they were"
    is_nothing = not (done.added or done.changed or done.removed)
    if is_nothing:
        return words(f"✔ nothing to change: {counts}", "bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("DEVICE", "FIELD", "BEFORE", "AFTER"):
        table.add_column(title, overflow="fold")
    for each in done.changes[:_SHOWN_MAX]:
        table.add_row(*(words(_shown(each.get(name))) for name in ("device", "field", "from", "to")))
    more = len(done.changes) - _SHOWN_MAX
    parts: list[RenderableType] = [table]
    if more > 0:
        parts.append(words("and more; --json shows the first 50", "dim"))
    said = f"✔ imported: {counts}" if done.applied else f"would change: {counts}; nothing was changed"
    after = 'tidegate devices --where "online"' if done.applied else again
    return Group(*parts, words(said, "bold"), command_lines([after]))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
