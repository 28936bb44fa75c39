"""What the benchmarks of a connected fleet share: broker, orchestrator and devices as processes, and the figures."""

import asyncio
import json
import os
import platform
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swarm import Swarm, name_of

from orchestrator.adapters.brokers import Broker, open_broker
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.registry import serve_registry
from orchestrator.adapters.releases import ReleaseStore, build_release
from orchestrator.cli.bus import request

NEW_VERSION = "2.0.0"
RELEASE = f"app-{NEW_VERSION}"
OPERATOR = "operator"


@dataclass(frozen=True)
class Scene:
    """A broker, an orchestrator and a connected fleet."""

    folder: Path
    broker: Broker
    swarm: Swarm

    def command(self, verb: str, **body: object) -> dict[str, Any]:
        """Send a command as the operator and return what is answered."""
        reply = asyncio.run(request(self.broker.url_for(OPERATOR), verb, body, timeout_seconds=120))
        assert reply.error is None, reply.error
        return dict(reply.data or {})


@contextmanager
def connected_fleet(devices: int, kind: Literal["embedded", "mosquitto"]) -> Iterator[Scene]:
    """Start a broker with its database on this disk, an orchestrator, and devices that have announced themselves."""
    _raise_limits()
    names = [name_of(number) for number in range(devices)]
    with ExitStack() as stack:
        # /tmp may be in memory, which is not durable.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-")))
        _prepare(folder)
        broker = stack.enter_context(open_broker(None, folder, kind=kind, operators=(OPERATOR,), devices=names))
        stack.enter_context(_orchestrator(folder, broker))
        assert broker.access is not None
        passwords = {name: broker.access.passwords[name] for name in names}
        swarm = stack.enter_context(Swarm(broker.url.host, broker.device_port, passwords))
        swarm.all_got("connected")
        scene = Scene(folder, broker, swarm)
        while scene.command("list")["devices"] < devices:
            pass
        yield scene


def _raise_limits() -> None:
    """Take as many open files as this user may have; the processes started here inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prepare(folder: Path) -> None:
    create_keys(folder / "keys")
    (folder / "policies").mkdir()
    (folder / "tree" / "app").mkdir(parents=True)
    (folder / "tree" / "app" / "main.txt").write_text(NEW_VERSION)
    key = load_private(folder / "keys" / "release.key")
    release = build_release(
        folder / "tree", release=RELEASE, version=NEW_VERSION, release_counter=1, command=["true"], key=key
    )
    ReleaseStore(folder / "releases").publish(release)


@contextmanager
def _orchestrator(folder: Path, broker: Broker) -> Iterator[None]:
    url = broker.url
    address = f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}"
    command = [sys.executable, "-m", "orchestrator", "orchestrator", "--folder", str(folder), "--settle-seconds", "1"]
    with (
        (folder / "orchestrator.log").open("wb") as log,
        subprocess.Popen(
            command, env={**os.environ, "TIDEGATE_BROKER": address}, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            assert process.stdout is not None
            select.select([process.stdout], [], [], 30)
            assert process.stdout.readline(), (folder / "orchestrator.log").read_text()
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the registry of the product and give its address."""
    loop, over, found = asyncio.new_event_loop(), asyncio.Event(), []
    is_up = threading.Event()

    async def run() -> None:
        async with serve_registry(folder, "127.0.0.1", 0) as url:
            found.append(url)
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    is_up.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def machine() -> str:
    """Say what this is measured on."""
    return f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"


def told(name: str, title: str, runs: Sequence[float], bar_seconds: float, *, as_json: bool, **more: object) -> str:
    """Return the median of ``runs`` beside its bar: words for people, or one JSON object."""
    figure = round(statistics.median(runs), 3)
    ratio = round(figure / bar_seconds, 2)
    if as_json:
        facts = {"name": name, "figure": figure, "unit": "s", "bar": bar_seconds, "ratio": ratio}
        return json.dumps({**facts, "runs": [round(each, 3) for each in runs], **more, "machine": machine()})
    spread = f"{min(runs):.2f} to {max(runs):.2f} s"
    extra = "".join(f"\n{key.replace('_', ' ')}: {value}" for key, value in more.items())
    result = f"{title}: median {figure} s of {len(runs)} runs ({spread}), bar {bar_seconds} s, ratio {ratio}"
    return f"{machine()}\n{result}{extra}"
