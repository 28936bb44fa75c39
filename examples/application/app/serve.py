"""An application to roll out: it measures something, over HTTP, with a handful of sensor handles.

Every measurement borrows a handle for a fifth of a second; when none is free it answers 503. How many there are stands
in config/app.json. One is enough on a bench, where requests come one after the other. Under load it is not.
"""

import argparse
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import uniform
from typing import ClassVar

BOUNDS_SECONDS = tuple(round(0.01 * 1.1**step, 6) for step in range(54))
"""From 10 ms to 1.6 s, each a tenth above the one before, so that a quantile is known within a tenth."""
WAIT_SECONDS = 0.002
"""How long a request waits for a free handle."""


class Sensor:
    """A pool of handles and what became of the requests for them."""

    def __init__(self, pool_size: int) -> None:
        self._handles = threading.Semaphore(pool_size)
        self._lock = threading.Lock()
        self.requests_total = 0
        self.errors_total = 0
        self.seconds_sum = 0.0
        self.buckets = [0] * len(BOUNDS_SECONDS)

    def measure(self) -> float | None:
        """Return a temperature, or None if no handle is free."""
        started_at = time.monotonic()
        celsius = None
        if self._handles.acquire(timeout=WAIT_SECONDS):
            try:
                time.sleep(uniform(0.150, 0.250))  # noqa: S311 - a sensor takes its time
                celsius = round(uniform(20.0, 22.0), 2)  # noqa: S311 - and has some noise
            finally:
                self._handles.release()
        self._count(time.monotonic() - started_at, failed=celsius is None)
        return celsius

    def _count(self, seconds: float, *, failed: bool) -> None:
        with self._lock:
            self.requests_total += 1
            self.errors_total += failed
            self.seconds_sum += seconds
            for position, bound in enumerate(BOUNDS_SECONDS):
                self.buckets[position] += seconds <= bound

    def metrics(self) -> str:
        """Return the counters in Prometheus's text format."""
        name = "app_request_duration_seconds"
        with self._lock:
            lines = [
                f"app_requests_total {self.requests_total}",
                f"app_errors_total {self.errors_total}",
                *(f'{name}_bucket{{le="{le}"}} {n}' for le, n in zip(BOUNDS_SECONDS, self.buckets, strict=True)),
                f'{name}_bucket{{le="+Inf"}} {self.requests_total}',
                f"{name}_sum {self.seconds_sum:.6f}",
                f"{name}_count {self.requests_total}",
            ]
        return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    """Answers /measure, /health and /metrics."""

    sensor: ClassVar[Sensor]
    version: ClassVar[str]

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path == "/measure":
            celsius = self.sensor.measure()
            self._answer(503 if celsius is None else 200, {"celsius": celsius})
        elif self.path == "/health":
            self._answer(200, {"status": "ok", "version": self.version})
        elif self.path == "/metrics":
            self._send(200, "text/plain; version=0.0.4", self.sensor.metrics().encode())
        else:
            self._answer(404, {"error": "try /measure, /health or /metrics"})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server uses
        """Say nothing about single requests; the counters do."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    config = json.loads((Path(__file__).parent.parent / "config" / "app.json").read_text())
    Handler.version = config["version"]
    Handler.sensor = Sensor(config["pool_size"])
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
