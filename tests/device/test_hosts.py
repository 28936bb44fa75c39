"""One contract for all who run applications: processes, systemd's units, containers.

systemd and the engine are played by programs that know only what a device may ask and refuse everything else.
"""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters.container_host import ContainerHost
from device_client.adapters.failure import StepError
from device_client.adapters.hosting import Host, Limits
from device_client.adapters.hosts import host_of
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import Slots
from device_client.adapters.systemd_host import SystemdHost
from device_client.core.record import SlotContent
from device_client.guardian import slots as guardian_slots
from schemas.messages import SlotName
from tests.device.device_bench import make_content
from tests.device.device_world import COMMAND, ask, free_port, until
from tests.device.host_stage import PROGRAM, install_fake

KINDS = ("process", "process in a control group", "systemd", "docker")
STUBBORN = (
    PROGRAM.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
    .replace("listener =", "if os.fork() == 0: os.setsid()\nlistener =")
    .replace("))\nwhile", "), reuse_port=True)\nwhile")
)


class Stage:
    """A device whose applications run somewhere."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.slots = Slots(folder / "root")
        self.port, self.standby_port = free_port(), free_port()
        self.now = 0.0
        self.hosts: list[Host] = []
        self.host = self.make_host()
        self.runtime = self.make_runtime()

    def make_host(self) -> Host:
        self.hosts.append(self._make_host())
        return self.hosts[-1]

    def _make_host(self) -> Host:
        match self.kind:
            case "process":
                return ProcessHost(self.slots.root)
            case "process in a control group":
                return ProcessHost(self.slots.root, cgroup=control_group(self.folder))
            case "systemd":
                return SystemdHost(systemctl=self.fake("systemctl"))
            case _:
                return ContainerHost(self.slots.root, "docker", engine=self.fake("docker"))

    @property
    def root(self) -> Path:
        return self.slots.root

    def fake(self, name: str) -> str:
        return install_fake(self.folder, name, self)

    def make_runtime(self) -> Runtime:
        return Runtime(self.slots, self.port, lambda: self.now, grace_seconds=1.0, host=self.host)

    def put(self, slot: SlotName, version: str, program: str = PROGRAM) -> SlotContent:
        folder = self.slots.folder(slot)
        for name in ("app", "models", "config"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "app" / "serve.py").write_text(program)
        (folder / "app" / "image.tar").write_text(program)
        image = f"sha256:{hashlib.sha256(program.encode()).hexdigest()}"
        command = (image, "{port}") if self.kind == "docker" else COMMAND
        return self.slots.seal(slot, make_content(version).model_copy(update={"command": command}))

    def version(self, port: int | None = None) -> str | None:
        answer = ask(port or self.port)
        return answer["version"] if answer else None

    def is_over(self) -> bool:
        """Let every host see that what it has started is gone."""
        for host in self.hosts:
            host.tidy()
        return not any(getattr(host, "_children", None) for host in self.hosts)

    def running(self) -> list[tuple[str, str]]:
        return [(found.slot, found.role) for found in self.host.find()]


def control_group(folder: Path) -> Path:
    """Return a control group to make others in: a real one where this user may, or a folder that stands for one."""
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        group = mount / f"tidegate-test-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        try:
            if (mount / "cgroup.procs").exists() and os.access(mount / "cgroup.procs", os.W_OK):
                group.mkdir(exist_ok=True)
                return group
        except OSError:
            continue
    (folder / "cgroup").mkdir(exist_ok=True)
    return folder / "cgroup"


@pytest.fixture(params=KINDS)
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, request.param)
    yield made
    made.host.end_others(None, 0)  # first: what a guardian has started listens on the same port
    made.runtime.stop()
    until(made.is_over)
    if made.kind == "process in a control group":
        group = control_group(tmp_path)
        (group.rmdir if group.parts[1] == "sys" else lambda: shutil.rmtree(group))()


def test_application_serves_and_nothing_is_left_after_its_stop(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    assert until(stage.version) == "1.0.0"
    assert stage.running() == [("blue", "serving")]
    assert not stage.runtime.poll()

    stage.runtime.stop()

    assert stage.running() == []
    assert stage.version() is None


def test_one_that_does_not_listen_is_killed_with_all_that_it_has_started(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0", STUBBORN))
    assert until(stage.version)

    stage.runtime.stop()

    assert stage.running() == []
    assert stage.version() is None


def test_exits_are_counted_and_the_application_is_started_again(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    for count in (1, 2):
        assert until(stage.version) == "1.0.0"
        process = stage.runtime.group
        assert process is not None
        os.kill(process, signal.SIGKILL)
        until(stage.runtime.poll)
        assert stage.runtime.exits_total == count
        stage.now += 60
        assert not stage.runtime.poll()

    assert until(stage.version) == "1.0.0"
    assert stage.running() == [("blue", "serving")]


def test_what_ends_at_once_is_an_exit(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0", "raise SystemExit(3)"))

    until(stage.runtime.poll)

    assert stage.runtime.exits_total == 1
    assert stage.running() == []


def test_next_agent_takes_over_what_runs_and_ends_what_was_tested(stage: Stage) -> None:
    content = stage.put("blue", "1.0.0")
    stage.runtime.start("blue", content)
    before = stage.runtime.instance
    with stage.runtime.beside("green", stage.put("green", "1.1.0"), stage.standby_port):
        assert sorted(stage.running()) == [("blue", "serving"), ("green", "smoke_test")]

        stage.host = stage.make_host()
        stage.runtime = stage.make_runtime()
        assert stage.runtime.take_over() == "blue"

        assert stage.running() == [("blue", "serving")]
    stage.runtime.start("blue", content)
    assert stage.runtime.instance == before, "it is not started twice"
    assert until(stage.version) == "1.0.0"


def test_smoke_test_runs_beside_what_serves_and_is_gone_afterwards(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))

    with stage.runtime.beside("green", stage.put("green", "1.1.0"), stage.standby_port) as is_running:
        assert until(lambda: stage.version(stage.standby_port)) == "1.1.0"
        assert is_running()
        assert until(stage.version) == "1.0.0"

    assert stage.running() == [("blue", "serving")]


def test_usage_is_that_of_the_application(stage: Stage) -> None:
    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    assert until(stage.version)
    assert stage.runtime.instance is not None

    usage = stage.host.usage(stage.runtime.instance)

    assert usage is not None
    assert 2**20 < usage.memory_bytes < 2**28


def test_guardian_ends_one_and_starts_the_other(stage: Stage) -> None:
    stage.runtime.start("green", stage.put("green", "1.1.0"))
    stage.put("blue", "1.0.0")
    assert until(stage.version) == "1.1.0"
    host = stage.make_host()

    content = guardian_slots.check(stage.slots.root, "blue")
    assert content is not None
    guardian_slots.end_others(host, "blue")
    guardian_slots.start(host, "blue", content, stage.port)

    assert until(stage.version) == "1.0.0"
    assert stage.running() == [("blue", "serving")]


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, "docker")
    yield made
    made.host.end_others(None, 0)


def test_container_runs_only_the_image_that_the_signed_command_names(docker: Stage) -> None:
    content = docker.put("blue", "1.0.0")
    (docker.slots.folder("blue") / "app" / "image.tar").write_text("print('another one')")

    with pytest.raises(StepError, match="does not hold the image"):
        docker.runtime.start("blue", content)
    with pytest.raises(StepError, match="must begin with the image's id"):
        docker.runtime.start("blue", content.model_copy(update={"command": ("app:latest",)}))
    docker.runtime.stop()


def test_container_gets_its_limits_and_leaves_its_last_words(docker: Stage) -> None:
    host = ContainerHost(
        docker.slots.root,
        "docker",
        limits=Limits(2**28, 1.5, 64, 2**20, 256),
        user="1000",
        options=("--device=/dev/video0",),
        engine=docker.fake("docker"),
    )
    docker.runtime = Runtime(docker.slots, docker.port, lambda: 0.0, 1.0, host)
    docker.runtime.start("blue", docker.put("blue", "1.0.0"))
    until(docker.version)

    (config,) = (docker.folder / "docker.d" / "containers").glob("*/config")
    options = json.loads(config.read_text())["options"]
    docker.runtime.stop()

    given = ("--memory", "--memory-swap", "--cpus", "--pids-limit", "--ulimit", "--user", "--device")
    assert [options[name] for name in given] == [
        [str(2**28)], [str(2**28)], ["1.5"], ["64"], [f"fsize={2**20}:{2**20}", "nofile=256:256"], ["1000"],
        ["/dev/video0"],
    ]  # fmt: skip
    assert (docker.slots.state / "application.log").read_text() == "begun\n"


def test_engine_that_does_not_answer_has_not_said_that_an_application_ended(docker: Stage) -> None:
    docker.runtime.start("blue", docker.put("blue", "1.0.0"))
    instance = docker.runtime.instance
    assert instance is not None
    unseen = type(instance)(instance.slot, instance.role, instance.name)
    program = Path(docker.folder / "docker")
    text = program.read_text()

    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    assert docker.host.is_running(unseen)
    with pytest.raises(StepError, match="Cannot connect"):
        docker.runtime.stop()
    program.write_text(text)

    docker.runtime.stop()
    assert docker.running() == []


def test_what_cannot_be_ended_now_is_ended_later_and_counted_once(docker: Stage) -> None:
    docker.runtime.start("blue", docker.put("blue", "1.0.0"))
    until(docker.version)
    program = Path(docker.folder / "docker")
    text = program.read_text()
    program.write_text("#!/bin/sh\nexit 1\n")
    assert docker.runtime.group is not None
    os.kill(docker.runtime.group, signal.SIGKILL)
    instance = docker.runtime.instance
    assert instance is not None
    until(lambda: not docker.host.is_running(instance))

    assert not docker.runtime.poll()
    program.write_text(text)
    assert not docker.runtime.poll(), "not before some time has passed"
    docker.now += 10
    assert docker.runtime.poll()

    assert docker.runtime.exits_total == 1
    assert docker.running() == []
    docker.runtime.stop()


def test_unit_of_an_empty_slot_says_what_is_missing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "systemd")
    content = make_content("1.0.0").model_copy(update={"command": COMMAND})

    stage.runtime.start("blue", content)
    until(stage.runtime.poll)

    assert "blue: nothing verified is in this slot" in (tmp_path / "systemctl.d" / "journal").read_text()


def test_limits_of_processes_hold_for_whatever_the_application_does(tmp_path: Path) -> None:
    program = (
        "import json, resource, time\n"
        "seen = [resource.getrlimit(each)[0] for each in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]\n"
        "print(json.dumps(seen), flush=True)\ntime.sleep(60)\n"
    )
    stage = Stage(tmp_path, "process")
    stage.host = ProcessHost(stage.slots.root, Limits(file_bytes=4096, open_files=64))
    stage.runtime = stage.make_runtime()

    stage.runtime.start("blue", stage.put("blue", "1.0.0", program))

    assert until((stage.slots.state / "application.log").read_text) == "[4096, 64]\n"
    stage.runtime.stop()


def test_limits_are_written_to_the_control_group(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    stage = Stage(tmp_path, "process")
    limits = Limits(memory_bytes=2**27, cpu_ratio=0.5, tasks=32)
    host = ProcessHost(stage.slots.root, limits, group)
    stage.runtime = Runtime(stage.slots, stage.port, lambda: 0.0, 1.0, host)

    stage.runtime.start("blue", stage.put("blue", "1.0.0"))
    assert until(stage.version)

    written = {path.name: path.read_text() for path in (group / "blue-serving").iterdir()}
    assert written == {
        "memory.max": str(2**27),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "50000 100000",
        "pids.max": "32",
        "cgroup.procs": str(stage.runtime.group),
    }
    assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert host.unenforced() == []
    stage.runtime.stop()


def test_limits_without_a_control_group_are_named_as_not_enforced(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=2**27, tasks=3, file_bytes=1)

    assert ProcessHost(tmp_path, limits).unenforced() == ["memory_bytes", "tasks"]
    assert ProcessHost(tmp_path, limits, user="nobody").unenforced() == ["memory_bytes"]


def test_application_is_not_started_as_somebody_that_nobody_can_become(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "process")
    host = ProcessHost(stage.slots.root, user="no-such-user-here")
    stage.runtime = Runtime(stage.slots, stage.port, lambda: 0.0, 1.0, host)

    with pytest.raises(StepError, match="there is no user 'no-such-user-here'"):
        stage.runtime.start("blue", stage.put("blue", "1.0.0"))


def test_kind_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write process, systemd, docker or podman"):
        host_of(tmp_path, {"kind": "lxc"}, {})
