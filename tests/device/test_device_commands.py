"""The operator's commands beside applications, whose orphans the agent adopts and buries."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from device_client.adapters.commands import CommandError, run_command
from device_client.adapters.hosting import SERVING, Application
from device_client.adapters.proc import alive
from device_client.adapters.process_host import ProcessHost


def test_command_that_fails_is_known_to_have_failed_while_orphans_are_buried(tmp_path: Path) -> None:
    host, is_over = ProcessHost(tmp_path), threading.Event()

    def tidy() -> None:
        while not is_over.is_set():
            host.tidy()

    burying = threading.Thread(target=tidy)
    burying.start()
    try:
        codes = {
            run_command(["/bin/sh", "-c", "exit 3"], 10.0, folder=tmp_path, log_path=tmp_path / "log") for _ in "12345"
        }
    finally:
        is_over.set()
        burying.join()

    assert codes == {3}


def test_command_is_not_taken_for_what_an_application_has_started(tmp_path: Path) -> None:
    for folder in ("blue", "state"):
        (tmp_path / folder).mkdir()
    host = ProcessHost(tmp_path)
    instance = host.start(Application("blue", "1.0.0", ("/bin/sleep", "60"), 1, SERVING))
    ended: list[bool] = []
    ending = threading.Timer(0.1, lambda: ended.append(host.end(instance, 0.0)))
    ending.start()

    code = run_command(["/bin/sh", "-c", "sleep 0.5; exit 4"], 10.0, folder=tmp_path, log_path=tmp_path / "log")

    ending.join()
    assert (code, ended) == (4, [True])


def test_nothing_of_a_commands_group_outlives_its_time(tmp_path: Path) -> None:
    program = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(60)"

    with pytest.raises(CommandError, match=r"had not ended after 0\.3 s"):
        run_command(
            [sys.executable, "-S", "-c", program, str(tmp_path)], 0.3, folder=tmp_path, log_path=tmp_path / "log"
        )

    left = [each for each in alive() if str(tmp_path).encode() in _command_line(each.pid)]
    assert left == []


def test_program_that_goes_into_the_background_is_given_the_time_to_leave_the_group(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "starter = os.getpid()\n"
        "if os.fork(): os._exit(0)\n"
        "while os.getppid() == starter: time.sleep(0.01)\n"
        "time.sleep(0.1)\n"  # longer than it takes to see that the starter has ended
        "os.setsid()\n"
        "time.sleep(60)\n"
    )

    run_command([sys.executable, "-S", "-c", program, str(tmp_path)], 20.0, folder=tmp_path, log_path=tmp_path / "log")

    (daemon,) = [each for each in alive() if str(tmp_path).encode() in _command_line(each.pid)]
    os.kill(daemon.pid, signal.SIGKILL)
    assert daemon.session == daemon.pid


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
