"""A collector in this process: takes OTLP over HTTP as protobuf, and keeps the spans."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Got:
    """One span as it came."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    begin: int
    end: int
    attributes: dict[str, Any]
    marks: list[str]
    error: str


@dataclass
class Collector:
    """What came, and what is answered; ``release`` lets requests go that are held."""

    url: str = ""
    status: int = 200
    spans: list[Got] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    is_held: bool = False
    release: threading.Event = field(default_factory=threading.Event)
    came: threading.Event = field(default_factory=threading.Event)

    def named(self, name: str) -> list[Got]:
        return [each for each in self.spans if each.name == name]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            self.services.add(_attributes(resource.resource.attributes)["service.name"])
            for scope in resource.scope_spans:
                self.spans += [
                    Got(
                        span.name, int.from_bytes(span.trace_id), int.from_bytes(span.span_id),
                        int.from_bytes(span.parent_span_id), span.start_time_unix_nano, span.end_time_unix_nano,
                        _attributes(span.attributes), [each.name for each in span.events], span.status.message,
                    )
                    for span in scope.spans
                ]  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:  # noqa: ANN401 - of a generated class
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.came.set()
            if collector.is_held:
                collector.release.wait(60)
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            if collector.status == 200:
                collector.take(body)
            with contextlib.suppress(OSError):  # Whoever asked may not wait any more.
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield collector
        finally:
            collector.release.set()
            server.shutdown()
            thread.join()


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return once ``condition`` holds; fail if it does not in time."""
    never = threading.Event()
    for _ in range(int(seconds * 50)):
        if condition():
            return
        never.wait(0.02)
    raise AssertionError(f"waited in vain until {what}")
