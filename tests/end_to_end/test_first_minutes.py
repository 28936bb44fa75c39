"""docs/operating.md, "From nothing to a first rollout", as a stranger types it: own keys, own mosquitto, own policy."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from device_client.settings import load_settings
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.cli.bus import request
from tests.device.device_world import ask, end_leftovers, free_port, until
from tests.end_to_end.certified import files_of, serving

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(400)]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
CHAPTER = DOCUMENT.partition("## From nothing to a first rollout")[2].partition("\n## ")[0]
PROGRAMS = {"tidegate": "orchestrator", "tidegate-agent": "device_client"}


class Shell:
    """Types commands in a folder; those that go on until they are stopped end with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.environment = dict(os.environ)

    def _words(self, command: str) -> list[str]:
        program, *words = shlex.split(command.replace("$PWD", str(self.folder)))
        return [sys.executable, "-m", PROGRAMS[program], *words]

    def type(self, command: str) -> str:
        words = self._words(command)
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=60, cwd=self.folder, env=self.environment
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: str) -> Path:
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._words(command), stdout=output, stderr=output, cwd=self.folder, env=self.environment
            )
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.terminate)
        return log


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(tmp_path, stack)


def commands() -> list[str]:
    return re.findall(r"^\$ (.+)$", CHAPTER, flags=re.MULTILINE)


def quickened(path: Path) -> None:
    """Do as the chapter says to who cannot wait; and use ports that are free here, since tests are not alone."""
    text = re.sub(
        r"^(port|standby_port) = \d+", lambda f: f"{f[1]} = {free_port()}", path.read_text(), flags=re.MULTILINE
    )
    path.write_text(f"{text}sample_interval_seconds = 0.2\n")


def test_a_stranger_comes_from_nothing_to_a_first_rollout(shell: Shell) -> None:
    init, *agents, export, doctor, plan, start, watch, approve = commands()
    ports = [free_port() for _ in range(4)]
    options = ("--device-port", "--tools-port", "--browser-port")
    typed = " ".join(f"{name} {port}" for name, port in zip(options, ports, strict=False))
    said = shell.type(f"{init} --operator alice {typed}")
    (broker, orchestrator, build) = re.findall(r"^  (.*mosquitto -c .+|tidegate .+)$", said, flags=re.MULTILINE)
    fleet = shell.folder / "fleet"
    devices = sorted(fleet.glob("access/clients/*/agent.toml"))
    with ExitStack() as stack:
        conf = Path(shlex.split(broker)[-1])
        stack.enter_context(serving(fleet / "access", conf, (ports[0], ports[1])))
        log = shell.start(orchestrator.replace("18080", str(ports[3])) + " --metrics-port 0 --settle-seconds 0.5")
        until(lambda: '"ready": true' in log.read_text(), 60)
        told = shell.type(build)
        assert f"next: {start.replace('fleet/', f'{fleet}/')}" in told
        for device, agent in zip(devices, agents, strict=True):
            assert str(device.relative_to(shell.folder)) in agent
            quickened(device)
            stack.callback(end_leftovers, device.parent / "deployments")
            shell.start(agent)
        name, _, value = export.removeprefix("export ").partition("=")
        shell.environment[name] = value.replace("$PWD", str(shell.folder))

        shell.type(doctor)
        alice = files_of(fleet / "access", "alice")
        url = BrokerUrl.parse(f"mqtts://localhost:{ports[1]}", alice)
        until(lambda: asked(url, "list")["devices"] == 2, 60)
        assert "2 devices in 2 waves" in shell.type(plan)
        shell.type(f"{start} --time-scale 120")
        (rollout,) = re.findall(r"watch (\S+)", watch)
        assert waited(url, rollout) == "awaiting_approval"
        shell.type(approve)
        assert waited(url, rollout) == "completed"
        for device in devices:
            assert ask(load_settings(device).port)["version"] == "1.0.0"


def waited(url: BrokerUrl, rollout: str) -> object:
    """Return the phase in which the rollout waits for a person or has ended."""
    ends = {"awaiting_approval", "halted", "paused", "completed", "rolled_back", "aborted"}
    return until(lambda: {asked(url, "get", rollout=rollout)["phase"]} & ends, 200).pop()


def asked(url: BrokerUrl, verb: str, **body: object) -> dict[str, Any]:
    """Ask as the person does, without the time that it takes to start a program."""
    return dict(asyncio.run(request(url, verb, body, timeout_seconds=20)).data or {})
