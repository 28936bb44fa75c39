"""``tidegate cache``: a cache for one site, between its devices and the registries."""

import asyncio
import json
import resource
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.adapters.site_cache import CacheSettings, serve_cache
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP
from orchestrator.cli.serving import announce, log_to_stderr
from orchestrator.cli.sizes import parse_size
from orchestrator.signals import until_signalled

app = typer.Typer()

_FILES: Final = 16384
"""Open files that the process would like to have: two for each device that is answered."""


@app.command("cache", rich_help_panel=SET_UP)
def cache(
    registry: Annotated[
        list[str],
        typer.Option(
            "--registry", envvar="TIDEGATE_CACHE_REGISTRIES", help="Where it fetches from; several times, in order."
        ),
    ],
    folder: Annotated[Path, typer.Option("--folder", help="Where it keeps what it has; made if it does not exist.")],
    host: Annotated[str, typer.Option("--host", help="An address of this machine that the site's devices reach.")],
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8080,
    disk_bytes_max: Annotated[
        str, typer.Option("--disk-bytes-max", help="What it may take of the disk; the least recently used goes first.")
    ] = "20GB",
    bandwidth_bytes_per_second: Annotated[
        str | None, typer.Option("--bandwidth-bytes-per-second", help="What it may take of the site's line, e.g. 2MB.")
    ] = None,
) -> None:
    """Run a cache for one site; prints a line of JSON when it can be asked. It needs no keys and no broker."""
    log_to_stderr()
    with reported():
        rate = bandwidth_bytes_per_second
        settings = CacheSettings(
            registries=registry,
            folder=folder,
            disk_bytes_max=parse_size(disk_bytes_max, "--disk-bytes-max"),
            bandwidth_bytes_per_second=None if rate is None else parse_size(rate, "--bandwidth-bytes-per-second"),
        )
        _allow_files()
        asyncio.run(until_signalled(_serve(settings, host, port)))


async def _serve(settings: CacheSettings, host: str, port: int) -> None:
    async with serve_cache(settings, host, port) as url:
        announce(json.dumps({"ready": True, "cache": url}))
        await asyncio.Event().wait()


def _allow_files() -> None:
    """Raise the soft limit of open files as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
