"""What a page takes for granted: a broker, an orchestrator and devices, as the demo and other tests make them."""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker, start_embedded
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from orchestrator.cli.bus import request
from orchestrator.demo.fleet import DemoDevice, clone_image, write_config
from orchestrator.demo.load import drive
from orchestrator.demo.processes import Processes
from schemas.documents import Reply
from schemas.topics import TopicTree
from tests.docs.pages import ROOT
from tests.docs.reader import Reader
from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.stage import POLICY, Stage, environment_of

COMMAND: Final = ("{python}", "app/serve.py", "--port", "{port}")
_FACTS: Final = {"checks": [{"type": "crash_count", "threshold": 0, "min_samples": 1}]}
QUICK: Final[dict[str, Any]] = {
    **POLICY,
    "rollout": {
        **POLICY["rollout"],
        "canary": {
            **POLICY["rollout"]["canary"], "min_devices": 1, "percentage": 30,
            "phases": {"short_term": _FACTS, "soak": _FACTS},
        },
    },
    "rolling_update": {**POLICY["rolling_update"], "progress_deadline": 1800},
    "health_gates": {
        name: {"checks": [{**check, "min_samples": 5} for check in gate["checks"]]}
        for name, gate in POLICY["health_gates"].items()
    },
}  # fmt: skip
"""A policy whose minutes are seconds with a time scale of 60."""


DEVICES: Final = [f"d-{number:02d}" for number in range(6)]


class Plant:
    """A fleet in the reader's folder: keys and releases in ``fleet``, a broker, and what else is asked for."""

    def __init__(self, reader: Reader, *, devices: Sequence[str] = (), people: Sequence[str] = ("alice",)) -> None:
        self.reader, self.names = reader, list(devices)
        self.folder = reader.folder / "fleet"
        create_keys(self.folder / "keys")
        (self.folder / "policies").mkdir()
        aside = reader.folder / ".broker"
        aside.mkdir()
        self.broker: Broker = reader.stack.enter_context(
            start_embedded(aside, operators=people, devices=self.names, evaluators=("evaluator-2",))
        )
        command_key = load_private(self.folder / "keys" / "command.key").public_key().public_bytes_raw()
        self.stage = Stage(self.folder, self.broker, command_key)
        reader.environment |= environment_of(self.broker.url_for(people[0]))

    def publish(self, version: str, counter: int, name: str = "sensor-app") -> BuiltRelease:
        """Build and publish a release of the example application."""
        tree = self.reader.folder / ".trees" / version
        make_tree(tree, version)
        key = load_private(self.folder / "keys" / "release.key")
        built = build_release(
            tree, release=f"{name}-{version}", version=version, release_counter=counter, command=COMMAND, key=key
        )
        ReleaseStore(self.folder / "releases").publish(built)
        return built

    def start(self, *options: str) -> None:
        """Start the orchestrator."""
        self.reader.stack.callback(self.stage.stop)
        self.stage.start("--no-metrics", *options)

    def live(self, *, bad: frozenset[str] = frozenset()) -> None:
        """Let light devices live, and wait until the fleet knows them."""
        devices = [LightDevice(name, self.stage.command_key, bad) for name in self.names]
        beside(self.reader, lambda: _live(devices, self.broker))
        self._until_known()

    def run_agents(self, image: BuiltRelease, *, settings: str = "") -> list[DemoDevice]:
        """Start a real agent for each device, with ``image`` installed, and load on its application."""
        keys = self.folder / "keys"
        release_key, command_key = ((keys / name).read_text().strip() for name in ("release.pub", "command.pub"))
        devices = [
            DemoDevice(name, "raspberrypi4", "eu-north", self.reader.folder / ".devices" / name / "deployments",
                       next(self.reader.ports), next(self.reader.ports))
            for name in self.names
        ]  # fmt: skip
        for device in devices:
            write_config(device, self.broker, topic_root=TopicTree().root, release_key=release_key,
                         command_key=command_key, sample_interval_seconds=0.25)  # fmt: skip
            device.config_path.write_text(settings + device.config_path.read_text())
        (self.reader.folder / ".manifest").write_bytes(image.envelope)
        (self.reader.folder / ".artifact").write_bytes(image.artifact)
        processes = Processes(self.reader.folder)
        self.reader.stack.callback(processes.stop_all)
        files = [
            "--manifest",
            str(self.reader.folder / ".manifest"),
            "--artifact",
            str(self.reader.folder / ".artifact"),
        ]
        processes.run("provision", ["device_client", "provision", "--config", str(devices[0].config_path), *files])
        clone_image(devices[0], devices)
        for device in devices:
            processes.start(device.id, ["device_client", "run", "--config", str(device.config_path)])
        beside(self.reader, lambda: drive([device.port for device in devices]))
        self._until_known()
        return devices

    def ask(self, verb: str, **body: object) -> Reply:
        """Send a command, as the first of the people."""
        return asyncio.run(request(self.stage.operator("alice"), verb, body, timeout_seconds=10))

    def begin(self, release: str, rollout: str) -> None:
        """Start a rollout, as soon as there is a baseline."""
        body = {"release": release, "policy": QUICK, "rollout": rollout, "time_scale": 60}
        self.reader.until(lambda: self.ask("start", **body).error is None, f"{rollout} is started")

    def until_phase(self, rollout: str, *phases: str) -> None:
        """Wait for a rollout to come to one of the phases."""
        self.reader.until(
            lambda: ((self.ask("get", rollout=rollout).data) or {}).get("phase") in phases, f"{rollout} is {phases}"
        )

    def _until_known(self) -> None:
        self.reader.until(lambda: (self.ask("list").data or {}).get("devices") == len(self.names), "the fleet is there")


def until_normal(reader: Reader, release: str) -> None:
    """Wait until it is known what is normal here: then a limit that is compared with it can be judged."""
    policy = reader.folder / ".normal.json"
    write_quick_policy(policy)

    def is_known() -> bool:
        return "L012" not in reader.own("lint", str(policy), "--fleet", "--release", release, exits=(0, 1))

    reader.until(is_known, "there is a baseline")


async def _live(devices: Sequence[LightDevice], broker: Broker) -> None:
    async with living(devices, broker):
        await asyncio.Event().wait()


def make_tree(tree: Path, version: str) -> None:
    """Lay out a release of the example application."""
    application = ROOT / "examples" / "application"
    shutil.copytree(application / "app", tree / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "config").mkdir()
    shutil.copyfile(application / "versions" / f"{version}.json", tree / "config" / "app.json")


def write_quick_policy(path: Path) -> None:
    """Put a policy that is done in seconds in the place of the one that stands there."""
    path.write_text(json.dumps(QUICK, indent=2), encoding="utf-8")  # JSON is YAML.


def beside(reader: Reader, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a coroutine function in a thread of its own until the page is read."""
    loop = asyncio.new_event_loop()
    task: list[asyncio.Task[None]] = []

    async def main() -> None:
        task.append(asyncio.ensure_future(work()))
        await asyncio.gather(task[0], return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()

    def end() -> None:
        while not task:
            time.sleep(0.01)
        loop.call_soon_threadsafe(task[0].cancel)
        thread.join()
        loop.close()

    reader.stack.callback(end)


def address(url: BrokerUrl) -> str:
    return f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
