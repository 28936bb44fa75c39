"""The scenarios: what is done to a rollout while it runs, and what must come of it."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from orchestrator.adapters import clock
from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.core import events as e
from tests.storm.figures import Figure, Outcome
from tests.storm.flooder import FLOODER, Flood, Flooder
from tests.storm.judging import twice, unsound
from tests.storm.scene import NEW_VERSION, Scene, Shape, a_scene, load

CONVERGED_SECONDS: Final = 60.0
RSS_MIB: Final = 512.0
ANSWER_SECONDS: Final = 2.0
STRUCK_AT: Final = 0.4
"""The share of the fleet that has the new version when it is struck: in the middle of the last wave."""
DOWN_SECONDS: Final = 2.0
AFTER_SECONDS: Final = 3.0
"""So long it is still watched when all is over: whoever does something twice does it then."""
GIVEN_UP_SECONDS: Final = 150.0
KEPT_OUT_SECONDS: Final = 90.0
FLOODED_SECONDS_MAX: Final = 120.0
GROWTH_MIB: Final = 32.0


@dataclass(frozen=True)
class Struck:
    """How it was when the scene was struck.

    Attributes:
        at: When.
        used: How much processor time each part of the scene had used, in seconds.
        answer_seconds: How long 99 of 100 answers to commands took at most until then; 0 if there were none.
    """

    at: float
    used: Mapping[str, float]
    answer_seconds: float

    @classmethod
    def now(cls, scene: Scene) -> "Struck":
        """Look around."""
        now = time.monotonic()
        answers = [took for _, took in scene.asker.answers]
        return cls(now, scene.processor_seconds(), float(np.percentile(answers, 99)) if answers else 0.0)


async def lose_the_broker(shape: Shape, folder: Path) -> Outcome:
    """Kill the broker in the middle of a wave; everybody comes back to it."""
    async with a_scene(shape, folder) as scene:
        await scene.start_rollout()
        await scene.until_committed(STRUCK_AT)
        scene.broker.kill()
        shape.say(f"broker killed, gone for {DOWN_SECONDS:g} s")
        await asyncio.sleep(DOWN_SECONDS)
        await asyncio.to_thread(scene.broker.start)
        struck = Struck.now(scene)
        everybody = shape.devices
        connected_at = await scene.until("all connected again", lambda seen: seen["connected"] == everybody)
        name = "reconnect storm" if shape.jitter else "reconnect storm without jitter"
        outcome = await _converged(scene, name, struck)
        outcome.figures.insert(0, Figure("all connected again", connected_at - struck.at, "s"))
    return outcome


async def lose_the_orchestrator(shape: Shape, folder: Path) -> Outcome:
    """Kill the orchestrator in the middle of a wave and start it again; the fleet stays connected."""
    async with a_scene(shape, folder) as scene:
        await scene.start_rollout()
        await scene.until_committed(STRUCK_AT)
        await scene.kill_orchestrator()
        shape.say("orchestrator killed")
        began_at = time.monotonic()
        await scene.start_orchestrator()
        return await _converged(scene, "orchestrator killed", replace(Struck.now(scene), at=began_at))


async def slow_the_disk(shape: Shape, folder: Path) -> Outcome:
    """Let each wait for the disk take longer from the beginning on; see ``slow_disk``."""
    async with a_scene(shape, folder) as scene:
        struck = Struck.now(scene)
        await scene.start_rollout()
        return await _converged(scene, "slow disk", struck, converged_seconds=None)


async def be_flooded(shape: Shape, folder: Path, flood: Flood) -> Outcome:
    """Let one device send far too much until it is kept out, while the others go through a rollout."""
    async with a_scene(replace(shape, others=(FLOODER,)), folder) as scene:
        access = scene.broker.broker.access
        assert access is not None
        broker = scene.broker.broker
        with Flooder(broker.url.host, broker.device_port, access.passwords[FLOODER], flood) as flooder:
            await scene.until_known(shape.devices + 1)
            await asyncio.sleep(AFTER_SECONDS)
            before = scene.look_at_memory()
            flooder.begin()
            shape.say("the flood begins")
            struck, began_at = Struck.now(scene), clock.now()
            await scene.start_rollout()
            kept_out_seconds = await _until_kept_out(scene, began_at)
            after = scene.look_at_memory()
            rate = await asyncio.to_thread(flooder.end)
            name = f"flood of {', '.join(flood.kinds)}"
            outcome = await _converged(scene, name, struck, None, unanswered_max=0)
    dropped = (folder / "broker.log").read_text(errors="replace").count("being dropped")
    told = (folder / "orchestrator.log").read_text(errors="replace").splitlines()
    refused = [line for line in told if "message refused" in line and FLOODER not in line]
    if refused:
        outcome.wrong.append(f"messages of others were refused: {refused[0]}")
    outcome.figures = [
        Figure("messages of the flooder that the broker took", rate, "/s", 0.9 * flood.per_second, is_floor=True),
        Figure("kept out", kept_out_seconds, "s", KEPT_OUT_SECONDS),
        Figure("memory more than before", after - before, "MiB", GROWTH_MIB),
        Figure("times the broker dropped messages", dropped, "", 0),
        *outcome.figures,
    ]
    return outcome


async def _until_kept_out(scene: Scene, began_at: float) -> float:
    """Wait for the fact in the journal; return how many seconds after ``began_at`` it was written, or infinity."""
    seen_seq, deadline = 0, began_at + FLOODED_SECONDS_MAX
    reader = Journal.open_reader(scene.stage.folder / JOURNAL_NAME)
    with contextlib.closing(reader):
        while clock.now() < deadline:
            scene.shape.progress(scene.crowd.seen(), scene.asker.known)
            for entry in reader.read(seen_seq):
                seen_seq = entry.seq
                if entry.kind == "device_quarantined":
                    scene.shape.say(f"kept out after {entry.at - began_at:.1f} s")
                    return entry.at - began_at
            await asyncio.sleep(1.0)
    scene.shape.say("it is not kept out")
    return float("inf")


def slow_disk(seconds: float) -> tuple[str, ...]:
    """Return what has a program wait so long whenever it makes a file durable."""
    calls = "fsync,fdatasync"
    inject = f"inject={calls}:delay_enter={round(seconds * 1e6)}"
    return "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject


async def _converged(
    scene: Scene,
    name: str,
    struck: Struck,
    converged_seconds: float | None = CONVERGED_SECONDS,
    unanswered_max: int | None = None,
) -> Outcome:
    """Wait for the end of the rollout, end the crowd, and judge."""
    shape = scene.shape
    converged_at = await scene.until_converged(GIVEN_UP_SECONDS)
    used = scene.processor_seconds()
    answered = [at for at, _ in scene.asker.answers if at >= struck.at]
    await asyncio.sleep(AFTER_SECONDS)
    scene.look_at_memory()
    p99 = scene.asker.p99_seconds(min(answered, default=struck.at), min(converged_at, time.monotonic() - AFTER_SECONDS))
    crowd = await asyncio.to_thread(scene.crowd.deeds)
    await asyncio.to_thread(scene.stage.stop)
    facts = scene.stage.facts()
    scene.stage.verify()
    frozen = sum(isinstance(fact, e.FleetFrozen) for fact in facts)
    done = sum(runs == NEW_VERSION and len(deeds.commits) == 1 for runs, deeds in crowd.values())
    unanswered = sum(deeds.unanswered for _, deeds in crowd.values())
    figures = [
        Figure("converged", converged_at - struck.at, "s", converged_seconds),
        Figure("devices on the new version", done, f"of {shape.devices}", shape.devices, is_floor=True),
        Figure("effects twice", twice(crowd), "", 0),
        Figure("command answered, p99", p99, "s", ANSWER_SECONDS),
        Figure("command answered before that, p99", struck.answer_seconds, "s"),
        *(Figure(f"processor time of {who}", used[who] - before, "s") for who, before in struck.used.items()),
        Figure("orchestrator's memory at most", scene.rss_mib, "MiB", RSS_MIB),
        Figure("questions of devices that nobody answered in time", unanswered, "", unanswered_max),
        Figure("questions of devices", sum(deeds.questions for _, deeds in crowd.values()), ""),
        Figure("grants that devices did not accept", sum(d.refused.total() for _, d in crowd.values()), ""),
        Figure("the fleet was taken for silent", frozen, "times"),
    ]
    return Outcome(name, figures, unsound(crowd, facts, NEW_VERSION), load())
