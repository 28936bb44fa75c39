"""A fetch that is interrupted again and again: it goes on, asks for nothing twice, and ends with the very bytes.

Whatever is whole in staging when a fetch begins must not be asked for by it; what is whole is found by the test itself.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from device_client.adapters.chunk_content import Content
from device_client.adapters.failure import CancelledError, StepError
from device_client.adapters.slots import Slots
from schemas.chunks import Chunk
from tests.device.chunk_world import Exchange, World, made_world
from tests.device.device_world import CHECK

INTERRUPTIONS = 200
ROUNDS_MAX = 60
KILLS = 3
FETCH = """
import json, sys
from pathlib import Path
from tests.device.chunk_world import fetch_alone
fetch_alone(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


class Killed(BaseException):
    """The process ends here, whatever it was about to do."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


class Interruption:
    """Ends one fetch at a random point, in one of the ways in which they end."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self.kind = rng.choice(("cut", "cancelled", "killed", "killed_while_writing"))
        self.left = rng.randrange(0, 5)
        self.share = rng.random()
        self.world = world
        self.is_down = False

    def disturb(self, exchange: Exchange) -> bool:
        """Cut the connection in the middle of an answer, and be gone from then on."""
        if self.kind != "cut":
            return False
        body = exchange.body or b""
        if not self.is_down and self.left > 0:
            self.left -= 1
            return False
        if not self.is_down:
            exchange.say(200, body[: int(len(body) * self.share)], length=len(body))
        self.is_down = True
        exchange.cut()
        return True

    def is_cancelled(self) -> bool:
        if self.kind == "cancelled":
            self.left -= self.share < 0.5 or bool(self.world.percentages)
        return self.kind == "cancelled" and self.left < 0

    def write(self, content: Content, chunk: Chunk, data: bytes) -> None:
        """Write as a process does that may be killed at any instant."""
        if not self.kind.startswith("killed") or self.left > 0:
            self.left -= 1
            WRITE(content, chunk, data)
            return
        if self.kind == "killed_while_writing":
            for offset in content._offsets[chunk]:
                os.pwrite(content._descriptor, data[: int(len(data) * self.share)], offset)
        raise Killed


WRITE = Content.write


def test_fetch_goes_on_after_each_of_200_interruptions_and_asks_for_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(66)
    ended: Counter[str] = Counter()
    for number in range(ROUNDS_MAX):
        world.slots = Slots(world.folder / f"root-{number}")
        if number % 3 == 0:
            world.with_old_version()
        is_complete, fetches = False, 0
        while not is_complete:
            fetches += 1
            assert fetches < 100, f"round {number}: it does not get on"
            there = world.staged_chunks()
            world.registry.asked.clear()
            world.percentages.clear()
            interruption = Interruption(rng, world)
            world.registry.disturb = interruption.disturb
            with monkeypatch.context() as patch:
                patch.setattr(Content, "write", lambda *given, by=interruption: by.write(*given))
                try:
                    receipt = world.fetch(is_cancelled=interruption.is_cancelled)
                except (StepError, CancelledError, Killed) as end:
                    ended[f"{interruption.kind}: {type(end).__name__}"] += 1
                else:
                    is_complete = True
                    assert receipt is not None, "it never needs the archive"
            asked = set(world.registry.chunks_asked())
            assert not there & asked, f"round {number}: asked again for what was there"
            assert there <= world.staged_chunks() or is_complete, f"round {number}: lost what was there"
        world.registry.disturb = lambda _: False
        world.artifacts.install(world.source(), "green", CHECK)
        assert world.holds("green", "1.1.0"), f"round {number}"
        if ended.total() >= INTERRUPTIONS:
            break
    assert ended.total() >= INTERRUPTIONS
    assert min(ended[kind] for kind in KINDS) > 10, dict(ended)


KINDS = ("cut: StepError", "cancelled: CancelledError", "killed: Killed", "killed_while_writing: Killed")


def test_fetch_goes_on_after_its_process_was_killed(world: World) -> None:
    rng = random.Random(66)
    for _ in range(KILLS):
        there = world.staged_chunks()
        world.registry.asked.clear()
        whole = len(there) + rng.randrange(1, 4)
        source = json.dumps(asdict(world.source()), default=lambda model: model.model_dump(mode="json"))
        with subprocess.Popen(
            [sys.executable, "-c", FETCH, str(world.folder), source], cwd=Path(__file__).parents[2]
        ) as process:
            world.registry.disturb = partial(kill, world=world, whole=whole, process=process)
            process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert not there & set(world.registry.chunks_asked())
        assert there < world.staged_chunks()
    world.registry.disturb = lambda _: False

    assert world.install() is not None
    assert world.holds("green", "1.1.0")


def kill(exchange: Exchange, world: World, whole: int, process: "subprocess.Popen[bytes]") -> bool:
    """Once that many chunks are whole in staging, answer by halves, and end the one who asks."""
    if len(world.staged_chunks()) < whole:
        return False
    body = exchange.body or b""
    exchange.say(200, body[: len(body) // 2], length=len(body))
    process.kill()
    exchange.cut()
    return True
