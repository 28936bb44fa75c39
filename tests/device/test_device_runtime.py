"""The application as a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters import logs, proc, processes
from device_client.adapters import runtime as runtime_module
from device_client.adapters.boot import boot_id
from device_client.adapters.failure import StepError
from device_client.adapters.processes import find, identify, left_from, usage_of
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import Slots
from device_client.core.record import SlotContent
from tests.device.device_bench import make_content
from tests.device.device_world import QUICK_APPLICATION, ask, end_leftovers, free_port, until
from tests.device.host_stage import OVERWRITE

COMMAND = ("{python}", "-S", "-E", "app/serve.py", "--port", "{port}")


class Stage:
    def __init__(self, folder: Path) -> None:
        self.slots = Slots(folder / "root")
        self.port = free_port()
        self.now = 0.0
        self.runtime = self.make_runtime()

    def make_runtime(self) -> Runtime:
        return Runtime(self.slots, self.port, lambda: self.now, grace_seconds=1.0)

    def put(
        self, slot: str, version: str, program: str = QUICK_APPLICATION, command: tuple[str, ...] = COMMAND
    ) -> SlotContent:
        folder = self.slots.root / slot
        for name in ("app", "config"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "app" / "serve.py").write_text(program)
        (folder / "config" / "app.json").write_text(f'{{"version": "{version}"}}')
        return make_content(version).model_copy(update={"command": command})

    def version(self) -> str | None:
        answer = ask(self.port)
        return answer["version"] if answer else None


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.runtime.stop()
    end_leftovers(made.slots.root)


def test_application_serves_on_its_port_and_is_gone_after_stop(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    assert until(stage.version) == "1.0.0"

    stage.runtime.stop()

    assert find(stage.slots.root) == []
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", stage.port))


def test_application_sees_a_small_environment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "secret")
    program = "import json, os, time; json.dump(dict(os.environ), open('env.json', 'w')); time.sleep(60)"

    stage.runtime.start("blue", stage.put("blue", "1.0.0", program))

    text = until(
        lambda: (
            (stage.slots.root / "blue" / "env.json").exists() and (stage.slots.root / "blue" / "env.json").read_text()
        )
    )
    assert f'"PORT": "{stage.port}"' in text
    assert '"TIDEGATE_SLOT": "blue"' in text
    assert '"TIDEGATE_VERSION": "1.0.0"' in text
    assert "secret" not in text


def test_stop_ends_children_and_those_who_do_not_listen(stage: Stage) -> None:
    program = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        'child = \'import signal, time; signal.signal(15, signal.SIG_IGN); open("up", "w"); time.sleep(60)\'\n'
        "subprocess.Popen([sys.executable, '-S', '-c', child])\n"
        "time.sleep(60)\n"
    )
    stage.runtime.start("blue", stage.put("blue", "1.0.0", program))
    group = stage.runtime.group
    assert group is not None
    until((stage.slots.root / "blue" / "up").exists)

    stage.runtime.stop()

    assert usage_of(group) is None


def test_stop_ends_what_has_left_its_group(stage: Stage) -> None:
    program = (
        "import os, signal, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    open('up', 'w')\n"
        "time.sleep(60)\n"
    )
    stage.runtime.start("blue", stage.put("blue", "1.0.0", program))
    until((stage.slots.root / "blue" / "up").exists)

    stage.runtime.stop()

    assert left_from(stage.slots.root) == set()


def test_stop_is_not_done_while_something_listens_on_the_port(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "PORT_CHECK_SECONDS", 0.01)
    stage.runtime.start("blue", stage.put("blue", "1.0.0", "import time; time.sleep(60)"))
    with (
        socket.create_server(("127.0.0.1", stage.port)),
        pytest.raises(StepError, match=f"something listens on {stage.port}"),
    ):
        stage.runtime.stop()

    assert find(stage.slots.root) == []


def test_exit_is_noticed_once_and_the_application_started_again_ever_later(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0", "raise SystemExit(1)"))
    pauses: list[float] = []
    for _ in range(3):
        until(stage.runtime.poll)
        assert not stage.runtime.poll()
        assert stage.runtime.group is None
        before = stage.now
        while stage.runtime.group is None:
            stage.now += 0.01
            stage.runtime.poll()
        pauses.append(stage.now - before)

    assert stage.runtime.exits_total == 3
    assert pauses[0] < pauses[1] < pauses[2]


def test_killed_application_is_started_again(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    until(stage.version)
    assert stage.runtime.group is not None
    os.kill(stage.runtime.group, signal.SIGKILL)
    until(stage.runtime.poll)

    stage.now += 60
    stage.runtime.poll()

    assert until(stage.version) == "1.0.0"


def test_application_that_cannot_be_started_is_a_failed_step(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0", command=("/no/such/program",))

    with pytest.raises(StepError) as caught:
        stage.runtime.start("blue", content)

    assert caught.value.code == "start_failed"


def test_command_never_meets_a_shell(stage: Stage) -> None:
    program = "import json, sys, time; json.dump(sys.argv, open('argv.json', 'w')); time.sleep(60)"
    content = stage.put("blue", "1.0.0", program, ("{python}", "app/serve.py", "$(touch /tmp/evil); `x`", "{port}"))

    stage.runtime.start("blue", content)

    path = stage.slots.root / "blue" / "argv.json"
    assert until(lambda: path.exists() and path.read_text().endswith("]"))
    assert "$(touch /tmp/evil); `x`" in path.read_text()


def test_next_agent_takes_a_running_application_over(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0")
    stage.runtime.start("blue", content)
    until(stage.version)
    group = stage.runtime.group

    second = stage.make_runtime()
    assert second.take_over() == "blue"
    second.start("blue", content)
    assert second.group == group, "it is not started twice"
    assert not second.poll()
    os.kill(group or 0, signal.SIGKILL)
    until(second.poll)
    second.stop()

    assert find(stage.slots.root) == []


def test_next_agent_takes_over_a_program_that_overwrites_its_variables(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0", f"{OVERWRITE}\n{QUICK_APPLICATION}")
    stage.runtime.start("blue", content)
    until(stage.version)
    before = stage.runtime.group

    second = stage.make_runtime()
    assert second.take_over() == "blue"
    second.start("blue", content)
    assert second.group == before, "it is not started twice"
    second.stop()

    assert stage.version() is None
    assert find(stage.slots.root) == []


def test_next_agent_ends_the_tested_program_that_overwrote_its_variables(stage: Stage) -> None:
    port = free_port()
    with stage.runtime.beside("green", stage.put("green", "1.1.0", f"{OVERWRITE}\n{QUICK_APPLICATION}"), port):
        until(lambda: ask(port))

        assert stage.make_runtime().take_over() is None

        assert ask(port) is None


@pytest.mark.parametrize(
    "changed", ["nothing", {"boot_id": "another"}, {"home": "a copy of this folder"}, {"started_ticks": 1}, "group"]
)
def test_note_about_another_process_is_about_nobody(stage: Stage, changed: str | dict[str, object]) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=changed != "group") as other:
        process = identify(other.pid)
        assert process is not None
        note: dict[str, object] = {"slot": "blue", "role": "serving", "boot_id": boot_id()}
        note |= {"home": str(stage.slots.root), "pid": process.pid, "started_ticks": process.started_ticks}
        note |= changed if isinstance(changed, dict) else {}
        (stage.slots.state / "blue-serving.process").write_text(json.dumps(note))

        assert find(stage.slots.root) == ([(process, "blue", "serving")] if changed == "nothing" else [])
        other.kill()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"boot_id": 1}', b"[" * 10**5, b"0" * 10**6])
def test_damaged_note_keeps_nobody_from_work(stage: Stage, damaged: bytes) -> None:
    (stage.slots.state / "blue-serving.process").write_bytes(damaged)
    (stage.slots.state / "green-serving.process").mkdir()
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    until(stage.version)
    (stage.slots.state / "blue-smoke_test.process").write_bytes(damaged)

    assert stage.make_runtime().take_over() == "blue"
    stage.runtime.start("green", stage.put("green", "1.1.0"))
    assert until(lambda: stage.version() == "1.1.0")


def test_next_agent_ends_what_else_was_left(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0")
    with stage.runtime.beside("blue", content, free_port()):
        assert [role for _, _, role in find(stage.slots.root)] == ["smoke_test"]

        assert stage.make_runtime().take_over() is None

        assert find(stage.slots.root) == []


def test_application_of_another_device_is_left_alone(stage: Stage, tmp_path: Path) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))

    (tmp_path / "other").mkdir()
    other = Stage(tmp_path / "other")

    assert other.runtime.take_over() is None
    assert len(find(stage.slots.root)) == 1


def test_other_slot_replaces_the_running_one(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    assert until(stage.version) == "1.0.0"

    stage.runtime.start("green", stage.put("green", "1.1.0"))

    assert until(lambda: stage.version() == "1.1.0")
    assert len(find(stage.slots.root)) == 1


def test_smoke_test_runs_beside_and_is_gone_afterwards(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    port = free_port()

    with stage.runtime.beside("green", stage.put("green", "1.1.0"), port) as is_running:
        assert until(lambda: ask(port)) == {"status": "ok", "version": "1.1.0"}
        assert is_running()
        assert until(stage.version) == "1.0.0"

    assert [slot for _, slot, _ in find(stage.slots.root)] == ["blue"]


def test_log_of_the_application_stays_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10_000)
    program = "import time\nwhile True:\n    print('x' * 999, flush=True)\n    time.sleep(0.001)\n"
    stage.runtime.start("blue", stage.put("blue", "1.0.0", program))
    log, kept = stage.slots.state / "application.log", stage.slots.state / "application.log.1"

    until(lambda: stage.runtime.poll() or kept.exists())
    stage.runtime.poll()

    assert log.stat().st_size < 100_000
    assert kept.stat().st_size == 10_000, "its end, however much it was"


def test_log_of_a_smoke_test_stays_bounded_while_it_prints_as_fast_as_it_can(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0", command=("sh", "-c", "yes 'Traceback: cannot open /dev/video0'"))
    log, kept = stage.slots.state / "smoke_test.log", stage.slots.state / "smoke_test.log.1"
    with stage.runtime.beside("blue", content, free_port()):
        for _ in range(3):  # nobody polls: the agent's loop may be waiting for the disk
            kept.unlink(missing_ok=True)
            until(kept.exists)

    assert log.stat().st_size <= logs.LOG_BYTES_MAX
    assert kept.stat().st_size == logs.LOG_BYTES_MAX


def test_smoke_test_begins_a_log_of_its_own(stage: Stage) -> None:
    log, kept = stage.slots.state / "smoke_test.log", stage.slots.state / "smoke_test.log.1"
    for word in ("first", "second"):
        kept.write_text("of the test before")
        content = stage.put("blue", "1.0.0", command=("sh", "-c", f"echo {word}; sleep 60"))
        with stage.runtime.beside("blue", content, free_port()):
            until(lambda: log.read_text().endswith("\n"))

        assert log.read_text() == f"{word}\n"
        assert not kept.exists()


def test_application_that_is_started_again_goes_on_with_its_log(stage: Stage) -> None:
    log = stage.slots.state / "application.log"
    log.write_text("said before\n")

    stage.runtime.start("blue", stage.put("blue", "1.0.0", command=("sh", "-c", "echo begun; sleep 60")))

    assert until(lambda: log.read_text() == "said before\nbegun\n")


def test_variable_of_somebody_else_whose_name_is_no_text_keeps_nobody_from_being_found_and_ended(stage: Stage) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], env={b"TIDEGATE_\xff": b"1"}) as other:
        stage.runtime.start("blue", stage.put("blue", "1.0.0"))
        until(stage.version)
        try:
            assert stage.make_runtime().take_over() == "blue"
            stage.runtime.stop()

            assert left_from(stage.slots.root) == set()
            assert other.poll() is None
        finally:
            other.kill()


def test_process_id_that_is_used_again_is_another_process() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    process = identify(child.pid)
    assert process is not None
    try:
        assert process.is_alive()
        assert not type(process)(process.pid, process.started_ticks + 1).is_alive()
    finally:
        child.kill()
        deadline = time.monotonic() + 5
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not process.is_alive(), "a zombie is not alive"
        child.wait()


def test_program_that_the_kernel_is_still_loading_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen under load: for some 50 µs after it was started its environment is empty."""
    stat = f"77 (serve) R 1 77 77 0 -1 4194304 {' '.join(['0'] * 12)} 4711 0 0 0"
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "stat").write_text(stat)
    environment = tmp_path / "77" / "environ"
    environment.touch()
    filled = tmp_path / "filled"
    filled.write_bytes(b"TIDEGATE_HOME=/home\0TIDEGATE_SLOT=blue\0TIDEGATE_ROLE=serving\0")
    monkeypatch.setattr(proc, "_PROC", tmp_path)
    monkeypatch.setattr(processes, "_LOADING_SECONDS", 30.0)
    loading = threading.Timer(0.05, filled.replace, [environment])
    loading.start()

    assert processes.find(Path("/home")) == [(processes.Process(77, 4711), "blue", "serving")]
    loading.join()
