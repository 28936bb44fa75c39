"""The dashboard's files over HTTP: static, the same for everybody, and nothing in them is secret.

The page talks to the broker by itself, with the user's own credentials; this server only says where the broker is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import FleetError
from schemas.topics import TOPIC_ROOT

FOLDER: Final = Path(__file__).resolve().parents[1] / "dashboard"
"""The page: any web server may serve this folder as it is."""
HEADERS: Final = {
    # Scripts and styles of this folder only, none in the page; connections to any broker, because people name theirs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for again each time, answered 304 while it is the same: page and orchestrator are of one version.
    "Cache-Control": "no-cache",
}


class DashboardError(FleetError):
    """The operator's fault: an address that browsers cannot connect to."""


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """What the login form offers.

    Attributes:
        broker_url: The broker's WebSocket; None: the page guesses port 9001 of the host that it came from.
        topic_root: Leading topic levels.
    """

    broker_url: str | None = None
    topic_root: str = TOPIC_ROOT


def check_dashboard_url(url: str | None) -> None:
    """Return if browsers may be told this address.

    Raises:
        DashboardError: It is none of a WebSocket, or holds a password: everybody who opens the page would have it.
    """
    if url is None:
        return
    remedy = "write ws://host:port or wss://host:port, perhaps with a path"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DashboardError(f"--dashboard-broker-url is no address; {remedy}") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise DashboardError(
            f"--dashboard-broker-url is told to whoever opens the page: no user, password or token in it; {remedy}"
        )
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or port == 0:
        raise DashboardError(f"--dashboard-broker-url {url[:80]!r} is no address; {remedy}")


def dashboard_routes(config: DashboardConfig) -> Sequence[BaseRoute]:
    """Return the routes that serve the page below ``/dashboard/``; ``/`` leads there."""
    offered = {"broker": config.broker_url, "topic_root": config.topic_root}

    async def tell(_request: Request) -> Response:
        return JSONResponse(offered)

    async def lead(_request: Request) -> Response:
        return RedirectResponse("/dashboard/")

    # An application of its own answers also what is not there, so that every answer has the headers.
    page = Starlette(routes=[Route("/config.json", tell), Mount("/", StaticFiles(directory=FOLDER, html=True))])
    return [Route("/", lead), Mount("/dashboard", _Headers(page))]


class _Headers:
    """Adds the page's headers to every answer, refusals too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
