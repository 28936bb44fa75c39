# ruff: noqa: ANN401 - any setting
"""A device with a router before it, and clients that come all the time."""

import http.client
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.device.device_world import ask, free_port

BUSY_APPLICATION = """
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
version = json.load(open("config/app.json"))["version"]
lock, busy, drained = threading.Lock(), 0, False
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global busy
        if self.path == "/health":
            return self.say({"status": "ok", "version": version})
        with lock:
            busy += 1
        time.sleep(float(self.path.partition("=")[2] or 0.05))
        with lock:
            busy -= 1
        self.say({"version": version})
    def do_POST(self):
        global drained
        drained = True
        self.say({"in_flight": busy})
    def say(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = False, 64
server = Server(("127.0.0.1", int(sys.argv[2])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.02)
server.server_close()
"""
"""Takes its time for each request and finishes what it has begun when it is told to end."""


class RouterWorld:
    """What stands in the settings of a device with a router, and the router."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "router.template").write_text("upstream={port}")
        self.process: subprocess.Popen[bytes] | None = None

    def table(self, **changes: Any) -> str:
        """Return the settings' table; the reload is the signal that many routers take."""
        hang_up = f"import os; os.kill(int(open({str(self.folder / 'router.pid')!r}).read()), 1)"
        values: dict[str, Any] = {
            "template": "router.template",
            "reload": [sys.executable, "-S", "-c", hang_up],
            "public_port": self.port,
            "timeout_seconds": 5.0,
            **changes,
        }
        return "\n[router]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    def start(self, root: Path) -> None:
        program = str(Path(__file__).with_name("router_program.py"))
        command = [sys.executable, "-S", program, str(self.port), str(root / "router.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"
        (self.folder / "router.pid").write_text(str(self.process.pid))

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def version(self) -> str | None:
        """Return what clients reach."""
        answer = ask(self.port)
        return answer["version"] if answer else None


class Clients:
    """Clients that ask all the time, each over a new connection, and remember what they got."""

    def __init__(self, port: int, count: int = 4) -> None:
        self.port = port
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self) -> None:
        while not self.ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request("GET", "/work", headers={"Connection": "close"})
                answer = connection.getresponse()
                self.versions[json.loads(answer.read())["version"]] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()


@contextmanager
def clients_of(port: int) -> Iterator[Clients]:
    clients = Clients(port)
    for thread in clients.threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.ended.set()
        for thread in clients.threads:
            thread.join()
