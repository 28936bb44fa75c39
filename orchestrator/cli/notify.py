"""``tidegate notify``: tell people and systems what happens, and ask systems whether rollouts may go on."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestrator.adapters import clock
from orchestrator.adapters.destinations import Destination, make_destinations
from orchestrator.adapters.notify_config import NotifyConfigError, read_config
from orchestrator.adapters.outbox import Delivery, Outbox
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.notifying import Notifier, trial
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, broker_url
from orchestrator.cli.serving import announce, log_to_stderr
from orchestrator.notifications.notification import Notification, to_wire
from orchestrator.notifications.retrying import Delivered
from orchestrator.signals import until_signalled

app = typer.Typer()


@app.command("notify", rich_help_panel=SET_UP)
def notify(
    config: Annotated[Path, typer.Option("--config", help="Who is told what: docs/notifications.md.")],
    broker: BrokerOption = DEFAULT_BROKER,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, one JSON object a line; send nothing.")
    ] = False,
    test: Annotated[
        str | None, typer.Option("--test", help="Send one test message to this destination, and end.", metavar="NAME")
    ] = None,
) -> None:
    """Tell people and systems what happens; prints a line of JSON when it listens."""
    log_to_stderr()
    with reported():
        read = read_config(config)
        destinations = make_destinations(read, os.environ)
        if test is not None:
            _test(destinations, test)
        path = None if dry_run else read.queue
        with Outbox(path) as outbox:
            show = _show if dry_run else None
            notifier = Notifier(broker_url(broker), destinations, outbox, clock.now, show)
            ready = {"ready": True, "destinations": [each.name for each in destinations]}
            asyncio.run(until_signalled(notifier.run(lambda: announce(json.dumps(ready)))))


def _show(destination: str, notification: Notification) -> None:
    print(json.dumps({"destination": destination, "body": json.loads(to_wire(notification))}), flush=True)


def _test(destinations: list[Destination], name: str) -> NoReturn:
    chosen = next((each for each in destinations if each.name == name), None)
    if chosen is None:
        raise NotifyConfigError(f"no destination {name!r}; there are: {', '.join(each.name for each in destinations)}")
    now, notification = clock.now(), trial(clock.now())
    delivery = Delivery(name, notification.id, notification.title, to_wire(notification), now, now)
    outcome = asyncio.run(chosen.transport.deliver(delivery, now))
    if isinstance(outcome, Delivered):
        print(f"{name} has taken it")
        raise typer.Exit(Exit.OK)
    print(f"error: {name} has not taken it: {outcome.why}", file=sys.stderr)
    raise typer.Exit(Exit.FAILED)
