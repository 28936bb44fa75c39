"""What a device leaves in an engine's store: the images of its two slots, and nothing that is not its own."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from device_client.adapters.container_host import ContainerHost
from device_client.adapters.engine_images import LIST
from device_client.adapters.hosting import SERVING, SMOKE_TEST, Application, Instance
from device_client.adapters.programs import ProgramError
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import SLOT_NAMES, Slots
from device_client.core.record import SlotContent
from schemas.messages import SlotName
from tests.device.device_bench import make_content
from tests.device.device_world import free_port, until
from tests.device.host_stage import install_fake

PROGRAM = "import time\ntime.sleep(60)\n"
SWEEPS = 6
"""More than it takes to see a change and to remove what there is, one by one."""


class Place(NamedTuple):
    root: Path
    port: int
    standby_port: int


class Device:
    """One device; several may have the same engine."""

    def __init__(self, folder: Path, name: str = "root") -> None:
        self.slots = Slots(folder / name)
        self.store = folder / "docker.d" / "images"
        self.engine = install_fake(folder, "docker", Place(self.slots.root, free_port(), free_port()))
        self.list = self.slots.state / LIST
        self.begin()

    def begin(self) -> None:
        """Let a new agent begin."""
        self.host = ContainerHost(self.slots.root, "docker", engine=self.engine)
        self.runtime = Runtime(self.slots, free_port(), lambda: 0.0, 1.0, self.host)

    def install(self, slot: SlotName, version: str, program: str | None = None) -> SlotContent:
        """Put a release into a slot as an agent does; its image differs from all others unless it is given."""
        program = program or f"{PROGRAM}# {version}"
        folder = self.slots.open(slot)
        (folder / "app" / "image.tar").write_text(program)
        content = make_content("1.0.0").model_copy(
            update={"version": version, "command": (image_of(program), "{port}")}
        )
        return self.slots.seal(slot, content)

    def start(self, slot: SlotName, content: SlotContent, role: str = SMOKE_TEST) -> Instance:
        return self.host.start(Application(slot, content.version, content.command, free_port(), role))

    def test(self, slot: SlotName, content: SlotContent) -> None:
        self.host.end(self.start(slot, content), 0)

    def sweep(self) -> None:
        for _ in range(SWEEPS):
            self.runtime.poll()

    def stored(self) -> set[str]:
        return {f"sha256:{path.name}" for path in self.store.iterdir()}

    def ours(self) -> set[str]:
        return set(json.loads(self.list.read_bytes()))


def image_of(program: str) -> str:
    return f"sha256:{hashlib.sha256(program.encode()).hexdigest()}"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.host.end_others(None, 0)


def test_store_holds_no_more_than_the_images_of_both_slots_whatever_came_before(device: Device) -> None:
    names: list[str] = []
    for number, slot in enumerate(SLOT_NAMES * 3):
        content = device.install(slot, f"1.{number}.0")
        device.sweep()
        device.test(slot, content)
        device.sweep()
        names.append(content.command[0])
        assert device.stored() == set(names[-2:])

    assert device.ours() == set(names[-2:])


def test_what_an_earlier_agent_has_left_goes_when_the_next_one_begins(device: Device) -> None:
    old = device.install("blue", "1.0.0")
    device.test("blue", old)
    device.slots.discard("blue")

    device.begin()
    device.sweep()

    assert device.stored() == device.ours() == set()


def test_room_is_made_before_another_image_is_loaded(device: Device) -> None:
    device.test("blue", device.install("blue", "1.0.0"))

    new = device.install("blue", "1.1.0")
    device.test("blue", new)

    assert device.stored() == {new.command[0]}


def test_image_that_somebody_else_has_loaded_is_never_removed(device: Device) -> None:
    theirs = f"{PROGRAM}# theirs"
    device.store.mkdir(parents=True)
    (device.store / image_of(theirs).removeprefix("sha256:")).write_text(theirs)
    device.test("blue", device.install("blue", "1.0.0", theirs))

    device.test("blue", device.install("blue", "1.1.0"))
    device.test("blue", device.install("blue", "1.2.0"))
    device.sweep()

    assert device.stored() == {image_of(theirs), image_of(f"{PROGRAM}# 1.2.0")}


def test_image_that_a_container_of_another_device_is_made_of_stays_until_it_is_not(
    device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = device.install("blue", "1.0.0")
    device.test("blue", shared)
    other = Device(tmp_path, "other")
    instance = other.start("blue", other.install("blue", "1.0.0"), SERVING)

    device.test("blue", device.install("blue", "1.1.0"))
    device.sweep()

    assert shared.command[0] in device.stored()
    assert "image is being used by running container" in caplog.text
    caplog.clear()
    device.sweep()
    assert caplog.text == "", "it is said once for each change"

    other.host.end(instance, 0)
    device.begin()
    device.sweep()
    assert shared.command[0] not in device.stored()


@pytest.mark.parametrize("text", [None, "", "[", "7", '[["x"]]', '["--force", "app:latest"]', '"\udc80"'])
def test_list_that_is_missing_or_damaged_costs_room_and_nothing_else(device: Device, text: str | None) -> None:
    old = device.install("blue", "1.0.0")
    device.test("blue", old)
    if text is None:
        device.list.unlink()
    else:
        device.list.write_bytes(text.encode(errors="surrogateescape"))

    new = device.install("blue", "1.1.0")
    device.sweep()
    device.test("blue", new)

    assert device.stored() == {old.command[0], new.command[0]}
    assert device.ours() == {new.command[0]}


def test_list_that_cannot_be_written_keeps_nothing_from_being_started(device: Device) -> None:
    device.list.mkdir()

    content = device.install("blue", "1.0.0")
    device.test("blue", content)

    assert device.stored() == {content.command[0]}


def test_image_that_a_slot_names_again_meanwhile_stays(device: Device) -> None:
    old = device.install("blue", "1.0.0", PROGRAM)
    device.test("blue", old)
    device.slots.discard("blue")
    device.runtime.poll()  # it is seen that nobody needs it

    device.install("green", "1.1.0", PROGRAM)
    device.sweep()

    assert device.stored() == device.ours() == {image_of(PROGRAM)}


def test_image_that_somebody_else_has_removed_is_forgotten(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    content = device.install("blue", "1.0.0")
    device.test("blue", content)
    device.slots.discard("blue")
    (device.store / content.command[0].removeprefix("sha256:")).unlink()

    device.sweep()

    assert device.ours() == set()
    assert caplog.records == []


def test_engine_is_left_alone_while_no_slot_changes_or_nothing_is_to_be_removed(device: Device) -> None:
    device.test("blue", device.install("blue", "1.0.0"))
    device.sweep()
    program, asked = Path(device.engine), device.slots.root / "asked"
    text = program.read_text()
    program.write_text(f"#!/bin/sh\necho asked >> {asked}\nexit 1\n")

    device.sweep()
    device.install("green", "1.1.0")
    device.sweep()

    program.write_text(text)
    assert not asked.exists()


def test_engine_that_does_not_answer_is_asked_again_after_the_next_change(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.test("blue", device.install("blue", "1.0.0"))
    device.slots.discard("blue")
    program = Path(device.engine)
    text = program.read_text()
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    device.sweep()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["images.not_listed"]

    program.write_text(text)
    device.install("green", "1.1.0")
    device.sweep()

    assert device.stored() == set()


def test_image_is_not_loaded_where_the_store_has_no_room_for_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = device.install("blue", "1.0.0")
    usual = shutil.disk_usage(device.slots.root)
    needed = 2 * len(f"{PROGRAM}# 1.0.0")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usual._replace(free=needed - 1))

    with pytest.raises(ProgramError, match=f"{needed} bytes are needed to load image.tar and {needed - 1} are free"):
        device.start("blue", content)

    assert device.stored() == set()


def test_image_is_loaded_where_the_store_is_not_to_be_seen(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def unseen(path: Path) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(shutil, "disk_usage", unseen)
    content = device.install("blue", "1.0.0")

    device.test("blue", content)

    assert device.stored() == {content.command[0]}


def test_container_is_asked_to_end_before_it_is_killed(device: Device) -> None:
    program = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(print('goodbye')))\n"
    program += "print('begun', flush=True)\ntime.sleep(60)\n"
    instance = device.start("blue", device.install("blue", "1.0.0", program), SERVING)
    log = device.store.parent / "containers" / instance.name / "log"
    until(log.read_text)

    device.host.end(instance, 5.0)

    assert (device.slots.state / "application.log").read_text() == "begun\ngoodbye\n"
