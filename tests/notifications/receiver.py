"""A real HTTP server that notes what it is sent and answers as it is told; and values to send."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from schemas.documents import CheckResult, GateResult, StatusDocument, WaveStatus

AT = "2026-11-29T12:00:00.000Z"
Answer = tuple[int, bytes]


@dataclass
class Receiver:
    """What came, and what is answered: the next of ``answers``, or ``usual``."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    usual: Answer = (204, b"")
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] = field(default=lambda: None)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def triggers(self) -> list[str]:
        return [body["trigger"] for body in self.bodies]


@contextmanager
def receiving(certificate: Path | None = None) -> Iterator[Receiver]:
    """Serve on a free port; with TLS if there is a certificate, whose key lies beside it."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.before()
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status, answer = receiver.answers.pop(0) if receiver.answers else receiver.usual
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    scheme = "http" if certificate is None else "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/hooks/path-secret"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_status(phase: str = "deploying", wave: str | None = "canary", **changes: object) -> StatusDocument:
    """A rollout of a canary and one wave; before its end the canary's state is the rollout's."""
    order = ("canary", "wave-1")
    number = order.index(wave) if wave else 1
    states = [phase if place == number else ("done" if place < number else "waiting") for place in range(2)]
    waves = tuple(
        WaveStatus(
            wave=name, devices=4, done=2 if place <= number else 0, healthy=0, failed=place, offline=0, state=state,
            soaked_seconds=0.0, soak_required_seconds=60.0,
        )
        for place, (name, state) in enumerate(zip(order, states, strict=True))
    )  # fmt: skip
    fields: dict[str, Any] = {
        "rollout": "r-1", "release": "camera-1.2.0", "version": "1.2.0", "phase": phase, "wave": wave, "paused": False,
        "counts": {"total": 8}, "reasons": ("because",), "allowed": ("pause", "abort"), "started_at": AT,
        "started_by": "alice", "ts": AT, "plan_digest": "a" * 64, "waves": waves,
    }  # fmt: skip
    return StatusDocument.model_validate({**fields, **changes})


def make_gate(verdict: str = "pass", decision: str = "proceed", check: str = "error_rate") -> GateResult:
    result = CheckResult.model_validate(
        {"check": check, "limit_expr": "error_rate < 3%", "observed": 0.041, "baseline": 0.01, "limit": 0.03,
         "samples": 100, "verdict": verdict, "why": "4.10% of 100 requests in group lab, limit 3.00%"}
    )  # fmt: skip
    fields = {"gate": "canary_gate", "verdict": verdict, "decision": decision, "evaluated_at": AT, "devices": 2}
    return GateResult.model_validate({**fields, "checks": (result,)})
