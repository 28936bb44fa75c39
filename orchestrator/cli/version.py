"""``tidegate version``."""

import typer

from orchestrator.cli.options import SET_UP
from orchestrator.version import VERSION

app = typer.Typer()


@app.command("version", rich_help_panel=SET_UP)
def version() -> None:
    """Print the version."""
    print(VERSION)
