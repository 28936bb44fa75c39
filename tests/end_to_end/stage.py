"""An orchestrator as a process of its own on a real broker, and an operator beside it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker, start_embedded, start_mosquitto
from orchestrator.adapters.journal import Journal
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import ReleaseStore, build_release
from orchestrator.cli.options import FILE_VARIABLES
from orchestrator.core.events import AnyEvent, event_from_json

POLICY: dict[str, Any] = {
    "rollout": {
        "canary": {"min_devices": 2, "max_devices": 2, "immediate_minutes": 1, "short_term_minutes": 2,
                   "soak_minutes": 1, "require_human_approval_after": True},
        "waves": [
            {"name": "wave-1", "percentage": 50, "soak_minutes": 2},
            {"name": "wave-2", "percentage": 100, "soak_minutes": 2},
        ],
        "global": {"deploy_timeout_minutes": 20, "health_check_interval_seconds": 10},
    },
    "rolling_update": {"max_unavailable": 50, "min_available": 50, "min_ready_seconds": 1,
                       "health_check": {"interval_seconds": 12}},
    "health_gates": {
        "canary_gate": {"checks": [{"type": "error_rate", "threshold": "baseline + 2%", "window": "2m"}]},
        "wave_gate": {"checks": [{"type": "error_rate", "threshold": "baseline + 5%", "window": "2m"},
                                 {"type": "device_health", "threshold": "healthy_percentage >= 95%"}]},
    },
    "rollback_triggers": {
        "threshold": [{"name": "error_rate_spike", "condition": "error_rate > baseline + 10%", "window": "1m",
                       "scope": "all_deployed", "action": "rollback_all"}],
    },
}  # fmt: skip
"""With a time scale of 60 a minute is a second."""


START_SECONDS = 60
"""A busy machine takes its time to start a process."""


def poll_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return once ``condition`` holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.05)


def environment_of(url: BrokerUrl) -> dict[str, str]:
    """What a person exports to reach a broker as somebody."""
    secret = f":{url.password}" if url.password else ""
    scheme = "mqtts" if url.is_tls else "mqtt"
    files = (url.files.ca_file, url.files.certificate_file, url.files.private_key_file)
    named = {name: str(path) for name, path in zip(FILE_VARIABLES, files, strict=True) if path is not None}
    return {"TIDEGATE_BROKER": f"{scheme}://{url.username}{secret}@{url.host}:{url.port}", **named}


@dataclass
class Stage:
    """A folder, a broker, and an orchestrator that can be killed.

    Attributes:
        under: A program that becomes the orchestrator, with its arguments; empty for none.
        said: What it printed when it was connected.
    """

    folder: Path
    broker: Broker
    command_key: bytes
    process: "subprocess.Popen[bytes] | None" = None
    under: tuple[str, ...] = ()
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> str:
        """Where the orchestrator serves releases and the dashboard, while it runs."""
        return str(self.said["registry"])

    def start(self, *options: str) -> None:
        """Start the orchestrator and wait until it is connected."""
        with (self.folder / "orchestrator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.under, sys.executable, "-m", "orchestrator", "orchestrator", "--folder", str(self.folder),
                 "--tick-seconds", "0.05", "--settle-seconds", "0.5", *options],
                env={**os.environ, **environment_of(self.broker.url)}, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else b""
        assert line, (self.folder / "orchestrator.log").read_text()
        self.said = json.loads(line)
        assert self.said["ready"] is True

    def kill(self) -> None:
        """A power cut for the orchestrator."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=START_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self) -> None:
        """End it the gentle way."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        self.process.wait(timeout=START_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def facts(self) -> list[AnyEvent]:
        """Everything the journal holds."""
        reader = Journal.open_reader(self.folder / "journal.db")
        try:
            return [event_from_json(entry.body) for entry in reader.read()]
        finally:
            reader.close()

    def verify(self) -> int:
        """Check the chain and return the number of entries."""
        reader = Journal.open_reader(self.folder / "journal.db")
        try:
            return reader.verify().entry_count
        finally:
            reader.close()

    def operator(self, name: str = "alice") -> BrokerUrl:
        return self.broker.url_for(name)


def make_stage(
    stack: ExitStack, folder: Path, devices: list[str], kind: Literal["embedded", "mosquitto"] = "embedded"
) -> Stage:
    """Make keys and the releases 1.1.0 and 1.2.0, and start a broker that ends with ``stack``."""
    starter = start_embedded if kind == "embedded" else start_mosquitto
    broker = stack.enter_context(
        starter(folder, operators=("alice", "bob"), devices=devices, evaluators=("evaluator-2",))
    )
    return furnish(stack, folder, broker)


def furnish(stack: ExitStack, folder: Path, broker: Broker) -> Stage:
    """Make keys and the releases 1.1.0 and 1.2.0 for an orchestrator beside a broker that is there."""
    create_keys(folder / "keys")
    key = load_private(folder / "keys" / "release.key")
    (folder / "policies").mkdir()
    store = ReleaseStore(folder / "releases")
    for counter, version in enumerate(("1.1.0", "1.2.0"), start=1):
        tree = folder / "trees" / version
        (tree / "app").mkdir(parents=True)
        (tree / "app" / "main.txt").write_text(version)
        release = f"lab-{version}"
        store.publish(
            build_release(tree, release=release, version=version, release_counter=counter, command=["true"], key=key)
        )
    command_key = load_private(folder / "keys" / "command.key").public_key().public_bytes_raw()
    stage = Stage(folder, broker, command_key)
    stack.callback(stage.stop)
    return stage
