"""``tidegate orchestrator``: the process that everything else asks."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters.watching import Endpoint
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP, BrokerOption, broker_url
from orchestrator.cli.serving import TopicRootOption, announce, log_to_stderr
from orchestrator.core.enrolment import parse_enrolment
from orchestrator.run import Settings, run_orchestrator
from orchestrator.signals import until_signalled
from schemas.topics import TOPIC_ROOT

app = typer.Typer()


@app.command("orchestrator", rich_help_panel=SET_UP)
def orchestrator(
    broker: BrokerOption,
    folder: Annotated[Path, typer.Option("--folder", help="Made by `tidegate init`.")],
    registry_host: Annotated[str, typer.Option(help="Where the artifact registry listens.")] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(help="0 takes a free port.")] = 0,
    registry_url: Annotated[str | None, typer.Option(help="What devices are told, if it is not that address.")] = None,
    dashboard: Annotated[
        bool,
        typer.Option("--dashboard/--no-dashboard", help="Serve the dashboard beside the registry, at /dashboard/."),
    ] = True,
    dashboard_broker_url: Annotated[
        str | None,
        typer.Option(
            "--dashboard-broker-url", help="The broker's WebSocket as browsers reach it: ws://host:port or wss://."
        ),
    ] = None,
    topic_root: TopicRootOption = TOPIC_ROOT,
    enrol: Annotated[
        str, typer.Option(help="Which devices may introduce themselves: all, listed (imported ones), or a filter.")
    ] = "all",
    tick_seconds: Annotated[float, typer.Option(min=0.01, help="How often decisions by time are taken.")] = 1.0,
    settle_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long after a connect nothing goes on, until the fleet has spoken.")
    ] = 5.0,
    metrics_host: Annotated[str, typer.Option(help="Where metrics and health probes are served.")] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="0 takes a free port. If it is not given: 9464, and if that is taken, none.", show_default=False
        ),
    ] = None,
    metrics: Annotated[bool, typer.Option("--metrics/--no-metrics", help="Serve them.")] = True,
    metrics_per_device: Annotated[
        bool, typer.Option("--metrics-per-device", help="Name every device with its version; as many series.")
    ] = False,
    restored: Annotated[
        bool,
        typer.Option(
            "--restored", help="The journal was put back from a backup; noticed also without, if the broker remembers."
        ),
    ] = False,
) -> None:
    """Run the orchestrator; prints one line of JSON when it is connected."""
    log_to_stderr()
    with reported():
        settings = Settings(
            broker=broker_url(broker),
            folder=folder,
            registry_host=registry_host,
            registry_port=registry_port,
            registry_url=registry_url,
            topic_root=topic_root,
            enrolment=parse_enrolment(enrol),
            tick_seconds=tick_seconds,
            settle_seconds=settle_seconds,
            metrics=Endpoint(metrics_host, metrics_port, metrics_per_device) if metrics else None,
            restored=restored,
            dashboard=dashboard,
            dashboard_broker_url=dashboard_broker_url,
        )
        asyncio.run(until_signalled(run_orchestrator(settings, announce)))
