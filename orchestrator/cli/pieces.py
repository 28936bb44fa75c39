"""``tidegate pieces``: gives devices that have no HTTP what they install, piece by piece over the broker."""

import asyncio
import contextlib
import json
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.adapters.piece_server import PieceServer
from orchestrator.adapters.registry import serve_app
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP, BrokerOption, broker_url
from orchestrator.cli.serving import TopicRootOption, announce, log_to_stderr
from orchestrator.cli.sizes import parse_size
from orchestrator.signals import until_signalled
from schemas.topics import TOPIC_ROOT, TopicTree

app = typer.Typer()


@app.command("pieces", rich_help_panel=SET_UP)
def pieces(
    broker: BrokerOption,
    folder: Annotated[
        Path, typer.Option("--folder", help="What it gives: releases/ of an orchestrator, or a cache's folder.")
    ],
    bandwidth_bytes_per_second: Annotated[
        str, typer.Option("--bandwidth-bytes-per-second", help="What it sends in all, at most.")
    ] = "2MB",
    host: Annotated[str, typer.Option("--host", help="Where /status and /healthz are served.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", help="0 takes a free one; without it they are not served.")
    ] = None,
    topic_root: TopicRootOption = TOPIC_ROOT,
) -> None:
    """Give releases to devices over the broker, in pieces; prints a line of JSON when it is connected."""
    log_to_stderr()
    with reported():
        rate = parse_size(bandwidth_bytes_per_second, "--bandwidth-bytes-per-second")
        server = PieceServer(folder, broker_url(broker), TopicTree(topic_root), bytes_per_second=rate)
        asyncio.run(until_signalled(_serve(server, folder, host, port)))


async def _serve(server: PieceServer, folder: Path, host: str, port: int | None) -> None:
    said = {"ready": True, "pieces": str(folder)}
    async with contextlib.AsyncExitStack() as stack:
        if port is not None:
            served = serve_app(_app(server), host, port, who="the piece server", options="--")
            said["status"] = f"{await stack.enter_async_context(served)}/status"
        await server.run(lambda: announce(json.dumps(said)))


def _app(server: PieceServer) -> Starlette:
    async def healthy(_request: Request) -> Response:
        if server.is_connected:
            return PlainTextResponse("ok")
        return PlainTextResponse("no broker", HTTPStatus.SERVICE_UNAVAILABLE)

    async def status(_request: Request) -> Response:
        return JSONResponse(server.status())

    return Starlette(routes=[Route("/healthz", healthy), Route("/status", status)])
