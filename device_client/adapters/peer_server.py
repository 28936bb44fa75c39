"""Giving the other devices of a site what this one has: ``GET /chunks/<sha256>``, out of verified slots, nothing else.

Each chunk is read and compared with its digest before the first byte of it goes out; a slot without its marker gives
nothing. How many are answered at a time, how fast, and for how long each may stay is bounded: what a device gives must
never cost what it is there for.
"""

import logging
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from device_client.adapters.peer_places import Places, Welcome
from device_client.adapters.peer_stock import Stock
from device_client.adapters.slots import Slots

CONNECTION_SECONDS_MAX: Final = 60.0
"""A connection that is older is closed, whatever it is doing; an honest client makes another one."""
_IDLE_SECONDS: Final = 3.0
_TURNED_AWAY_MAX: Final = 32
"""So many at a time are told that it is busy; the others see their connection closed."""
_POLL_SECONDS: Final = 0.5
_REBIND_SECONDS: Final = 30.0
_PIECE_BYTES: Final = 16 * 1024
_PATH: Final = re.compile(r"/chunks/([0-9a-f]{64})")

_log = logging.getLogger(__name__)


class Pace:
    """Spreads bytes over time, for all connections together.

    Args:
        bytes_per_second: How many; None for as many as there are.
    """

    def __init__(self, bytes_per_second: int | None) -> None:
        self._seconds_per_byte = 0.0 if bytes_per_second is None else 1 / bytes_per_second
        self._guard = threading.Lock()
        self._free_at = 0.0

    def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may be sent."""
        with self._guard:
            now = time.monotonic()
            begins_at = max(now, self._free_at)
            self._free_at = begins_at + size_bytes * self._seconds_per_byte
        if begins_at > now:
            time.sleep(begins_at - now)


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """How much is given.

    Attributes:
        connections_max: Answered at a time.
        bytes_per_second: In all; None for no limit.
    """

    connections_max: int = 16
    bytes_per_second: int | None = None


class PeerServer:
    """Answers the other devices from a few threads of its own; an address that cannot be used yet is tried again.

    Args:
        slots: What is given.
        host: Where to listen.
        port: The same; 0 for any.
        limits: How much is given.
    """

    def __init__(self, slots: Slots, host: str, port: int, limits: PeerLimits) -> None:
        self._address = (host, port)
        self._stock, self._limits = Stock(slots), limits
        self._ended = threading.Event()
        self._guard = threading.Lock()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)

    @property
    def port(self) -> int | None:
        """Where it listens; None while it does not."""
        with self._guard:
            return None if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def end(self) -> None:
        """Answer nobody any more."""
        self._ended.set()
        with self._guard:
            server = self._server
        if server is not None:
            server.shutdown()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                server = _Server(self._address, _Handler, self._stock, self._limits)
            except OSError as error:
                _log.warning("peers.not_listening address=%s:%d reason=%s", *self._address, error)
                self._ended.wait(_REBIND_SECONDS)
                continue
            with self._guard:  # so that whoever ends it sees the server, or it is never begun
                self._server = None if self._ended.is_set() else server
            if self._server is not None:
                server.serve_forever(poll_interval=_POLL_SECONDS)
            server.server_close()
            server.close_older_than(0.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Any, stock: Stock, limits: PeerLimits) -> None:  # noqa: ANN401 - what socketserver takes
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)
        self.stock, self.pace = stock, Pace(limits.bytes_per_second)
        self._places = Places(limits.connections_max)
        self._guard = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        self._welcomes: dict[socket.socket, tuple[str, Welcome]] = {}

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()  # nobody's name is looked up

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - what socketserver gives
        address, now = str(client_address[0]), time.monotonic()
        with self._guard:
            turned_away = sum(welcome is Welcome.BUSY for _, welcome in self._welcomes.values())
            welcome = self._places.take(address, now)
            is_flooded = welcome is Welcome.BUSY and turned_away >= _TURNED_AWAY_MAX
            if not is_flooded:
                self._since[request] = now
                self._welcomes[request] = address, welcome
        if is_flooded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the same
        with self._guard:
            self._since.pop(request, None)
            if (known := self._welcomes.pop(request, None)) is not None:
                self._places.leave(*known, time.monotonic())
        super().shutdown_request(request)

    def welcome(self, request: socket.socket) -> Welcome:
        with self._guard:
            return self._welcomes[request][1]

    def close_older_than(self, seconds: float) -> None:
        now = time.monotonic()
        with self._guard:
            old = [request for request, since in self._since.items() if now - since >= seconds]
        for request in old:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def service_actions(self) -> None:
        self.close_older_than(CONNECTION_SECONDS_MAX)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the same
        _log.debug("peers.connection_failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    server_version, sys_version = "tidegate", ""

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self._say(HTTPStatus.BAD_REQUEST, b"", is_last=True)
        elif (welcome := server.welcome(self.connection)) is Welcome.BUSY:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, b"", is_last=True)
        else:
            match = _PATH.fullmatch(self.path)
            data = None if match is None else server.stock.get(match[1])
            status = HTTPStatus.NOT_FOUND if data is None else HTTPStatus.OK
            self._say(status, data or b"", is_last=welcome is Welcome.ONCE)

    def _say(self, status: HTTPStatus, body: bytes, *, is_last: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        if is_last:
            self.send_header("Connection", "close")
        self.end_headers()
        pace = cast("_Server", self.server).pace
        for start in range(0, len(body), _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            pace.take(len(piece))
            self.wfile.write(piece)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - the library's name
        _log.debug("peers.asked " + format, *values)
