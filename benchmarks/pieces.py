"""What an artifact over the broker takes: time, the processor of all who carry it, and what others notice meanwhile.

Broker, `tidegate pieces` and the device are processes of their own on this machine. The device fetches as an agent
does, and proves every chunk; it installs nothing. Beside it somebody sends himself a message, QoS 1, twenty times a
second.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion
from scene import machine

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunked import Chunked, registries_and
from device_client.adapters.mqtt import Broker as DeviceBroker
from device_client.adapters.mqtt import Bus
from device_client.adapters.pieces import Pieces
from device_client.adapters.slots import Slots
from device_client.adapters.transports import Transports
from device_client.adapters.trust import PinnedKeys
from device_client.core.effects import Source
from orchestrator.adapters.brokers import Broker, open_broker
from orchestrator.adapters.releases import ReleaseStore, build_release
from schemas.messages import ArtifactRef, ManifestRef
from schemas.pieces import MQTT_BASE
from schemas.topics import Kind, TopicTree

KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
PING_SECONDS = 0.05


def publish(folder: Path, size_bytes: int) -> Source:
    """Make a release that does not deflate, and return what an order would say."""
    tree = folder / "tree"
    (tree / "models").mkdir(parents=True)
    (tree / "models" / "model.bin").write_bytes(random.Random(1).randbytes(size_bytes))
    built = build_release(tree, release="app-1", version="1", release_counter=1, command=("true",), key=KEY)
    store = ReleaseStore(folder / "releases")
    store.publish(built)
    stored = store.get("app-1")
    assert stored is not None
    return Source(*stored.by_arch[built.manifest.artifact.arch].references((MQTT_BASE,)), "app-1", "1", 0)


def fetch(arguments: dict[str, Any]) -> None:
    """Fetch, as the process of a device, and say how long it took."""
    pieces = Pieces(random.Random())
    slots = Slots(Path(arguments["folder"]))
    trust = PinnedKeys((KEY.public_key().public_bytes_raw(),))
    broker = DeviceBroker(arguments["host"], arguments["port"], "pi-1", arguments["password"])
    connected = threading.Event()
    bus = Bus(
        broker, TopicTree(), "pi-1", trust=trust, clock=time.monotonic, post=lambda _: connected.set(), pieces=pieces
    )
    pieces.ask_with(lambda payload: bus.publish(Kind.FETCH, payload))
    bus.start()
    connected.wait(30)
    transports = Transports(has_http=False, pieces=pieces)
    chunked = Chunked(slots, registries_and(lambda _: (), transports))
    source = Source(ManifestRef(**arguments["manifest"]), ArtifactRef(**arguments["artifact"]), "app-1", "1", 0)
    began_at = time.monotonic()
    Artifacts(slots, Identity("noarch", "x", trust), chunked=chunked, transports=transports).fetch(
        source, lambda: False, lambda _: None
    )
    seconds = time.monotonic() - began_at
    bus.end()
    times = os.times()
    print(json.dumps({"seconds": seconds, "processor": times.user + times.system}), flush=True)


def processor_seconds(process: int) -> float:
    """Return what a process has used of processors so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def pings(broker: Broker) -> Iterator[list[float]]:
    """Have somebody send himself messages, and collect how long each took, in seconds."""
    took: list[float] = []
    over = threading.Event()
    url, topic = broker.url, TopicTree().build(Kind.AUDIT)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="ping")
    client.username_pw_set(url.username, url.password)
    client.on_message = lambda _c, _d, message: took.append(time.monotonic() - float(message.payload))
    client.connect(url.host, url.port)
    client.subscribe(topic, qos=1)
    client.loop_start()

    def send() -> None:
        while not over.wait(PING_SECONDS):
            client.publish(topic, str(time.monotonic()), qos=1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()
        client.disconnect()
        client.loop_stop()


def broker_process(port: int) -> int:
    """Return who listens on a port."""
    wanted = f":{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(line[9] for line in lines if line[1].endswith(wanted) and line[3] == "0A")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                return int(descriptor.parts[2])
        except OSError:
            continue
    raise RuntimeError(f"nobody listens on {port}")


def run_once(kind: Any, size_bytes: int, rate: str) -> dict[str, float]:  # noqa: ANN401 - a literal of the command line
    """Fetch once, and return what it took."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        source = publish(folder, size_bytes)
        with open_broker(None, folder, kind=kind, devices=("pi-1",)) as broker:
            url = broker.url_for("pieces")
            address = f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}"
            words = ["pieces", "--folder", str(folder / "releases"), "--bandwidth-bytes-per-second", rate]
            with subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *words],
                env={**os.environ, "TIDEGATE_BROKER": address},
                stdout=subprocess.PIPE,
            ) as server:
                assert server.stdout is not None
                server.stdout.readline()
                carriers = {"broker": broker_process(broker.url.port), "server": server.pid}
                before = {who: processor_seconds(process) for who, process in carriers.items()}
                arguments = {
                    "folder": str(folder / "device"), "host": url.host, "port": broker.device_port,
                    "password": broker.url_for("pi-1").password,
                    "manifest": source.manifest.model_dump(), "artifact": source.artifact.model_dump(),
                }  # fmt: skip
                with pings(broker) as took:
                    done = subprocess.run(
                        [sys.executable, __file__, "--device", json.dumps(arguments)],
                        stdout=subprocess.PIPE,
                        check=True,
                    )
                said = json.loads(done.stdout)
                used = {f"{who}_processor": processor_seconds(it) - before[who] for who, it in carriers.items()}
                server.terminate()
        took.sort()
        return {
            "seconds": said["seconds"], "megabytes_per_second": size_bytes / 1e6 / said["seconds"], **used,
            "device_processor": said["processor"],
            "ping_p50_ms": 1000 * statistics.median(took), "ping_p99_ms": 1000 * took[int(len(took) * 0.99)],
        }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rate", default="1GB", help="what `tidegate pieces` may send in a second")
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device:
        fetch(json.loads(options.device))
        return
    found = {name: round(value, 3) for name, value in
             run_once(options.broker, options.megabytes * 1_000_000, options.rate).items()}  # fmt: skip
    if options.json:
        print(json.dumps({"machine": machine(), "broker": options.broker, **found}))
        return
    print(f"{options.megabytes} MB over the {options.broker} broker, {options.rate}/s allowed; {machine()}")
    for name, value in found.items():
        print(f"  {name:24} {value:10.3f}")


if __name__ == "__main__":
    main()
