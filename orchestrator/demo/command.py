"""``tidegate demo``."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import SET_UP
from orchestrator.demo.story import Options, tell
from orchestrator.demo.summary import closing_words
from orchestrator.signals import until_signalled

app = typer.Typer()


@app.command("demo", rich_help_panel=SET_UP)
def demo(
    broker: Annotated[
        str,
        typer.Option("--broker", help="embedded, mosquitto (starts a found one), or mqtt://user:password@host:port"),
    ] = "embedded",
    folder: Annotated[Path | None, typer.Option("--folder", help="Keep everything here.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the summary, as one JSON object.")] = False,
) -> None:
    """See it work on this machine: a bad release is stopped at the canary, a good one reaches the fleet."""
    with reported():
        kind: Literal["embedded", "mosquitto"] = "mosquitto" if broker == "mosquitto" else "embedded"
        url = None if broker in {"embedded", "mosquitto"} else broker
        asks = sys.stdin.isatty() and not yes and not as_json
        options = Options(url=url, kind=kind, folder=folder, asks=asks, quiet=as_json)
        summary = asyncio.run(until_signalled(tell(options)))
    if summary is None:
        print("stopped; nothing was left running", file=sys.stderr)
        raise typer.Exit(Exit.OK)
    print(json.dumps(summary) if as_json else closing_words(summary, _called()))


def _called() -> str:
    """Return what the user typed to reach us, so that the next command we show can be typed as well."""
    return sys.argv[0] if Path(sys.argv[0]).name == "tidegate" else "tidegate"
