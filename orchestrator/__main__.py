"""The ``tidegate`` command: wiring of processes and people's commands."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters.brokers import BrokerUrl
from orchestrator.cli import audit, ops, release
from orchestrator.cli.exits import reported
from orchestrator.run import Settings, run_orchestrator
from orchestrator.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Roll software out to a fleet of edge devices over MQTT, in waves, with a gate on live evidence.",
)
app.add_typer(ops.app)
app.add_typer(release.app, name="release")
app.add_typer(audit.app, name="audit")
app.command("init")(release.init)


@app.command("orchestrator")
def orchestrator(
    broker: Annotated[str, typer.Option("--broker", envvar="TIDEGATE_BROKER", help="mqtt://user:password@host:port")],
    folder: Annotated[Path, typer.Option("--folder", help="Made by `tidegate init`.")],
    registry_host: Annotated[str, typer.Option(help="Where the artifact registry listens.")] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(help="0 takes a free port.")] = 0,
    registry_url: Annotated[str | None, typer.Option(help="What devices are told, if it is not that address.")] = None,
    tick_seconds: Annotated[float, typer.Option(min=0.01, help="How often decisions by time are taken.")] = 1.0,
    settle_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long after a connect nothing goes on, until the fleet has spoken.")
    ] = 5.0,
) -> None:
    """Run the orchestrator; prints one line of JSON when it is connected."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with reported():
        settings = Settings(
            broker=BrokerUrl.parse(broker),
            folder=folder,
            registry_host=registry_host,
            registry_port=registry_port,
            registry_url=registry_url,
            tick_seconds=tick_seconds,
            settle_seconds=settle_seconds,
        )
        asyncio.run(_until_stopped(settings))


async def _until_stopped(settings: Settings) -> None:
    serving = asyncio.ensure_future(run_orchestrator(settings, lambda line: print(line, flush=True)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@app.command("broker", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def broker(context: typer.Context) -> None:
    """Run the embedded broker; its own options follow (see `tidegate broker --help-broker`)."""
    arguments = ["--help" if each == "--help-broker" else each for each in context.args]
    os.execv(sys.executable, [sys.executable, "-m", "embedded_broker", *arguments])  # noqa: S606 - our own module


@app.command("version")
def version() -> None:
    """Print the version."""
    print(VERSION)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
