"""``tidegate registry``: releases from an object store, for devices and caches."""

import asyncio
import json
from typing import Annotated

import typer

from orchestrator.adapters.object_store import open_objects
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP
from orchestrator.cli.serving import announce, log_to_stderr
from orchestrator.signals import until_signalled

app = typer.Typer()


@app.command("registry", rich_help_panel=SET_UP)
def registry(
    store: Annotated[
        str,
        typer.Option(
            "--store",
            envvar="TIDEGATE_REGISTRY_STORE",
            help="Where `release publish --to` has put releases: s3://bucket/prefix, gs://, az:// or file:///folder.",
        ),
    ],
    host: Annotated[str, typer.Option("--host", help="An address of this machine that devices reach.")],
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8080,
    url_seconds: Annotated[
        int, typer.Option("--url-seconds", min=10, max=604_800, help="How long a signed address is good.")
    ] = 300,
    relay: Annotated[
        bool,
        typer.Option("--relay", help="Pass on what is there, for devices that cannot reach the store; file:// always."),
    ] = False,
) -> None:
    """Run a registry over an object store; prints a line of JSON when it can be asked. It needs no keys, no broker."""
    log_to_stderr()
    with reported():
        asyncio.run(until_signalled(_serve(store, host, port, None if relay else url_seconds)))


async def _serve(store: str, host: str, port: int, url_seconds: int | None) -> None:
    objects = open_objects(store, "--store")
    from orchestrator.adapters.object_registry import serve_objects  # noqa: PLC0415 - an extra, and it is there

    seconds = url_seconds if objects.can_sign else None
    async with serve_objects(objects, host, port, url_seconds=seconds) as (url, leads_to):
        said = {"ready": True, "registry": url, "redirects": [] if leads_to is None else [leads_to]}
        announce(json.dumps(said))
        await asyncio.Event().wait()
