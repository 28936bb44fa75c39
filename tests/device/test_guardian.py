"""A real guardian, real files and real applications; the agent, the broker and the network are not there."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from device_client.adapters.boot import boot_id, boot_seconds
from device_client.adapters.heartbeat import Beat, read_beat, write_beat
from device_client.adapters.journal import Journal
from device_client.adapters.layout import LOCK
from device_client.adapters.processes import find, identify
from device_client.core.machine import Phase
from device_client.core.record import Return
from device_client.guardian.decision import Action, Restore, Start, Stay, Wait
from device_client.guardian.watch import locked
from schemas.messages import SlotName
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
from tests.device.guardian_world import KILLED, ROOT, TrialDevice, look_in_child, start_guardian
from tests.device.host_stage import OVERWRITE


@pytest.fixture
def device(tmp_path: Path) -> Iterator[TrialDevice]:
    made = TrialDevice(tmp_path)
    yield made
    made.close()


def test_trial_that_nobody_committed_is_brought_back(device: TrialDevice) -> None:
    device.serve()
    guardian = device.guardian()

    assert isinstance(guardian.look(), Restore)

    assert (device.slots.active(), device.running()) == ("blue", ["blue"])
    assert until(device.version) == "1.0.0"
    assert device.memory.outcome is not None
    assert (device.memory.outcome.slot, device.memory.outcome.code) == ("blue", "deadline_exceeded")
    assert guardian.look() == Wait(), "once is enough"


def test_bad_version_that_has_overwritten_its_variables_is_ended_as_well(device: TrialDevice) -> None:
    device.slots.switch("blue")  # what serves is not written
    device.put("green", "1.1.0", f"{OVERWRITE}\n{QUICK_APPLICATION}")
    device.slots.switch("green")
    device.serve()
    assert until(device.version) == "1.1.0"
    ((bad, _, _),) = find(device.root)

    assert isinstance(device.guardian().look(), Restore)

    assert not bad.is_alive()
    assert device.running() == ["blue"]
    assert until(device.version) == "1.0.0"


def test_healthy_device_is_left_alone(tmp_path: Path) -> None:
    well = TrialDevice(tmp_path, deadline_at=boot_seconds() + 300)
    before = sorted(path.name for path in well.state.iterdir())

    assert well.guardian().look() == Wait()

    assert (well.slots.active(), sorted(path.name for path in well.state.iterdir())) == ("green", before)


def test_agent_that_holds_its_lock_and_gives_signs_of_life_is_left_alone(device: TrialDevice) -> None:
    write_beat(device.state, boot_id(), boot_seconds(), is_starting=False)

    with locked(device.state / LOCK) as is_ours:
        assert is_ours
        assert device.guardian().look() == Wait()

    assert device.slots.active() == "green"


def test_agent_that_dies_at_each_start_is_silent(tmp_path: Path) -> None:
    device = TrialDevice(tmp_path, deadline_at=boot_seconds() + 300)
    with subprocess.Popen(["sleep", "60"]) as dead:
        process = identify(dead.pid)
        dead.kill()
    assert process is not None
    guardian = device.guardian(silence_seconds=0.1)

    def start_and_look() -> Action:
        beat = Beat(boot_id(), boot_seconds(), is_starting=True, pid=process.pid, started_ticks=process.started_ticks)
        (device.state / "heartbeat.json").write_text(json.dumps(asdict(beat)))
        return guardian.look()

    action = until(lambda: found if (found := start_and_look()) != Wait() else None)

    assert isinstance(action, Restore)
    assert action.outcome.code == "agent_silent"
    device.close()


def test_device_that_slept_has_no_silent_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = TrialDevice(tmp_path, deadline_at=boot_seconds() + 1e6)
    guardian = device.guardian(silence_seconds=120.0)
    now = boot_seconds()

    def look(seconds: float) -> Action:
        monkeypatch.setattr("device_client.guardian.watch.boot_seconds", lambda: now + seconds)
        return guardian.look()

    assert [type(look(seconds)) for seconds in range(0, 120, 20)] == [Wait] * 6
    assert look(5000) == Wait()
    assert [type(look(5000 + seconds)) for seconds in (25, 50, 75, 100, 125)] == [Wait] * 4 + [Restore]
    device.close()


@pytest.mark.parametrize("active", ["green", "blue"])
def test_rollback_that_its_agent_left_is_ended(device: TrialDevice, active: SlotName) -> None:
    journal = Journal(device.state / "record.json")
    record = journal.load()
    assert record.trial is not None
    going_back = Return(slot="blue", error=None, patience_seconds=60.0, check=record.trial.check)
    journal.save(record.model_copy(update={"trial": None, "going_back": going_back, "phase": Phase.ROLLING_BACK}))
    device.slots.switch(active)
    guardian = device.guardian(silence_seconds=0.0)

    until(lambda: guardian.look() != Wait())

    assert (device.slots.active(), device.running()) == ("blue", ["blue"])
    assert guardian.look() == Wait()


@pytest.mark.parametrize("damage", ["file", "marker"])
def test_damaged_previous_slot_is_never_switched_to(device: TrialDevice, damage: str) -> None:
    device.serve()
    if damage == "file":
        (device.root / "blue" / "app" / "serve.py").write_text("x")
    else:
        (device.root / "blue" / ".verified").unlink()
    before = find(device.root)
    guardian = device.guardian()

    assert isinstance(guardian.look(), Stay)

    assert (device.slots.active(), find(device.root)) == ("green", before), "what serves goes on serving"
    assert device.memory.outcome is not None
    assert device.memory.outcome.code == "no_safe_rollback"
    assert guardian.look() == Wait(), "said once"


def test_old_version_that_dies_is_started_again_while_there_is_no_agent(device: TrialDevice) -> None:
    guardian = device.guardian()
    guardian.look()
    ((first, _, _),) = find(device.root)

    os.killpg(first.pid, signal.SIGKILL)
    until(lambda: not first.is_alive())

    assert guardian.look() == Start("blue")
    assert until(device.version) == "1.0.0"


def test_full_disk_does_not_keep_a_bad_version_serving(device: TrialDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("device_client.guardian.watch.write_memory", fail)

    device.guardian().look()

    assert (device.slots.active(), device.running()) == ("blue", ["blue"])


def test_boots_that_no_agent_saw_are_counted_through_power_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = TrialDevice(tmp_path, deadline_at=boot_seconds() + 300, progress_deadline_seconds=1e9, boots_left=2)
    for boot, active in (("a", "green"), ("a", "green"), ("b", "blue")):
        monkeypatch.setattr("device_client.guardian.watch.boot_id", lambda boot=boot: boot)
        device.guardian().look()
        assert device.slots.active() == active

    assert device.memory.outcome is not None
    assert "reboots ran out" in device.memory.outcome.message
    device.close()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"trial": {}}', b'{"trial": 1}', b"\xff"])
def test_record_that_cannot_be_read_is_left_to_the_agent(device: TrialDevice, damaged: bytes) -> None:
    (device.state / "record.json").write_bytes(damaged)

    assert device.guardian().look() == Wait()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"boots": 1, "outcome": 2}', b"\xff"])
def test_damaged_memory_and_heartbeat_do_not_keep_a_guardian_from_its_work(device: TrialDevice, damaged: bytes) -> None:
    for name in ("guardian.json", "heartbeat.json"):
        (device.state / name).write_bytes(damaged)

    assert isinstance(device.guardian().look(), Restore)


def test_power_cut_at_any_step_leaves_one_verified_slot_and_the_next_run_ends_it(tmp_path: Path) -> None:
    codes = []
    for point in range(60):
        (tmp_path / str(point)).mkdir()
        device = TrialDevice(tmp_path / str(point))
        device.serve()
        try:
            codes.append(look_in_child(device, point))
            active = device.slots.active()
            assert active is not None
            assert active in device.slots.verified(), f"cut at point {point}"

            assert look_in_child(device, None) == 0
            assert (device.slots.active(), device.running()) == ("blue", ["blue"]), f"cut at point {point}"
            assert device.memory.outcome is not None
        finally:
            device.close()
        if codes[-1] == 0:
            break

    assert codes == [KILLED] * (len(codes) - 1) + [0]
    assert len(codes) > 15


def test_guardian_needs_nothing_but_python_and_no_network() -> None:
    code = "import sys, device_client.guardian.__main__; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )

    assert not {"socket", "_socket", "ssl", "http", "pydantic", "paho", "schemas"} & set(shown.stdout.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "name a readable file with --config"),
        ("root = ", "no valid TOML"),
        ("port = 1", "key 'root' is not the path of a folder; correct it"),
        ('root = "r"\nport = true', "key 'port' is not a number; correct it"),
        ('root = "r"\nport = 1\n[router]\ntemplate = "t"', "table 'router' cannot be used: 'reload'; correct it"),
    ],
)
def test_wrong_settings_are_refused_with_file_key_and_remedy(tmp_path: Path, text: str | None, says: str) -> None:
    config = tmp_path / "agent.toml"
    if text is not None:
        config.write_text(text)

    assert start_guardian(config, log=tmp_path / "log").wait(20) == 2

    said = (tmp_path / "log").read_text()
    assert str(config) in said
    assert says in said


def test_second_guardian_on_the_same_folder_is_refused(device: TrialDevice, tmp_path: Path) -> None:
    with locked(device.state / "guardian.lock"):
        assert start_guardian(device.config, log=tmp_path / "log").wait(20) == 1

    assert "another guardian runs here" in (tmp_path / "log").read_text()
    assert device.slots.active() == "green"


class World:
    """A real agent, and a real guardian that starts when its broker is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agent = AgentProcess(folder, "mqtt://127.0.0.1:1")
        self.guardian: subprocess.Popen[bytes] | None = None

    def with_trial(self, progress_deadline_seconds: float) -> "World":
        """Run the agent until 1.1.0 is on trial; then its broker and the registry are gone."""
        with registry(self.folder / "registry") as url, broker() as self.broker_port:
            self.agent.config.write_text(self.agent.config.read_text().replace(':1"', f':{self.broker_port}"'))
            orchestrator = Orchestrator(self.broker_port, "pi-1")
            old, new = (make_release(self.folder, v, application=QUICK_APPLICATION) for v in ("1.0.0", "1.1.0"))
            for built in (old, new):
                put(self.folder / "registry", built)
            self.agent.start()
            orchestrator.order(order_for(old, 1, url))
            orchestrator.until_reported("idle", 1)
            terms = {"min_ready_seconds": 60.0, "progress_deadline_seconds": progress_deadline_seconds}
            orchestrator.order(order_for(new, 2, url, **terms))
            orchestrator.until_reported("trial", 2)
            orchestrator.close()
        return self

    def guard(self, *options: str) -> None:
        self.guardian = start_guardian(self.agent.config, *options, log=self.folder / "guardian.log")

    def is_restored(self) -> bool:
        answer = self.agent.ask()
        return answer is not None and answer["version"] == "1.0.0"

    def close(self) -> None:
        if self.guardian is not None:
            self.guardian.kill()
            self.guardian.wait()
        self.agent.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_trial_of_a_killed_agent_is_brought_back_without_a_broker_and_reported_later(world: World) -> None:
    world.with_trial(progress_deadline_seconds=4.0)
    world.agent.kill()
    assert until(world.agent.ask)["version"] == "1.1.0"

    world.guard()
    until(world.is_restored)
    ((serving, slot, _),) = find(world.agent.root)
    assert slot == "blue"
    with broker(world.broker_port) as port:
        orchestrator = Orchestrator(port, "pi-1")
        world.agent.start()
        back = orchestrator.until_reported("rolled_back", 2)
        first = orchestrator.reports[0]
        orchestrator.close()

    assert first.error is not None
    assert (first.state, first.error.code, first.error.step) == ("rolling_back", "deadline_exceeded", "guardian")
    assert (back.error, back.installed_version, back.slot) == (first.error, "1.0.0", "blue")
    assert [process for process, _, _ in find(world.agent.root)] == [serving], "what serves is not interrupted"


def test_agent_that_hangs_in_a_trial_is_ended_and_its_trial_brought_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    world.with_trial(progress_deadline_seconds=300.0)
    assert world.agent.process is not None
    beat = read_beat(world.agent.root / "state")
    assert beat is not None
    assert beat.pid == world.agent.process.pid

    world.agent.process.send_signal(signal.SIGSTOP)
    world.guard("--silence-seconds", "1")
    until(world.is_restored)

    assert world.agent.process.wait(10) == -signal.SIGKILL
    assert "code=agent_silent" in (world.folder / "guardian.log").read_text()
