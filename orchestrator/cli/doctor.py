"""``tidegate doctor``: is everything there that a rollout needs? It changes nothing."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.adapters import clock
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, JsonOption, TimeoutOption, broker_url
from orchestrator.cli.terminal import show, words
from orchestrator.doctor.bus import look_at_bus
from orchestrator.doctor.findings import Finding, State, worst
from orchestrator.doctor.folder import look_at_folder, look_at_machine

app = typer.Typer()

_LOOKS: Final = {
    State.OK: ("✔", "green"),
    State.UNKNOWN: ("?", "yellow"),
    State.WARNING: ("!", "yellow"),
    State.FAILED: ("✖", "bold red"),
}
_VERDICTS: Final = {
    State.OK: "All is well.",
    State.UNKNOWN: "Nothing is wrong that could be looked at.",
    State.WARNING: "It works, and something wants your attention.",
    State.FAILED: "It cannot work like this.",
}


@app.command("doctor", rich_help_panel=SET_UP)
def doctor(
    broker: BrokerOption = DEFAULT_BROKER,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="The orchestrator's, if it is on this machine.")
    ] = None,
    timeout: TimeoutOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Look at broker, access list, orchestrator, clock and disk, and say what to do about what is wrong."""
    with reported():
        found = asyncio.run(look_at_bus(broker_url(broker), timeout, clock.now))
    found += [*(look_at_folder(folder) if folder is not None else []), look_at_machine()]
    state = worst(found)
    if as_json:
        print(json.dumps({"state": state, "findings": [each.as_data() for each in found]}))
    else:
        show(_render(found, state))
    raise typer.Exit(Exit.FAILED if state is State.FAILED else Exit.OK)


def _render(found: list[Finding], state: State) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for each in found:
        symbol, style = _LOOKS[each.state]
        told = words(each.text)
        if each.remedy:
            told = Text("\n").join((told, words(f"→ {each.remedy}", "bold")))
        table.add_row(words(symbol, style), words(each.check), told)
    return Group(table, Text(""), words(_VERDICTS[state], _LOOKS[state][1]))
