"""Everything around a real agent: a broker, a registry, a release, and somebody who orders and grants."""

import atexit
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from schemas.codec import decode, encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.messages import ArtifactRef, Desired, Grant, HealthCheck, ManifestRef, Ready, Reported
from schemas.topics import Kind, TopicTree

RELEASE_KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
COMMAND_KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
CHECK = HealthCheck(interval_seconds=0.1, timeout_seconds=2.0, success_threshold=2)
COUNTERS = {"1.0.0": 100, "1.1.0": 110, "1.2.0": 120}
COMMAND = ("{python}", "-S", "-E", "app/serve.py", "--port", "{port}")
EXAMPLE = Path(__file__).parents[2] / "examples" / "application"

QUICK_APPLICATION = """
import json, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
version = json.load(open("config/app.json"))["version"]
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    peer, _ = listener.accept()
    peer.recv(4096)
    body = json.dumps({"status": "ok", "version": version}).encode()
    peer.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    peer.close()
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def free_port() -> int:
    """Return a port that is free and stays free for us, as one would not that the system chose and gave back."""
    while True:
        port = next(_own_ports())
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has ended and is remembered is no reason
            probe.bind(("127.0.0.1", port))
            return port


@cache
def _own_ports() -> Iterator[int]:
    """Give ports that neither the system gives away nor another process of ours, which would see the first one held."""
    for first in range(20000, 32000, 100):
        held = socket.socket()
        atexit.register(held.close)
        with suppress(OSError):
            held.bind(("127.0.0.1", first))
            return itertools.cycle(range(first + 1, first + 100))
    raise AssertionError("120 test processes hold every port from 20000 to 32000")


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:  # noqa: ANN401 - whatever the condition gives
    """Wait for ``condition`` and return what it gave; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def make_tree(folder: Path, version: str, *, application: str | None = None) -> Path:
    """Lay out a release tree; the example application, or another one."""
    tree = folder / f"tree-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("app", "models", "config"):
        (tree / name).mkdir(parents=True)
    if application is None:
        shutil.copy(EXAMPLE / "app" / "serve.py", tree / "app" / "serve.py")
        shutil.copy(EXAMPLE / "versions" / f"{version}.json", tree / "config" / "app.json")
    else:
        (tree / "app" / "serve.py").write_text(application)
        (tree / "config" / "app.json").write_text(json.dumps({"version": version}))
    (tree / "models" / "model.bin").write_bytes(os.urandom(64))
    return tree


def make_release(folder: Path, version: str, *, application: str | None = None, **changes: Any) -> BuiltRelease:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "release": f"app-{version}",
        "version": version,
        "release_counter": COUNTERS[version],
        "command": COMMAND,
        "key": RELEASE_KEY,
    }
    return build_release(make_tree(folder, version, application=application), **{**values, **changes})


def order_for(built: BuiltRelease, generation: int, base_url: str, **changes: Any) -> Desired:  # noqa: ANN401 - any field
    manifest, artifact = sha256(built.envelope), built.manifest.artifact
    values: dict[str, Any] = {
        "generation": generation,
        "epoch": 1,
        "rollout": "r-1",
        "wave": "canary",
        "action": "install",
        "release": built.manifest.release,
        "version": built.manifest.target_version,
        "manifest": ManifestRef(sha256=manifest, size_bytes=len(built.envelope), urls=(f"{base_url}/{manifest}",)),
        "artifact": ArtifactRef(
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            arch=artifact.arch,
            sources=(f"{base_url}/{artifact.sha256}",),
        ),
        "health_check": CHECK,
        "min_ready_seconds": 0.3,
        "progress_deadline_seconds": 15.0,
        "commit_on": "local_health",
    }
    return Desired(**{**values, **changes})


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP."""
    folder.mkdir(exist_ok=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def put(folder: Path, built: BuiltRelease) -> None:
    (folder / sha256(built.envelope)).write_bytes(built.envelope)
    (folder / built.manifest.artifact.sha256).write_bytes(built.artifact)


def put_chunks(folder: Path, built: BuiltRelease, base_url: str) -> ArtifactRef:
    """Put a release where ``registry`` serves it in chunks alone, and return how an order names it then."""
    ReleaseStore(folder).publish(built)
    artifact = built.manifest.artifact
    (folder / "artifacts" / artifact.sha256).unlink()
    source = f"{base_url}/artifacts/{artifact.sha256}"
    return ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes, arch=artifact.arch, sources=(source,))


@contextmanager
def broker(port: int = 0) -> Iterator[int]:
    """Run the embedded broker and give its port."""
    command = [sys.executable, "-m", "embedded_broker", "--port", str(port), "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["listening"]["mqtt"]
        finally:
            process.kill()


class Orchestrator:
    """Orders, and grants whatever is asked unless it is told to be silent."""

    def __init__(self, port: int, device: str) -> None:
        self.device = device
        self.topics = TopicTree()
        self.reports: list[Reported] = []
        self.messages: list[tuple[str, bytes]] = []
        self.questions: list[Ready] = []
        self.decision: str | None = "go"
        self.desired = b""
        self.seq = 0
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="orchestrator")
        self.client.on_message = lambda _client, _data, message: self.hear(message.topic, bytes(message.payload))
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe("fleet/v1/#", qos=1)
        assert subscribed.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def order(self, desired: Desired) -> None:
        self.desired = encode(desired)
        self.client.publish(self.topics.build(Kind.DESIRED, device=self.device), self.desired, qos=1, retain=True)

    def hear(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))
        address = self.topics.parse(topic)
        if address is None:
            return
        if address.kind is Kind.REPORTED:
            self.reports.append(decode(Reported, payload))
        elif address.kind is Kind.READY:
            self.questions.append(decode(Ready, payload))
            if self.decision is not None:
                self.grant(self.questions[-1])

    def grant(self, ready: Ready, key: Ed25519PrivateKey = COMMAND_KEY, **changes: Any) -> None:  # noqa: ANN401 - any field
        self.seq += 1
        self.client.publish(
            self.topics.build(Kind.GRANT, device=self.device),
            seal(GRANT_TYPE, encode(make_grant(self.device, ready, self.seq, self.desired, **changes)), key),
            qos=1,
        )

    def last_of(self, kind: Kind) -> bytes | None:
        topic = self.topics.filter(kind, device=self.device)
        return next((payload for known, payload in reversed(self.messages) if known == topic), None)

    def events(self) -> list[str]:
        return [topic.rsplit("/", 1)[1] for topic, _ in self.messages if "/event/" in topic]

    def until_reported(self, state: str, generation: int, seconds: float = 30.0) -> Reported:
        def find() -> Reported | None:
            last = self.reports[-1] if self.reports else None
            there = last is not None and (last.state, last.observed_generation) == (state, generation)
            return last if there else None

        found: Reported = until(find, seconds)
        return found


def make_grant(device: str, ready: Ready, seq: int, desired: bytes, **changes: Any) -> Grant:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "device": device,
        "generation": ready.generation,
        "step": ready.step,
        "epoch": 1,
        "seq": seq,
        "nonce": ready.nonce,
        "decision": "go",
        "desired_sha256": sha256(desired),
        "ttl_seconds": 60.0,
        "server_time": "2026-11-23T10:00:00Z",
    }
    return Grant(**{**values, **changes})


class AgentProcess:
    """``tidegate-agent run`` on a folder of its own."""

    def __init__(self, folder: Path, broker_url: str, **changes: Any) -> None:  # noqa: ANN401 - any setting
        self.root = folder / "root"
        self.port, self.standby_port = free_port(), free_port()
        self.config = folder / "agent.toml"
        values: dict[str, Any] = {
            "device": "pi-1",
            "device_type": "pi",
            "arch": "x86_64",
            "region": "north",
            "group": "vision",
            "root": "root",
            "port": self.port,
            "standby_port": self.standby_port,
            "broker": broker_url,
            "release_keys": [public(RELEASE_KEY).hex()],
            "command_keys": [public(COMMAND_KEY).hex()],
            "sample_interval_seconds": 0.2,
            **changes,
        }
        tables = {key: values.pop(key) for key, value in list(values.items()) if isinstance(value, dict)}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value is not None)
        for name, table in tables.items():
            text += f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        self.config.write_text(text)
        self.log = folder / "agent.log"
        self.command = [sys.executable, "-m", "device_client"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self.command, "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        end_leftovers(self.root)

    def ask(self, path: str = "/health") -> Any:  # noqa: ANN401 - parsed JSON
        return ask(self.port, path)


def ask(port: int, path: str = "/health") -> Any:  # noqa: ANN401 - parsed JSON
    """Return the application's answer, None if there is none."""
    with (
        suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer,
    ):
        return json.loads(answer.read())
    return None


def end_leftovers(root: Path) -> None:
    """End every process that was started for ``root``."""
    from device_client.adapters.families import Family  # noqa: PLC0415 - only the clean-up needs it
    from device_client.adapters.processes import left_from  # noqa: PLC0415 - the same

    for slot, role in left_from(root):
        Family(root, slot, role).end(0)
