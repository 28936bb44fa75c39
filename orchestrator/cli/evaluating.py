"""``tidegate evaluator``: a process that reads a part of the fleet's health."""

import asyncio
from typing import Annotated

import typer

from orchestrator.adapters import clock
from orchestrator.adapters.evaluator_bus import EvaluatorBus
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP, BrokerOption, broker_url
from orchestrator.cli.serving import TopicRootOption, announce, log_to_stderr
from orchestrator.signals import until_signalled
from schemas.ids import check_id
from schemas.shards import parse_shards
from schemas.topics import TOPIC_ROOT, TopicTree

app = typer.Typer()


@app.command("evaluator", rich_help_panel=SET_UP)
def evaluator(
    broker: BrokerOption,
    shards: Annotated[
        str, typer.Option("--shards", help="Which of the fleet's 64 shards it would read, for example 0-31,40.")
    ] = "0-63",
    name: Annotated[
        str | None, typer.Option("--name", help="Its name on the bus; the broker's user if it is not given.")
    ] = None,
    topic_root: TopicRootOption = TOPIC_ROOT,
) -> None:
    """Read a part of the fleet's health for the orchestrator; prints a line of JSON with each part it is given."""
    log_to_stderr()
    with reported():
        url = broker_url(broker)
        worker = check_id(name or url.username or "evaluator")
        bus = EvaluatorBus(worker, parse_shards(shards), url, TopicTree(topic_root), clock=clock.now)
        asyncio.run(until_signalled(bus.run(announce)))
