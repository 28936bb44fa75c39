"""The ``tidegate`` command: wiring of processes and people's commands."""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import typer

from orchestrator.adapters import clock
from orchestrator.adapters.evaluator_bus import EvaluatorBus
from orchestrator.adapters.watching import Endpoint
from orchestrator.cli import (
    audit,
    broker_config,
    cache,
    conformance,
    doctor,
    home_assistant,
    importing,
    init,
    keys,
    lint,
    media,
    notify,
    ops,
    pieces,
    registry,
    release,
    replay,
    report,
    stage,
)
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import (
    ACCOUNT,
    FILE_VARIABLES,
    LOOK,
    SET_UP,
    CaFileOption,
    CertificateOption,
    ClientOption,
    PrivateKeyOption,
    broker_url,
    use_client,
)
from orchestrator.core.enrolment import parse_enrolment
from orchestrator.demo.story import Options, tell
from orchestrator.demo.summary import closing_words
from orchestrator.run import Settings, run_orchestrator
from orchestrator.signals import until_signalled
from orchestrator.version import VERSION
from schemas.asyncapi import asyncapi_document
from schemas.ids import check_id
from schemas.policy_schema import policy_json_schema
from schemas.shards import parse_shards
from schemas.topics import TOPIC_ROOT, TopicTree

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # They would print local values, and with them secrets, into logs.
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Roll software out to a fleet of edge devices over MQTT, in waves, with a gate on live evidence.",
)
app.add_typer(ops.app)
app.add_typer(release.app, name="release", rich_help_panel=SET_UP)
app.add_typer(keys.app, name="keys", rich_help_panel=SET_UP)
app.add_typer(media.app, name="media", rich_help_panel=SET_UP)
app.add_typer(audit.app, name="audit", rich_help_panel=ACCOUNT)
app.command("init", rich_help_panel=SET_UP)(init.init)
app.command("broker-config", rich_help_panel=SET_UP)(broker_config.broker_config)
app.command("doctor", rich_help_panel=SET_UP)(doctor.doctor)
app.command("stage", rich_help_panel=SET_UP)(stage.stage)
app.command("import", rich_help_panel=SET_UP)(importing.import_devices)
app.command("registry", rich_help_panel=SET_UP)(registry.registry)
app.command("cache", rich_help_panel=SET_UP)(cache.cache)
app.command("pieces", rich_help_panel=SET_UP)(pieces.pieces)
app.command("notify", rich_help_panel=SET_UP)(notify.notify)
app.command("home-assistant", rich_help_panel=SET_UP)(home_assistant.home_assistant)
app.command("conformance", rich_help_panel=SET_UP)(conformance.conformance)
app.command("lint", rich_help_panel=LOOK)(lint.lint)
app.command("replay", rich_help_panel=ACCOUNT)(replay.replay_journal)
app.command("report", rich_help_panel=ACCOUNT)(report.report)


@app.callback()
def tidegate(
    client: ClientOption = None,
    ca_file: CaFileOption = None,
    certificate_file: CertificateOption = None,
    private_key_file: PrivateKeyOption = None,
) -> None:
    """Take what holds for every command."""
    for variable, path in zip(FILE_VARIABLES, (ca_file, certificate_file, private_key_file), strict=True):
        if path is not None:
            os.environ[variable] = str(path)
    if client is not None:
        with reported():
            use_client(client)


@app.command("orchestrator", rich_help_panel=SET_UP)
def orchestrator(
    broker: Annotated[str, typer.Option("--broker", envvar="TIDEGATE_BROKER", help="mqtt://user:password@host:port")],
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
    topic_root: Annotated[
        str, typer.Option(help="Leading topic levels; the last is the contract's version.")
    ] = TOPIC_ROOT,
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
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
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
        asyncio.run(until_signalled(run_orchestrator(settings, lambda line: print(line, flush=True))))


@app.command("evaluator", rich_help_panel=SET_UP)
def evaluator(
    broker: Annotated[str, typer.Option("--broker", envvar="TIDEGATE_BROKER", help="mqtt://user:password@host:port")],
    shards: Annotated[
        str, typer.Option("--shards", help="Which of the fleet's 64 shards it would read, for example 0-31,40.")
    ] = "0-63",
    name: Annotated[
        str | None, typer.Option("--name", help="Its name on the bus; the broker's user if it is not given.")
    ] = None,
    topic_root: Annotated[
        str, typer.Option(help="Leading topic levels; the last is the contract's version.")
    ] = TOPIC_ROOT,
) -> None:
    """Read a part of the fleet's health for the orchestrator; prints a line of JSON with each part it is given."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with reported():
        url = broker_url(broker)
        worker = check_id(name or url.username or "evaluator")
        bus = EvaluatorBus(worker, parse_shards(shards), url, TopicTree(topic_root), clock=clock.now)
        asyncio.run(until_signalled(bus.run(lambda line: print(line, flush=True))))


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
    """Replace this process: the broker and the simulator are programs of their own, which nothing here imports."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own modules


@app.command("schema", rich_help_panel=SET_UP)
def schema(
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="The wire contract as AsyncAPI 3.1 with the schema of each message.")
    ] = False,
) -> None:
    """Print the JSON Schema of a policy file, for an editor that checks it while it is written; or the contract."""
    print(json.dumps(asyncapi_document(VERSION) if asyncapi else policy_json_schema(), indent=2))


@app.command("version", rich_help_panel=SET_UP)
def version() -> None:
    """Print the version."""
    print(VERSION)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
