"""``tidegate get``, ``list``, ``explain`` and ``watch``: looking changes nothing."""

import asyncio
import time
from typing import Annotated

import typer

from orchestrator.cli.answers import run
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.explaining import render_explanation
from orchestrator.cli.options import (
    DEFAULT_BROKER,
    LOOK,
    BrokerOption,
    JsonOption,
    RolloutArgument,
    TimeoutOption,
    broker_url,
    complete_rollouts,
)
from orchestrator.cli.summaries import render_get, render_list
from orchestrator.cli.terminal import make_console, note
from orchestrator.cli.watch import Until, follow

app = typer.Typer()


def now() -> float:
    """Return the reader's own time, for ages."""
    return time.time()  # noqa: TID251 - a command line has no other


@app.command("get", rich_help_panel=LOOK)
def get(
    rollout: RolloutArgument,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show where a rollout is, and what may be commanded now."""
    run(
        broker, "get", {"rollout": rollout}, timeout_seconds=timeout, as_json=as_json,
        shown=lambda data: render_get(data, now()),
    )  # fmt: skip


@app.command("list", rich_help_panel=LOOK)
def list_rollouts(
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many, the newest first.")] = 50,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show all rollouts, the newest first."""
    run(
        broker, "list", {"what": "rollouts", "limit": limit}, timeout_seconds=timeout, as_json=as_json,
        shown=lambda data: render_list(data, now()),
    )  # fmt: skip


@app.command("explain", rich_help_panel=LOOK)
def explain(
    rollout: RolloutArgument,
    device: Annotated[str | None, typer.Argument(help="A device of it.", metavar="[DEVICE]")] = None,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Say why a rollout or a device is where it is: what led there, what it waits for, what you can type."""
    body = {"rollout": rollout} if device is None else {"rollout": rollout, "device": device}
    width = make_console().width
    run(
        broker, "get", body, timeout_seconds=timeout, as_json=as_json,
        shown=lambda data: render_explanation(data, device or rollout, now(), width), command="explain",
    )  # fmt: skip


@app.command("watch", rich_help_panel=LOOK)
def watch(
    rollout: Annotated[
        str | None,
        typer.Argument(help="The newest active one if omitted.", autocompletion=complete_rollouts, metavar="[ROLLOUT]"),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="One line for each change, also on a terminal.")] = False,
    exit_when_waiting: Annotated[
        bool, typer.Option("--exit-when-waiting", help="Exit with 3 when it is halted or waits for a person.")
    ] = False,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.1, help="Exit with 6 after so many s.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each change.")] = False,
) -> None:
    """Follow a rollout until it ends: 0 completed, 1 failed or taken back, 4 not found, 5 unreachable, 6 timeout."""
    until = Until(timeout, exit_when_waiting)
    try:
        with reported():
            url = broker_url(broker)
            code, documents = asyncio.run(follow(url, rollout, until, now, plain=plain, as_json=as_json))
    except KeyboardInterrupt:
        note("stopped watching; the rollout goes on")
        raise typer.Exit(Exit.OK) from None
    if code in {Exit.TIMEOUT, Exit.UNREACHABLE}:
        note(documents.trouble or f"watched {timeout:g} s and {documents.rollout} has not ended")
    raise typer.Exit(code)
