"""New versions that do harm, and a device with one of them.

Each behaves until it serves, since it would not come through its smoke test otherwise.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_client.adapters.journal import Journal
from device_client.adapters.layout import RECORD
from device_client.adapters.slots import Slots
from device_client.provision import provision
from device_client.settings import load_settings
from orchestrator.adapters.releases import BuiltRelease
from schemas.messages import HealthCheck
from tests.device.device_world import (
    QUICK_APPLICATION,
    AgentProcess,
    Orchestrator,
    broker,
    make_release,
    order_for,
    put,
    registry,
    until,
)
from tests.device.guardian_world import start_guardian

if TYPE_CHECKING:
    import subprocess

CHECK = HealthCheck(interval_seconds=0.1, timeout_seconds=1.0, success_threshold=2)
"""The reference's is one probe in 30 s: its four minutes are 0.8 s here."""
FOUR_MINUTES = 0.8
TRIAL_SECONDS = 3.0
SERVE = QUICK_APPLICATION
WHEN_SERVING = "if os.environ['TIDEGATE_ROLE'] == 'serving':"
_BEGINNING = f"import os, sys, time\nborn = time.monotonic()\n{WHEN_SERVING}\n"


def hostile(*lines: str, then: str = SERVE) -> str:
    """Return a version that does ``lines`` when it serves, before it answers."""
    return _BEGINNING + "".join(f"    {line}\n" for line in ("pass", *lines)) + then


def in_loop(*lines: str) -> str:
    """Return a version that does ``lines`` before each answer when it serves; ``answers`` counts them."""
    program = hostile(then="answers = 0\n" + SERVE)
    does = "".join(f"        {line}\n" for line in lines)
    return program.replace(
        "    peer.recv(4096)\n",
        f"    peer.recv(4096)\n    answers += 1\n    {WHEN_SERVING}\n{does}",
    )


def runaways(count: int) -> tuple[str, ...]:
    """Return lines that start processes which leave their parent, group, session and environment behind."""
    return (
        f"for _ in range({count}):",
        "    if os.fork() == 0:",
        "        os.setsid()",
        "        if os.fork() == 0:",
        "            os.setsid()",
        "            os.execve(sys.executable, ['runaway', '-S', '-c', RUN, os.environ['PORT']], {})",
        "        os._exit(0)",
    )


STUBBORN = "RUN = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'"
BOMB = (  # bounded, since the machine is shared: sixty-four, each in a session of its own
    "for _ in range(6):",
    "    if os.fork() == 0: os.setsid()",
)


class HostileDevice:
    """A device that serves 1.0.0, with everything around it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.url = stack.enter_context(registry(folder / "registry"))
        self.broker = ExitStack()
        stack.callback(self.close)
        port = self.broker.enter_context(broker())
        self.agent = AgentProcess(folder, f"mqtt://127.0.0.1:{port}")
        self.guardian: subprocess.Popen[bytes] | None = None
        self.orchestrator = Orchestrator(port, "pi-1")
        old = self.publish("1.0.0", SERVE)
        (folder / "manifest").write_bytes(old.envelope)
        (folder / "artifact").write_bytes(old.artifact)
        settings = load_settings(self.agent.config)
        slots = Slots(self.agent.root)
        provision(settings, slots, Journal(slots.state / RECORD), folder / "manifest", folder / "artifact")
        self.agent.start()

    def publish(self, version: str, application: str) -> BuiltRelease:
        built = make_release(self.folder, version, application=application)
        put(self.folder / "registry", built)
        return built

    def switch_to(self, application: str, **terms: Any) -> None:  # noqa: ANN401 - any field of the order
        """Order this version and wait for the moment of the switch."""
        self.order(application, **terms)
        until(lambda: "to=draining" in self.agent.log.read_text())

    def order(self, application: str, **terms: Any) -> None:  # noqa: ANN401 - any field of the order
        """Let the device switch to this version."""
        values = {"health_check": CHECK, "min_ready_seconds": 0.3, "progress_deadline_seconds": TRIAL_SECONDS, **terms}
        self.orchestrator.order(order_for(self.publish("1.1.0", application), 1, self.url, **values))

    def lose_broker(self) -> None:
        """Take the broker away, and the orchestrator with it."""
        self.orchestrator.close()
        self.broker.close()

    def guard(self, *options: str) -> None:
        self.guardian = start_guardian(self.agent.config, *options, log=self.folder / "guardian.log")

    def serves(self, version: str) -> bool:
        answer = self.agent.ask()
        return answer is not None and answer["version"] == version

    def outcome(self) -> tuple[str, str | None]:
        """Return where the device is, and why, as it remembers that."""
        record = json.loads((self.agent.root / "state" / RECORD).read_bytes())
        return record["phase"], record["error"]["code"] if record["error"] else None

    def left_of_it(self) -> list[str]:
        """Return the processes on this machine that come from the new version, whatever they have shed."""
        green, port = str(self.agent.root / "green"), f"\0{self.agent.port}\0"
        return [
            pid
            for pid, seen in _processes()
            if seen.startswith(green) or (seen.startswith("runaway\0") and port in seen)
        ]

    def close(self) -> None:
        if self.guardian is not None:
            self.guardian.kill()
            self.guardian.wait()
        self.agent.close()
        self.orchestrator.close()
        self.broker.close()


def _processes() -> Iterator[tuple[str, str]]:
    """Give each process with its folder, and with its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield entry.name, str((entry / "cwd").readlink())
                yield entry.name, (entry / "cmdline").read_text(errors="replace")
            except OSError:
                continue
