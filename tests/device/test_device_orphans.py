"""Processes that an agent adopts: real ones, in a program of its own that adopts orphans as the agent does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_client.adapters.hooks import Hooks
from device_client.adapters.hosting import SLOTS
from device_client.adapters.proc import status_of
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.processes import identify, left_from
from device_client.core.effects import RunHook
from device_client.core.events import Step
from tests.device.device_world import AgentProcess, until
from tests.device.guardian_world import ROOT, TrialDevice, start_guardian
from tests.device.host_stage import OVERWRITE

DAEMON = f"""
import os, sys, time
def daemonize():
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        {OVERWRITE}
        pending = sys.argv[1] + ".pending"
        open(pending, "w").write(str(os.getpid()))
        os.rename(pending, sys.argv[1])
        time.sleep(60)
        os._exit(0)
"""
"""Defines how a program puts itself into the background and then overwrites its variables, as nginx does."""
ADOPTING = """
import json, os, subprocess, sys
from pathlib import Path
from device_client.adapters.commands import run_command
from device_client.adapters.families import adopt_orphans
from device_client.adapters.hosting import SERVING, Application
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.proc import ended_children, status_of
from device_client.adapters.processes import identify
from device_client.adapters.router import Router
from tests.device.device_world import until

adopt_orphans()
root = Path(sys.argv[1])
host = ProcessHost(root)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    for name in (*SLOTS, "state"):
        (tmp_path / name).mkdir()
    yield tmp_path
    for file in tmp_path.glob("daemon*"):
        os.kill(int(file.read_text()), signal.SIGKILL)


def in_a_program(root: Path, code: str, *arguments: str) -> Any:  # noqa: ANN401 - parsed JSON
    """Run ``code`` in a program that adopts orphans and return what it says."""
    command = [sys.executable, "-c", ADOPTING + code, str(root), *arguments]
    return json.loads(subprocess.check_output(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60))


def test_router_that_its_reload_put_into_the_background_outlives_the_application(root: Path) -> None:
    (root / "template").write_text("{port}")

    said = in_a_program(
        root,
        """
code, daemon = sys.argv[2], root / "daemon"
instance = host.start(Application("blue", "1.0.0", ("/bin/sleep", "60"), 1, SERVING))
Router(root, root / "template", (sys.executable, "-S", "-c", code, str(daemon)), 20.0).lead_to("blue", "1.0.0", 1)
process = identify(int(until(lambda: daemon.exists() and daemon.read_text())))
is_adopted = until(lambda: status_of(process.pid).parent == os.getpid())
is_ended = host.end(instance, 1.0)
print(json.dumps([is_adopted, is_ended, process.is_alive()]))
""",
        DAEMON + "daemonize()\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n",
    )

    assert said == [True, True, True]


def test_what_an_application_let_loose_is_ended_though_it_has_overwritten_its_variables(root: Path) -> None:
    said = in_a_program(
        root,
        """
code, daemon = sys.argv[2], root / "daemon"
command = (sys.executable, "-S", "-c", code, str(daemon))
instance = host.start(Application("blue", "1.0.0", command, 1, SERVING))
process = identify(int(until(lambda: daemon.exists() and daemon.read_text())))
daemon.unlink()
until(lambda: status_of(process.pid).parent == os.getpid())
print(json.dumps([host.end(instance, 1.0), process.is_alive()]))
""",
        DAEMON + "daemonize()\ntime.sleep(60)\n",
    )

    assert said == [True, False]


def run_hook(root: Path, code: str) -> None:
    command = (sys.executable, "-S", "-c", code, str(root / "daemon"))
    hooks = Hooks("pi-1", root, {Step.AFTER_COMMIT: command}, 20.0, root / "state" / "hooks.log")
    hooks.run(RunHook(1, Step.AFTER_COMMIT, 1, "green", "1.1.0", "blue", "1.0.0"), lambda: False)


def test_what_a_hook_put_into_the_background_outlives_the_next_start_of_the_agent(root: Path) -> None:
    keeps_its_variables = DAEMON.replace(OVERWRITE, "pass")

    run_hook(root, keeps_its_variables + "daemonize()\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n")
    daemon = identify(int((root / "daemon").read_text()))

    assert ProcessHost(root).end_others(None, 1.0)
    assert daemon is not None
    assert daemon.is_alive()


def test_hook_whose_agent_was_killed_is_found_and_ended(root: Path) -> None:
    code = "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    agent = os.fork()
    if agent == 0:
        try:
            run_hook(root, code)
        finally:
            os._exit(1)
    text = until(lambda: (root / "daemon").exists() and (root / "daemon").read_text())
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    hook = identify(int(text))
    (root / "daemon").unlink()

    assert left_from(root) == {("green", "hook")}
    assert ProcessHost(root).end_others(None, 1.0)
    assert hook is not None
    assert not hook.is_alive()


def test_all_orphans_are_buried_and_no_exit_code_of_our_own_with_them(root: Path) -> None:
    said = in_a_program(
        root,
        """
own = subprocess.Popen(["/bin/sh", "-c", "exit 3"])  # it ends first, and is waited for last
until(lambda: ended_children(os.getpid()))
left_its_group = (sys.executable, "-S", "-c", sys.argv[2])
for _ in range(3):
    run_command(left_its_group, 10.0, folder=root, log_path=root / "state" / "log")
for _ in range(3):
    subprocess.run(["/bin/sh", "-c", "(setsid sleep 0.1 &)"])
until(lambda: len(ended_children(os.getpid())) == 7)
sessions = {status.session == os.getsid(0) for status in ended_children(os.getpid())}
host.tidy()
print(json.dumps([sorted(sessions), [status.pid == own.pid for status in ended_children(os.getpid())], own.wait()]))
""",
        "import os, time\nchild = os.fork()\nif child == 0: time.sleep(0.1)\nelse: os.setpgid(child, child)",
    )

    assert said == [[False, True], [True], 3]


@pytest.mark.parametrize("kind", ["process", "docker"])
def test_guardian_adopts_orphans_only_where_it_buries_them(tmp_path: Path, kind: str) -> None:
    leaves_one = f"#!/bin/sh\n[ -e {tmp_path}/orphan ] || (setsid sleep 60 & echo $! > {tmp_path}/orphan)\nexit 0\n"
    for name in ("docker", "reload"):
        (tmp_path / name).write_text(leaves_one)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "template").write_text("{port}")
    device = TrialDevice(tmp_path)
    tables = f'[runtime]\nkind = "{kind}"\n[router]\ntemplate = "template"\nreload = ["{tmp_path}/reload"]\n'
    device.config.write_text(f"{device.config.read_text()}standby_port = 1\n{tables}")
    guardian = start_guardian(device.config, log=tmp_path / "log", PATH=f"{tmp_path}:{os.environ['PATH']}")
    pid = int(until(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text()))
    try:
        assert (until(lambda: _parent_beside(pid, "sh", "reload", "docker")) == guardian.pid) == (kind == "process")
    finally:
        os.kill(pid, signal.SIGKILL)
        guardian.kill()
        guardian.wait()
        device.close()


@pytest.mark.parametrize(("kind", "said"), [("process", "adopts\n"), ("systemd", ""), ("docker", ""), ("podman", "")])
def test_agent_adopts_orphans_only_where_it_buries_them(tmp_path: Path, kind: str, said: str) -> None:
    config = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", runtime={"kind": kind}).config
    code = (
        "from unittest.mock import Mock; from device_client import __main__ as program\n"
        "program.build_agent = lambda settings: (Mock(), None, None)\n"
        "program.adopt_orphans = lambda: print('adopts')\n"
        "raise SystemExit(program.main())\n"
    )

    command = [sys.executable, "-c", code, "run", "--config", str(config)]
    assert subprocess.check_output(command, text=True, env={"PYTHONPATH": str(ROOT)}) == said


def _parent_beside(pid: int, *names: str) -> int | None:
    """Return the parent of a process once it is none of these programs."""
    status = status_of(pid)
    assert status is not None
    is_one = Path(f"/proc/{status.parent}/comm").read_text().strip() in names
    return None if is_one else status.parent
