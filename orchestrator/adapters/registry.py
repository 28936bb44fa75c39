"""The artifact registry: the release store over HTTP, for devices that fetch manifests, chunks and archives by digest.

What is addressed by its digest never changes, so every answer may be cached for ever, and a download that was cut off
goes on with a Range request. Nothing here is secret or trusted: a device checks signature and digest itself.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.adapters.content import KINDS, item_at
from orchestrator.adapters.dashboard import DashboardConfig, dashboard_routes
from schemas.errors import FleetError

_CONNECTIONS_MAX: Final = 1000  # more are answered 503, and devices come back later
_GRACE_SECONDS: Final = 2
_PORT_MAX: Final = 65535
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound by default


class RegistryError(FleetError):
    """The operator's fault: an address that cannot be listened on. Names it and the setting to change."""


def check_registry_url(url: str | None) -> None:
    """Return if devices may be told this address of the registry; see ``check_public_url``.

    Raises:
        RegistryError: They may not.
    """
    if url is not None:
        check_public_url(url, "--registry-url")


def check_public_url(url: str, what: str) -> None:
    """Return if devices may be told this address.

    Args:
        url: Where something begins that they fetch from.
        what: Its name, for messages.

    Raises:
        RegistryError: It is none, or holds a password or a token: everybody who reads the bus would have it.
    """
    remedy = "write http://host:port or https://host, perhaps with a path"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RegistryError(f"{what} is no address; {remedy}") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise RegistryError(f"{what} is told to the whole fleet, so it holds no user, password or token; {remedy}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RegistryError(f"{what} {url[:80]!r} is no address; {remedy}")


def create_app(store_folder: Path, dashboard: DashboardConfig | None = None) -> Starlette:
    """Return the application that serves the release store in ``store_folder``, and beside it the dashboard, if any."""
    routes = [
        Route(f"/{name}/{{sha256}}", _serve_from(store_folder, name, kind.media_type)) for name, kind in KINDS.items()
    ]
    pages = () if dashboard is None else dashboard_routes(dashboard)
    return Starlette(routes=[*routes, Route("/healthz", _answer_healthy), *pages])


@contextlib.asynccontextmanager
async def serve_registry(
    store_folder: Path, host: str, port: int, dashboard: DashboardConfig | None = None
) -> AsyncIterator[str]:
    """Serve the release store inside the running loop and yield its base URL; for the rest see ``serve_app``.

    Args:
        store_folder: Where releases are published.
        host: As for ``serve_app``.
        port: The same.
        dashboard: What the dashboard offers; None: it is not served.

    Raises:
        RegistryError: Host and port cannot be listened on.
    """
    async with serve_app(create_app(store_folder, dashboard), host, port) as url:
        yield url


@contextlib.asynccontextmanager
async def serve_app(
    app: Starlette, host: str, port: int, *, who: str = "the registry", options: str = "--registry-"
) -> AsyncIterator[str]:
    """Serve what devices fetch inside the running loop and yield its base URL.

    Args:
        app: What answers.
        host: A name or address that devices reach; it is listened on and stands in the URL. For all interfaces
            (``0.0.0.0`` or ``::``) the URL holds this machine's host name.
        port: To listen on; 0 takes a free one.
        who: Listens, for messages.
        options: How the options begin that set host and port.

    Raises:
        RegistryError: Host and port cannot be listened on.
    """
    with _listen(host, port, who, options) as listener:
        name = socket.gethostname() if host in _WILDCARDS else host
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            log_level="warning",
            lifespan="off",
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """A server that leaves signals to the program it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int, who: str, options: str) -> socket.socket:
    remedy = f"set {options}host to an address of this machine and {options}port to a free port (0 takes any)"
    if not 0 <= port <= _PORT_MAX:
        raise RegistryError(f"{who} cannot listen on {host} port {port}: no such port; {remedy}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise RegistryError(f"{who} cannot listen on {host} port {port}: {reason}; {remedy}") from error


def _serve_from(store_folder: Path, folder: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        item = item_at(folder, request.path_params["sha256"])
        if item is None or not (store_folder / str(item)).is_file():
            raise HTTPException(404)
        headers = {"ETag": f'"{item.sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}
        return FileResponse(store_folder / str(item), headers=headers, media_type=media_type)

    return serve


async def _answer_healthy(_request: Request) -> Response:
    return PlainTextResponse("ok")
