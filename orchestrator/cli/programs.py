"""``tidegate broker`` and ``tidegate simulate``: programs of their own, which nothing here imports."""

import os
import sys
from typing import Any, Final, NoReturn

import typer

from orchestrator.cli.options import SET_UP

app = typer.Typer()

_PASS_ON: Final[dict[str, Any]] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@app.command("broker", rich_help_panel=SET_UP, context_settings=_PASS_ON)
def broker(context: typer.Context) -> None:
    """Run the embedded broker; its options follow, `--help` lists them."""
    _become("embedded_broker", context.args)


@app.command("simulate", rich_help_panel=SET_UP, context_settings=_PASS_ON)
def simulate(context: typer.Context) -> None:
    """Run whole rollouts with faults in virtual time; its options follow, `--help` lists them."""
    _become("simulator", context.args)


def _become(module: str, arguments: list[str]) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own modules
