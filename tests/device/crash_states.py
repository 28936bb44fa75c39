"""Every state that a power cut may leave on a device's disk, and whether the device gets up from it.

``make crash-states``: the agent's and the guardian's own file operations are recorded, what a power cut after each of
them may leave is worked out in two models (``crash_model``), each such state is made on a real disk, and a real agent
starts on it. Before it does:

* the link names a slot whose files are what its marker says, and no marker says what is not so;
* while a version is on trial, or is left, so are those of the slot to go back to;
* the record is one that was saved, and not older than what the device has already told others.

And after it has come to rest under the same order, nothing unverified was started, and the version that was ordered (or
the one before a bad one) is active and serves. A part of the states gets a flipped bit in one slot in addition.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.progress import track

from device_client.adapters.journal import Journal
from device_client.adapters.layout import ACTIVE, MARKER, RECORD, STATE
from device_client.adapters.slots import SLOT_NAMES
from device_client.core.machine import Phase
from schemas.messages import SlotName
from tests.device.crash_bench import (
    RESTING,
    STORIES,
    Bench,
    Told,
    booted,
    made_bench,
    provision_from_files,
    tell,
    version_before,
)
from tests.device.crash_model import Image, Model, Node, Said
from tests.device.crash_world import World, active, is_true, version_in

ROTTEN_EACH: Final = 7
"""Of so many states one is judged with a flipped bit too."""


class Judge:
    """Judges the states that power cuts leave in one story, each once.

    Args:
        bench: Where.
        told: What was done.
    """

    def __init__(self, bench: Bench, told: Told) -> None:
        self.bench = bench
        self.story = told.story
        self.saved = told.saved
        self._had_one = ACTIVE in bench.states[told.story.begin]
        self._known: set[frozenset[tuple[str, Node]]] = set()

    def judge(self, image: Image, told: int) -> Iterator[str]:
        """Say what is wrong with a state; ``told`` is the number of the last report that went out."""
        remembered = _remembered(image)
        if remembered < told:
            yield f"report {told} went out, and what is remembered is report {remembered}"
        key = frozenset(image.items())
        if key in self._known:
            return
        self._known.add(key)
        with booted(self.bench, image) as world:
            yield from self._as_found(world.root)
            yield from self._afterwards(world, self.story.ends, self.story.versions)
        if len(self._known) % ROTTEN_EACH == 0:
            yield from self._rotten(image, SLOT_NAMES[len(self._known) // ROTTEN_EACH % 2])

    @property
    def count(self) -> int:
        """How many different states there were."""
        return len(self._known)

    def _as_found(self, root: Path) -> Iterator[str]:
        serving = active(root)
        if self._had_one or (root / ACTIVE).is_symlink():
            if serving is None:
                yield "no slot is active"
            elif not is_true(root / serving):
                yield f"{serving} is active and not verified"
        for slot in SLOT_NAMES:
            if (root / slot / MARKER).exists() and not is_true(root / slot):
                yield f"the marker of {slot} says what is not so"
        record = Journal(root / STATE / RECORD).load()
        if record not in self.saved:
            yield f"the record was never saved: phase {record.phase}"
        back = record.trial.previous if record.trial else record.going_back.slot if record.going_back else None
        if back is not None and not is_true(root / back):
            yield f"{back} is where the device may have to go back to, or goes, and is not verified"

    def _afterwards(self, world: World, phases: frozenset[Phase], versions: frozenset[str]) -> Iterator[str]:
        try:
            if self.story.actor == "provision" and active(world.root) is None:
                provision_from_files(self.bench, world.root)
            record = world.live(self.bench.orders[self.story.order], phases)
        except Exception as error:  # noqa: BLE001 - whatever it is, the device does not get up
            yield f"the next start: {type(error).__name__}: {error}"
            return
        yield from world.wrong
        serving = active(world.root)
        if serving is None or not is_true(world.root / serving):
            yield f"at rest {serving} is active and not verified"
        elif versions and version_in(world.root / serving) not in versions:
            yield f"at rest {version_in(world.root / serving)} is active, not {sorted(versions)}"
        elif not serving == world.serving == record.active:
            yield f"at rest {serving} is active, {world.serving} serves, and {record.active} is remembered"

    def _rotten(self, image: Image, slot: SlotName) -> Iterator[str]:
        """Flip a bit in a slot: the other one serves, if it can."""
        path = f"{slot}/models/model.bin"
        other = "green" if slot == "blue" else "blue"
        if path not in image or not image[path].data:
            return
        first, *rest = image[path].data
        rotten = {**image, path: replace(image[path], data=bytes([first ^ 1, *rest]))}
        with booted(self.bench, rotten) as world:
            if active(world.root) == slot and not is_true(world.root / other):
                return
            for wrong in self._afterwards(world, RESTING, frozenset()):
                yield f"with a flipped bit in {slot}: {wrong}"


def _remembered(image: Image) -> int:
    """Return the number of the last report that the record knows; 0 if there is none that can be read."""
    try:
        number: int = json.loads(image[f"{STATE}/{RECORD}"].data)["reported_seq"]
    except (KeyError, ValueError):
        return 0
    return number


def judge_story(
    bench: Bench, name: str, counts: Counter[str], *, limit: int, each: int = 1, seed: int = 0
) -> Iterator[str]:
    """Judge what a power cut may leave at any moment of a story; yield what is wrong.

    Args:
        bench: Where.
        name: Of the story.
        counts: Takes how many moments and states there were.
        limit: About how many states for each moment and model.
        each: Only every so many moments.
        seed: Decides which moments and states.
    """
    rng = random.Random(seed)
    yield from _judge(bench, name, tell(bench, STORIES[name]), counts, limit=limit, each=each, rng=rng)


def judge_recovery(
    bench: Bench, name: str, counts: Counter[str], *, cuts: int, limit: int, each: int = 1, seed: int = 0
) -> Iterator[str]:
    """Judge a second power cut, while the device gets up from a first one, at ``cuts`` moments of a story."""
    rng = random.Random(seed)
    told = tell(bench, STORIES[name])
    for _ in range(cuts):
        length = rng.randrange(len(told.history.changes) + 1)
        image = rng.choice([*told.history.cuts(length, Model.WEAK, limit, rng)])
        again = tell(bench, replace(told.story, actor="agent"), image)
        yield from _judge(bench, f"{name}, twice", again, counts, limit=limit, each=each, rng=rng)


def judge_failures(
    bench: Bench, name: str, counts: Counter[str], *, failures: int, limit: int, each: int = 1, seed: int = 0
) -> Iterator[str]:
    """Judge a power cut after the disk failed once, at ``failures`` calls of a story; what served before may still."""
    story, rng = STORIES[name], random.Random(seed)
    before = version_before(bench, story)
    story = replace(story, ends=RESTING, versions=story.versions | {before})
    calls = range(1, tell(bench, story).calls + 1)
    for number in sorted(rng.sample(calls, min(failures, len(calls)))):
        told = tell(bench, story, fail_at=number)
        for wrong in _judge(bench, f"{name}, failing", told, counts, limit=limit, each=each, rng=rng):
            yield f"the disk failed at call {number}: {wrong}"


def _judge(
    bench: Bench, name: str, told: Told, counts: Counter[str], *, limit: int, each: int, rng: random.Random
) -> Iterator[str]:
    changes = told.history.changes
    judge = Judge(bench, told)
    moments = range(rng.randrange(each), len(changes) + 1, each)
    for length in moments:
        number = max((change.number for change in changes[:length] if isinstance(change, Said)), default=0)
        for model in Model:
            for image in told.history.cuts(length, model, limit, rng):
                for wrong in judge.judge(image, number):
                    last = str(changes[length - 1]) if length else "nothing"
                    yield f"{name}, {model.value}, after change {length} ({last[:80]}): {wrong}"
    counts[f"{name}: moments"] += len(moments)
    counts[f"{name}: states"] += judge.count


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; return 1 if the device does not get up from some state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=32, help="states for each moment and model (%(default)s)")
    parser.add_argument("--cuts", type=int, default=12, help="first cuts of each story (%(default)s)")
    parser.add_argument("--failures", type=int, default=24, help="failing calls of each story (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides which states, where there are too many")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    logging.disable()  # a device that gets up from everything has much to say about it
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crash-states-") as folder, made_bench(Path(folder)) as bench:
        for name in track(STORIES, "power cuts", disable=options.json):
            wrong += judge_story(bench, name, counts, limit=options.limit, seed=options.seed)
            wrong += judge_recovery(bench, name, counts, cuts=options.cuts, limit=4, seed=options.seed)
            if STORIES[name].actor == "agent" and name != "first":
                wrong += judge_failures(
                    bench, name, counts, failures=options.failures, limit=1, each=4, seed=options.seed
                )
    if options.json:
        print(json.dumps({"name": "crash-states", "counts": counts, "wrong": wrong}))
    else:
        print("\n".join([*(f"{what}: {count}" for what, count in counts.items()), *wrong[:20]]))
        print(f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
