# ruff: noqa: ANN401 - stand-ins take what the product's own classes take
"""Lives of a real agent and a real guardian on a folder: the product's own wiring, core and file operations.

What is not there: threads, time that passes by itself, processes and a network but for the registry. So a life takes
milliseconds and is the same each time. Each life is a boot of its own. What serves is what lies in the slot, and
nothing may be started whose files are not what its marker says.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_client import __main__ as program
from device_client import assembly
from device_client.adapters.health import ProbeTaken, Target
from device_client.adapters.hosting import SERVING, Application, Instance
from device_client.adapters.layout import ACTIVE, MARKER, VERSION, tree_digest
from device_client.adapters.process_host import ProcessHost
from device_client.adapters.slots import SLOT_NAMES
from device_client.adapters.worker import Worker
from device_client.agent import Inbox
from device_client.core.events import Probed
from device_client.core.machine import Phase
from device_client.core.record import Record, SlotContent
from device_client.guardian import watch
from device_client.guardian.decision import Restore
from device_client.guardian.seen import Patience
from device_client.guardian.settings import Place
from device_client.settings import Settings
from schemas.codec import decode
from schemas.messages import Desired, Reported, SlotName
from schemas.topics import Kind
from tests.device.device_driver import LocalBus

BAD_APPLICATION = "it is never well"
TURNS_MAX = 3000
GUARDIAN_PATIENCE_SECONDS = 20.0


class AtRestError(Exception):
    """The device has come to where it was to be; not an error, but it must end the agent's loop."""


@dataclass
class World:
    """One boot: its clock, and what was seen in it.

    Attributes:
        settings: Of the device; its root is the folder.
        say: Hears the number of each report.
        wrong: What must not be, in words.
    """

    settings: Settings
    boot: str
    say: Callable[[int], None] = lambda number: None
    now: float = 1000.0
    serving: SlotName | None = None
    wrong: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return Path(self.settings.root)

    def live(self, order: bytes, phases: Collection[Phase]) -> Record:
        """Let an agent run under ``order`` until it rests in one of ``phases``; return what it remembers then.

        Raises:
            AssertionError: It does not.
        """
        inbox = QuietInbox(self)
        with pytest.MonkeyPatch.context() as patch:
            for name, stand_in in {
                "Inbox": lambda: inbox,
                "Runtime": partial(QuietRuntime, self),
                "Observer": lambda *_: inbox,
                "Worker": QuietWorker,
                "Bus": partial(QuietBus, order, self.say),
                "boot_id": lambda: self.boot,
                "boot_seconds": lambda: self.now,
            }.items():
                patch.setattr(assembly, name, stand_in)
            with program.lock(self.settings):
                agent, record, facts = assembly.build_agent(self.settings)
                generation = decode(Desired, order).generation
                turns = 0

                def watched_turn(turn: Callable[[], None] = agent.turn) -> None:
                    nonlocal turns
                    turn()
                    turns += 1
                    if agent.device.record.generation == generation and agent.device.phase in phases:
                        raise AtRestError
                    assert turns < TURNS_MAX, f"it does not come to rest in {agent.device.phase}"

                patch.setattr(agent, "turn", watched_turn)
                with pytest.raises(AtRestError):
                    agent.run(record, facts)
                return agent.device.record

    def guard(self) -> None:
        """Let a guardian look until it has brought the previous slot back, with no sign of an agent."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watch, "boot_id", lambda: self.boot)
            patch.setattr(watch, "boot_seconds", lambda: self.now)
            place = Place(self.root, dict.fromkeys(("blue", "green"), 1), QuietHost(self))
            guardian = watch.Guardian(place, Patience(GUARDIAN_PATIENCE_SECONDS))
            for _ in range(10):
                self.now += GUARDIAN_PATIENCE_SECONDS / 3
                if isinstance(guardian.look(), Restore):
                    return
        raise AssertionError("the guardian does nothing")

    def serve(self, slot: SlotName) -> None:
        """Start what lies in ``slot``."""
        self.serving = slot
        if not is_true(self.root / slot):
            self.wrong.append(f"{slot} was started and is not what was verified")
        if active(self.root) != slot:
            self.wrong.append(f"{slot} was started and is not active")


class QuietHost(ProcessHost):
    """Runs nothing for a guardian."""

    def __init__(self, world: World) -> None:
        super().__init__(world.root)
        self.world = world

    def find(self) -> list[Instance]:
        return [] if self.world.serving is None else [Instance(self.world.serving, SERVING, "it")]

    def start(self, application: Application) -> Instance:
        self.world.serve(next(slot for slot in SLOT_NAMES if slot == application.slot))
        return Instance(application.slot, SERVING, "it")

    def is_running(self, instance: Instance) -> bool:
        return True

    def end_others(self, kept: Instance | None, grace_seconds: float, slots: Collection[str] = SLOT_NAMES) -> bool:
        self.world.serving = None if kept is None else self.world.serving
        return True

    def tidy(self) -> None: ...

    def sweep(self) -> None: ...


class QuietBus(LocalBus):
    """A bus that notes which reports went out."""

    def __init__(self, order: bytes, say: Callable[[int], None], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.desired = order
        self.say = say

    def publish(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.REPORTED:
            self.say(decode(Reported, payload).seq)
        super().publish(kind, payload)


class QuietInbox(Inbox):
    """A queue that never waits: when it is empty time has passed, and the application is asked how it is."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.target: Target | None = None

    def start(self) -> None: ...

    def watch(self, target: Target | None, _exits: int) -> None:
        self.target = target

    def take(self, timeout_seconds: float) -> Any:
        posted = super().take(0)
        if posted is not None:
            return posted
        self.world.now += timeout_seconds
        if self.target is None or self.world.serving is None:
            return None
        self.world.now += self.target.check.interval_seconds
        slot = self.world.root / self.world.serving
        is_well = (slot / "app" / "serve.py").read_text() != BAD_APPLICATION
        version = json.loads((slot / "config" / "app.json").read_text())["version"]
        return ProbeTaken(self.target, Probed(ok=is_well, version=version))


class QuietRuntime:
    """Runs nothing, and sees to it that what would run may."""

    instance = None
    exits_total = 0

    def __init__(self, world: World, *_: Any) -> None:
        self.world = world

    @property
    def slot(self) -> SlotName | None:
        return self.world.serving

    def take_over(self, *_: Any) -> SlotName | None:
        return self.world.serving

    def start(self, slot: SlotName, content: SlotContent) -> None:
        self.world.serve(slot)

    def stop(self) -> None:
        self.world.serving = None

    def poll(self) -> bool:
        return False


class QuietWorker(Worker):
    """Works at once; what is tested starts and answers."""

    def start(self) -> None: ...

    def submit(self, work: Any, content: SlotContent | None = None) -> None:
        super().submit(work, content)
        event = self.attempt(*self._waiting.get())
        if event is not None:
            self._post(event)

    def _smoke_test(self, *_: Any) -> None: ...


def active(root: Path) -> SlotName | None:
    """Return where the link points, read without the product."""
    link = root / ACTIVE
    target = str(link.readlink()) if link.is_symlink() else None
    return next((slot for slot in SLOT_NAMES if slot == target), None)


def is_true(slot: Path) -> bool:
    """Say whether a slot has a marker and holds exactly what that says."""
    try:
        marker, described = (json.loads((slot / name).read_bytes()) for name in (MARKER, VERSION))
        proofs = (tree_digest(slot), described["manifest_sha256"])
    except (OSError, ValueError):
        return False
    return proofs == (marker["tree_digest"], marker["manifest_sha256"])


def version_in(slot: Path) -> str:
    """Return what a verified slot holds."""
    version: str = json.loads((slot / VERSION).read_bytes())["version"]
    return version
