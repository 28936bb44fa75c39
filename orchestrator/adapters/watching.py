"""Where others watch the orchestrator over HTTP.

``/metrics`` is for Prometheus, ``/healthz`` and ``/readyz`` are for whoever keeps it running. Nothing can be changed
here, and what is asked too often is answered from memory.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.adapters.journal import Journal
from orchestrator.adapters.metric_facts import FactMetrics
from orchestrator.adapters.metric_rollouts import collect_rollouts
from orchestrator.adapters.metric_state import FleetMetrics
from orchestrator.adapters.mqtt import MqttBus
from orchestrator.adapters.registry import RegistryError, serve_app
from orchestrator.service import Engine
from schemas.errors import FleetError

log = logging.getLogger(__name__)

DEFAULT_PORT: Final = 9464
"""The one that is reserved for metrics of whatever has none of its own."""
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
_PLAIN: Final = "text/plain; version=0.0.4"
_REMEMBERED_SECONDS: Final = 1.0
_OVERDUE_SECONDS: Final = 30.0
"""When decisions by time are so late, nothing is decided any more."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where it listens, and what is told.

    Attributes:
        port: 0 takes a free one; None the usual one, and where that is taken nobody listens.
        per_device: Name every device.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    per_device: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched."""

    engine: Engine
    bus: MqttBus
    journal: Journal
    facts: FactMetrics
    clock: Callable[[], float]
    tick_seconds: float

    def ailments(self) -> list[str]:
        """Say why the process should be started again; nothing while it does its work."""
        if self.bus.failure is not None:
            return [f"it has failed: {self.bus.failure}"]
        try:
            self.journal.probe()
        except FleetError as error:
            return [str(error)]
        since = max(self.engine.tally.ticked_at or 0.0, self.engine.state.listening_since)
        overdue = self.clock() - since - self.tick_seconds
        if self.bus.is_connected and overdue > _OVERDUE_SECONDS:
            return [f"nothing was decided by time for {overdue:.0f} s"]
        return []

    def obstacles(self) -> list[str]:
        """Say why nothing can be decided here now; nothing while it can."""
        found = self.ailments()
        if not self.bus.is_connected:
            found.append("it is not connected to the broker")
        elif self.clock() < self.engine.blind_until:
            found.append("it settles: the fleet has not spoken again yet")
        return found


@contextlib.asynccontextmanager
async def serve_watching(watched: Watched, endpoint: Endpoint | None) -> AsyncIterator[str | None]:
    """Serve inside the running loop and yield the URL of the metrics; None where nobody listens.

    Raises:
        RegistryError: The port that was asked for cannot be listened on.
    """
    async with contextlib.AsyncExitStack() as stack:
        url: str | None = None
        if endpoint is not None:
            app = create_app(watched, per_device=endpoint.per_device)
            port = DEFAULT_PORT if endpoint.port is None else endpoint.port
            try:
                url = await stack.enter_async_context(
                    serve_app(app, endpoint.host, port, who="metrics", options="--metrics-")
                )
            except RegistryError as error:
                if endpoint.port is not None:
                    raise
                log.warning("no metrics are served: %s", error)
        yield None if url is None else f"{url}/metrics"


def create_app(watched: Watched, *, per_device: bool = False) -> Starlette:
    """Return the application that answers about what is watched."""
    is_connected, tick_seconds = (lambda: watched.bus.is_connected), watched.tick_seconds
    fleet = FleetMetrics(watched.engine, is_connected, tick_seconds=tick_seconds, per_device=per_device)
    scrape = _Scrape(watched, fleet)
    return Starlette(
        routes=[
            Route("/metrics", scrape.answer),
            Route("/healthz", _answer_with(_remembered(watched.ailments, watched.clock))),
            Route("/readyz", _answer_with(_remembered(watched.obstacles, watched.clock))),
        ]
    )


class _Scrape:
    """Writes the metrics down; a collection of its own, without anything global."""

    def __init__(self, watched: Watched, fleet: FleetMetrics) -> None:
        self._watched = watched
        self._fleet = fleet
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._written: dict[str, tuple[float, bytes]] = {}
        self._writing = asyncio.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield all families; called by the encoder, like a registry's."""
        now, engine = self._watched.clock(), self._watched.engine
        yield from self._fleet.collect(now)
        yield from collect_rollouts(engine.state, engine.context, now)
        self._watched.facts.expect(engine.state)
        yield from self._watched.facts.collect()
        yield from self._process.collect()

    async def answer(self, request: Request) -> Response:
        """Write the metrics in the form that is asked for; within a second the same again."""
        encode, media_type = choose_encoder(_form_of(request.headers.get("accept", "")))
        async with self._writing:
            at, text = self._written.get(media_type, (float("-inf"), b""))
            if self._watched.clock() - at >= _REMEMBERED_SECONDS:
                await self._fleet.learn()
                text = encode(self)
                self._written[media_type] = self._watched.clock(), text
        return Response(text, media_type=media_type)


def _form_of(accept: str) -> str:
    """Return which of the two forms a header asks for; plain text, where it asks for none that we have.

    Each form costs a collection and stays in memory, so none is made for what somebody has made up.
    """
    for accepted in accept.split(","):
        media_type, *options = (part.strip() for part in accepted.split(";"))
        versions = {option.removeprefix("version=") for option in options if option.startswith("version=")}
        if media_type == "application/openmetrics-text" and versions <= {"1.0.0"}:
            return _OPENMETRICS
    return _PLAIN


def _remembered(look: Callable[[], list[str]], clock: Callable[[], float]) -> Callable[[], list[str]]:
    """Return ``look`` as it answered within the last second: it writes to the disk, and anybody may ask."""
    seen: tuple[float, list[str]] = float("-inf"), []

    def look_again() -> list[str]:
        nonlocal seen
        if clock() - seen[0] >= _REMEMBERED_SECONDS:
            seen = clock(), look()
        return seen[1]

    return look_again


def _answer_with(look: Callable[[], list[str]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        found = look()
        return PlainTextResponse("\n".join(found) or "ok", 503 if found else 200)

    return answer
