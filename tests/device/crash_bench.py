"""Stories of a device in whose middle the power is cut, and what it takes to tell them again and again."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from device_client import assembly
from device_client import provision as provisioning
from device_client.adapters.artifact import Artifacts
from device_client.adapters.failure import RestartError
from device_client.adapters.journal import Journal
from device_client.adapters.layout import ACTIVE, RECORD, STATE, VERSION
from device_client.adapters.slots import Slots
from device_client.core.machine import Phase
from device_client.core.record import Record
from device_client.settings import Settings, load_settings
from orchestrator.adapters.releases import BuiltRelease
from schemas.codec import encode
from tests.device.crash_model import History, Image, read_image, write_image
from tests.device.crash_world import BAD_APPLICATION, World
from tests.device.device_driver import unpack_here
from tests.device.device_world import AgentProcess, make_release, order_for, put, put_chunks, registry
from tests.device.file_recorder import Recorder
from tests.device.kill_bench import CHECK

RESTING: Final = frozenset({Phase.IDLE, Phase.ROLLED_BACK, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Story:
    """What is done while the power is cut.

    Attributes:
        begin: The state that it begins in.
        order: Under which the device is, also after the cut.
        ends: Where it comes to rest.
        versions: What serves then.
        actor: Who acts when the power is cut.
    """

    begin: str
    order: str
    ends: frozenset[Phase]
    versions: frozenset[str]
    actor: str = "agent"


def _story(begin: str, order: str, end: Phase, version: str, actor: str = "agent") -> Story:
    return Story(begin, order, frozenset({end}), frozenset({version}), actor)


STORIES: Final = {
    "first": _story("empty", "first", Phase.IDLE, "1.0.0"),
    "install": _story("first", "install", Phase.IDLE, "1.1.0"),
    "rollback": _story("installed", "rollback", Phase.ROLLED_BACK, "1.0.0"),
    "bad version": _story("installed", "bad", Phase.ROLLED_BACK, "1.1.0"),
    "guardian": _story("on trial", "bad", Phase.ROLLED_BACK, "1.1.0", actor="guardian"),
    "provision": _story("empty", "first", Phase.IDLE, "1.0.0", actor="provision"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was told once.

    Attributes:
        story: Which.
        history: What was done to the disk.
        saved: Every record that was saved, and the one before.
        calls: How many changed something.
    """

    story: Story
    history: History
    saved: list[Record]
    calls: int


@dataclass
class Bench:
    """Releases in a registry, orders, and a device's disk in each of the states that a story begins in."""

    folder: Path
    settings: Settings
    orders: dict[str, bytes]
    provisions: BuiltRelease
    states: dict[str, Image] = field(default_factory=dict)
    boots: int = 0

    def world(self, image: Image) -> World:
        """Boot a device with this disk."""
        self.boots += 1
        root = self.folder / f"device-{self.boots}"
        write_image(image, root)
        return World(self.settings.model_copy(update={"root": str(root)}), f"boot-{self.boots}")

    def after(self, begin: str, order: str, *phases: Phase) -> Image:
        """Return the disk of a device that has come to rest."""
        with booted(self, self.states[begin]) as world:
            world.live(self.orders[order], phases)
            return read_image(world.root)


@contextmanager
def made_bench(folder: Path) -> Iterator[Bench]:
    """Make everything in a folder."""
    with registry(folder / "registry") as url:
        changes: dict[str, Any] = {"health_check": CHECK, "min_ready_seconds": 0.05, "commit_on": "round_trip"}
        old, new = (make_release(folder, version, application="it is well") for version in ("1.0.0", "1.1.0"))
        bad = make_release(folder, "1.2.0", application=BAD_APPLICATION)
        for built in (old, new, bad):
            put(folder / "registry", built)
        orders = {
            "first": order_for(old, 1, url, **changes),
            "install": order_for(new, 2, url, **changes, artifact=put_chunks(folder / "registry", new, url)),
            "rollback": order_for(old, 3, url, **changes, action="rollback"),
            "bad": order_for(bad, 3, url, **changes),
        }
        settings = load_settings(AgentProcess(folder, "mqtt://127.0.0.1:1").config)
        bench = Bench(folder, settings, {name: encode(order) for name, order in orders.items()}, old)
        bench.states["empty"] = {}
        bench.states["first"] = bench.after("empty", "first", Phase.IDLE)
        bench.states["installed"] = bench.after("first", "install", Phase.IDLE)
        bench.states["on trial"] = bench.after("installed", "bad", Phase.TRIAL)
        yield bench


@contextmanager
def booted(bench: Bench, image: Image) -> Iterator[World]:
    """Boot a device that nobody needs afterwards; nothing waits for its disk, and it unpacks in this process."""
    world = bench.world(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        for module in (assembly, provisioning):
            patch.setattr(module, "Artifacts", partial(Artifacts, unpack=unpack_here))
        try:
            yield world
        finally:
            shutil.rmtree(world.root)


def tell(bench: Bench, story: Story, image: Image | None = None, *, fail_at: int | None = None) -> Told:
    """Let a story go, from where it begins or from ``image``; the disk fails at one call, and an agent may die of that.

    Who dies is started again in the same boot.
    """
    with booted(bench, bench.states[story.begin] if image is None else image) as world, _noting() as saved:
        saved.append(Journal(world.root / STATE / RECORD).load())
        recorder = Recorder(world.root, fail_at)
        world.say = recorder.say
        with recorder.recording() as history:
            try:
                _act(bench, story, world)
            except (OSError, RestartError):
                assert recorder.fail_at is not None, "only a failing disk kills"
                _act(bench, story, world)
        assert world.wrong == []
        return Told(story, history, saved, recorder.calls)


def _act(bench: Bench, story: Story, world: World) -> None:
    match story.actor:
        case "agent":
            world.live(bench.orders[story.order], story.ends)
        case "guardian":
            world.guard()
        case "provision":
            provision_from_files(bench, world.root)


@contextmanager
def _noting() -> Iterator[list[Record]]:
    """Give every record that is saved from now on."""
    saved: list[Record] = []
    save = Journal.save

    def noted_save(journal: Journal, record: Record) -> None:
        saved.append(record)
        save(journal, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "save", noted_save)
        yield saved


def version_before(bench: Bench, story: Story) -> str:
    """Return what serves where a story begins."""
    begin = bench.states[story.begin]
    version: str = json.loads(begin[f"{begin[ACTIVE].data.decode()}/{VERSION}"].data)["version"]
    return version


def provision_from_files(bench: Bench, root: Path) -> None:
    """Put the first release on an empty device."""
    manifest, archive = bench.folder / "manifest", bench.folder / "archive"
    manifest.write_bytes(bench.provisions.envelope)
    archive.write_bytes(bench.provisions.artifact)
    slots = Slots(root)
    provisioning.provision(bench.settings, slots, Journal(slots.state / RECORD), manifest, archive)
