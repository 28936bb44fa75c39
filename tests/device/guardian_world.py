# ruff: noqa: ANN401 - builders take a value for any field
"""A device on trial, as an agent that was killed leaves it, and real guardians that look at it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_client.adapters.boot import boot_id, boot_seconds
from device_client.adapters.journal import Journal
from device_client.adapters.layout import LOCK, RECORD
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.processes import find
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import Slots
from device_client.core.machine import Phase
from device_client.core.record import Record, SlotContent, Trial
from device_client.guardian.documents import Memory, read_memory
from device_client.guardian.seen import Patience
from device_client.guardian.settings import Place
from device_client.guardian.watch import Guardian
from schemas.messages import SlotName
from tests.device.device_bench import make_content
from tests.device.device_world import COMMAND, QUICK_APPLICATION, ask, end_leftovers, free_port, until

ROOT = Path(__file__).parents[2]
KILLED = 9


class TrialDevice:
    """Blue holds 1.0.0, green holds 1.1.0, serves, and is on trial; there is no agent."""

    def __init__(self, folder: Path, **trial: Any) -> None:
        self.slots = Slots(folder / "root")
        self.root, self.state = self.slots.root, self.slots.state
        self.port = free_port()
        self.config = folder / "agent.toml"
        self.config.write_text(f'root = "root"\nport = {self.port}\n')
        blue, green = self.put("blue", "1.0.0"), self.put("green", "1.1.0")
        self.slots.switch("green")
        values: dict[str, Any] = {
            "slot": "green",
            "previous": "blue",
            "generation": 2,
            "manifest_sha256": green.manifest_sha256,
            "commit_on": "round_trip",
            "min_ready_seconds": 60.0,
            "progress_deadline_seconds": 300.0,
            "deadline_at": boot_seconds() - 1,
            "check": green.health_check,
        }
        record = Record(
            phase=Phase.TRIAL,
            boot_id=boot_id(),
            active="green",
            blue=blue,
            green=green,
            previous="blue",
            trial=Trial(**{**values, **trial}),
        )
        Journal(self.state / RECORD).save(record)
        (self.state / LOCK).touch()
        self._runtime = Runtime(self.slots, self.port, boot_seconds)
        self._hosts: list[ProcessHost] = []

    def put(self, slot: SlotName, version: str, program: str = QUICK_APPLICATION) -> SlotContent:
        folder = self.slots.open(slot)
        (folder / "app" / "serve.py").write_text(program)
        (folder / "config" / "app.json").write_text(f'{{"version": "{version}"}}')
        content = make_content(version).model_copy(update={"command": COMMAND})
        return self.slots.seal(slot, content)

    def serve(self, slot: SlotName = "green") -> None:
        """Run an application, as an agent that was killed has left it."""
        self._runtime.start(slot, self.slots.check(slot))

    def guardian(self, silence_seconds: float = 120.0) -> Guardian:
        self._hosts.append(ProcessHost(self.root))
        place = Place(self.root, dict.fromkeys(("blue", "green"), self.port), self._hosts[-1])
        return Guardian(place, Patience(silence_seconds))

    def close(self) -> None:
        """End what runs and wait for it."""
        end_leftovers(self.root)  # first: what a guardian has started listens on the same port
        self._runtime.stop()
        until(self._is_over)

    def _is_over(self) -> bool:
        """End what is left; a process that is still becoming its program shows no marks yet."""
        end_leftovers(self.root)
        for host in self._hosts:
            host.tidy()
        return not any(host._children for host in self._hosts)

    @property
    def memory(self) -> Memory:
        return read_memory(self.state)

    def version(self) -> str | None:
        answer = ask(self.port)
        return answer["version"] if answer else None

    def running(self) -> list[str]:
        return [slot for _, slot, _ in find(self.root)]


def start_guardian(config: Path, *options: str, log: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """Start a real guardian with nothing installed but Python."""
    command = [sys.executable, "-S", "-m", "device_client.guardian", "--config", str(config), *options]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={"PYTHONPATH": str(ROOT), **variables})


def look_in_child(device: TrialDevice, kill_at: int | None) -> int:
    """Let a guardian look once in a process of its own that ends at a point; return its exit code, 0 or KILLED."""
    child = os.fork()
    if child == 0:
        try:
            cut_power_at(kill_at)
            device.guardian().look()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def cut_power_at(kill_at: int | None) -> None:
    """End this process before or after the system call with that number that changes something."""
    count = 0

    def pass_one() -> None:
        nonlocal count
        if count == kill_at:
            os._exit(KILLED)
        count += 1

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            pass_one()
            result = call(*arguments, **options)
            pass_one()
            return result

        return wrapper

    for owner, name in (
        (os, "fsync"), (os, "killpg"), (Path, "replace"), (Path, "unlink"), (Path, "symlink_to"),
        (subprocess.Popen, "__init__"),
    ):  # fmt: skip
        setattr(owner, name, counted(getattr(owner, name)))
