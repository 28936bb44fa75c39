"""The ``tidegate`` command: wiring of processes and people's commands."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from orchestrator.cli.exits import reported
from orchestrator.cli.lazy import LazyGroup
from orchestrator.cli.options import (
    FILE_VARIABLES,
    CaFileOption,
    CertificateOption,
    ClientOption,
    PrivateKeyOption,
    use_client,
)


class Commands(LazyGroup):
    """Every command, with the module that holds it."""

    modules: ClassVar[Mapping[str, str]] = {
        "init": "orchestrator.cli.init",
        "broker-config": "orchestrator.cli.broker_config",
        "doctor": "orchestrator.cli.doctor",
        "stage": "orchestrator.cli.stage",
        "import": "orchestrator.cli.importing",
        "registry": "orchestrator.cli.registry",
        "cache": "orchestrator.cli.cache",
        "pieces": "orchestrator.cli.pieces",
        "notify": "orchestrator.cli.notify",
        "home-assistant": "orchestrator.cli.home_assistant",
        "conformance": "orchestrator.cli.conformance",
        "lint": "orchestrator.cli.lint",
        "replay": "orchestrator.cli.replay",
        "report": "orchestrator.cli.report",
        "orchestrator": "orchestrator.cli.orchestrating",
        "evaluator": "orchestrator.cli.evaluating",
        "demo": "orchestrator.demo.command",
        "broker": "orchestrator.cli.programs",
        "simulate": "orchestrator.cli.programs",
        "schema": "orchestrator.cli.schema",
        "version": "orchestrator.cli.version",
        "activate": "orchestrator.cli.ops",
        "approve": "orchestrator.cli.ops",
        "reject": "orchestrator.cli.ops",
        "pause": "orchestrator.cli.ops",
        "resume": "orchestrator.cli.ops",
        "finish": "orchestrator.cli.ops",
        "abort": "orchestrator.cli.ops",
        "rollback": "orchestrator.cli.ops",
        "retry": "orchestrator.cli.ops",
        "skip": "orchestrator.cli.ops",
        "quarantine": "orchestrator.cli.ops",
        "release-device": "orchestrator.cli.ops",
        "plan": "orchestrator.cli.starting",
        "start": "orchestrator.cli.starting",
        "get": "orchestrator.cli.looking",
        "list": "orchestrator.cli.looking",
        "explain": "orchestrator.cli.looking",
        "watch": "orchestrator.cli.looking",
        "devices": "orchestrator.cli.devices",
        "device": "orchestrator.cli.devices",
        "evaluators": "orchestrator.cli.evaluators",
        "health": "orchestrator.cli.health",
        "release": "orchestrator.cli.release",
        "keys": "orchestrator.cli.keys",
        "media": "orchestrator.cli.media",
        "audit": "orchestrator.cli.audit",
    }


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # They would print local values, and with them secrets, into logs.
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Roll software out to a fleet of edge devices over MQTT, in waves, with a gate on live evidence.",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from orchestrator.version import VERSION  # noqa: PLC0415 - nobody else waits for it

        print(VERSION)
        raise typer.Exit


@app.callback()
def tidegate(
    client: ClientOption = None,
    ca_file: CaFileOption = None,
    certificate_file: CertificateOption = None,
    private_key_file: PrivateKeyOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what holds for every command."""
    for variable, path in zip(FILE_VARIABLES, (ca_file, certificate_file, private_key_file), strict=True):
        if path is not None:
            os.environ[variable] = str(path)
    if client is not None:
        with reported():
            use_client(client)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
