"""Kills the orchestrator at every system call that changes its files or says something, and lets its disk fail there.

``make crash``: a real orchestrator leads a small fleet through a rollout on a real broker: a canary that a person
approves, a wave in which a device fails and a person goes on, a wave that turns out bad, and everybody back. Each of
its threads runs under strace by itself and dies before each call in turn (``SIGKILL`` on entry), or is told there that
the disk is full (``ENOSPC``) or broken (``EIO``). Then it runs once more, undisturbed. The rollout must end as it ends
without that, the audit must be whole, the journal must replay, no device may be let go twice, and whatever was said to
anybody must stand in the journal. Of second kills, pairs of a first call and one of the recovery, a part is drawn.
"""

import argparse
import asyncio
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress

from tests.end_to_end.lockstep import World
from tests.end_to_end.mortal_bench import Bench, Told, a_bench, told_by, unsound
from tests.end_to_end.mortal_driver import SOCKET_CALLS

KINDS: Final = {"kill": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
KILLED: Final = -9
REFUSED: Final = 1
MISSED: Final = "came to the end without that call"
TRIES: Final = 2
_CALL: Final = re.compile(r"(\w+)\((.*)")
_PLACE: Final = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>|"([^"]*)"')
_WAKES: Final = '"\\0", 1, '
"""What asyncio sends to itself, to wake its loop."""


@dataclass(frozen=True, slots=True)
class Point:
    """One call of one thread, by its number among the thread's calls of that name on that file.

    Attributes:
        thread: In the order in which they begin.
        call: Its name.
        place: The file, from the orchestrator's folder on; empty for a call on a socket.
        number: From 1 on.
    """

    thread: int
    call: str
    place: str
    number: int

    def __str__(self) -> str:
        return f"thread {self.thread}, {self.call} {self.number} of {self.place or 'sockets'}"


@dataclass(frozen=True, slots=True)
class Cut:
    """A run that is disturbed: at what, how, and where a run before it was killed, if one was."""

    point: Point
    kind: str
    first: Point | None = None

    def __str__(self) -> str:
        return f"{self.kind} at {self.point}" + (f" after a kill at {self.first}" if self.first is not None else "")


@dataclass
class Campaign:
    """Benches that work side by side, and what has come of it.

    Attributes:
        told: How the rollout ends when nobody disturbs it.
    """

    benches: list[Bench]
    told: Told
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    async def judge(self, name: str, cuts: Sequence[Cut]) -> None:
        """Disturb at each point of ``cuts``, on all benches."""
        left = iter(cuts)
        with Progress(disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(name, total=len(cuts))

            async def work(bench: Bench) -> None:
                for cut in left:
                    wrong = await disturbed(bench, cut, self.told)
                    self.counts[f"{name}, {cut.kind}{', never came' if wrong == MISSED else ''}"] += 1
                    if wrong and wrong != MISSED:
                        self.broken.append(f"{cut}: {wrong}")
                        print(self.broken[-1], file=sys.stderr, flush=True)
                    progress.advance(bar)

            async with asyncio.TaskGroup() as tasks:
                for bench in self.benches:
                    tasks.create_task(work(bench))


def points_in(log: Path, root: str) -> list[Point]:
    """Return every call in the logs of a run that changes a file below ``root`` or says something, thread by thread."""
    points: list[Point] = []
    for path in sorted(log.parent.glob(f"{log.name}.*"), key=lambda each: int(each.suffix[1:])):
        counts: Counter[tuple[str, str]] = Counter()
        for line in path.read_text(errors="replace").splitlines():
            found = _CALL.match(line)
            if found is None:
                continue
            call, what = found.groups()
            place = place_of(call, what, root)
            if place is None:
                continue
            counts[call, place] += 1
            changes = call != "openat" or "O_CREAT" in what or "O_TRUNC" in what
            if changes and not (call in SOCKET_CALLS and _WAKES in what):
                points.append(Point(int(path.suffix[1:]), call, place, counts[call, place]))
    return points


def place_of(call: str, what: str, root: str) -> str | None:
    """Return the file below ``root`` that a call is about, empty for a socket; None for anything else."""
    if call in SOCKET_CALLS:
        return ""
    named = [folder or name for folder, name in _PLACE.findall(what)]
    below = [name for name in named if name == root or name.startswith(f"{root}/")]
    return below[0].removeprefix(root) or "/" if below else None


async def recorded(bench: Bench, told: Told | None, first: Point | None = None) -> tuple[list[Point], Told]:
    """Run undisturbed, after a kill at ``first`` if there is one; return its calls and what the rollout came to.

    Raises:
        AssertionError: It did not end well.
    """
    async with bench.scene() as (world, folder):
        if first is not None:
            code = await bench.run(world, folder, traced=traced_for(Cut(first, "kill"), folder))
            assert code == KILLED, f"it was not killed (code {code})"
        log = folder.parent / "strace"
        code = await bench.run(world, folder, traced={"log": str(log)})
        assert code == 0, f"code {code}: {last_words(folder)}"
        found = told_by(world, folder)
        wrong = unsound(world, folder, told or found)
        assert not wrong, wrong
        return points_in(log, str(folder)), found


async def disturbed(bench: Bench, cut: Cut, told: Told) -> str:
    """Run with one point disturbed, then undisturbed; return what is wrong then, empty if nothing is."""
    wrong = ""
    for _ in range(TRIES):
        try:
            async with bench.scene() as (world, folder):
                wrong = await _disturb(bench, world, folder, cut) or await _recover(bench, world, folder, told)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to this point, and others are still to come
            return f"{type(error).__name__}: {error}"
        if wrong != MISSED:
            break
    return wrong


async def _disturb(bench: Bench, world: World, folder: Path, cut: Cut) -> str:
    if cut.first is not None:
        code = await bench.run(world, folder, traced=traced_for(Cut(cut.first, "kill"), folder))
        if code != KILLED:
            return MISSED if code == 0 else f"was not killed at first (code {code}): {last_words(folder)}"
    code = await bench.run(world, folder, traced=traced_for(cut, folder))
    if cut.kind == "kill":
        return "" if code == KILLED else MISSED if code == 0 else f"was not killed (code {code}): {last_words(folder)}"
    if code not in {0, REFUSED}:
        return f"ended with {code}: {last_words(folder)}"
    return "" if code == 0 or str(folder) in last_words(folder) else f"names no file: {last_words(folder)}"


async def _recover(bench: Bench, world: World, folder: Path, told: Told) -> str:
    code = await bench.run(world, folder)
    return unsound(world, folder, told) if code == 0 else f"the next run ended with {code}: {last_words(folder)}"


def traced_for(cut: Cut, folder: Path) -> dict[str, Any]:
    """Return what has strace disturb a run at the point of ``cut``."""
    point = cut.point
    inject = f"{point.call}:{KINDS[cut.kind]}:when={point.number}"
    path = f"{folder}{point.place}" if point.place else None
    return {"log": str(folder.parent / "disturbed"), "inject": inject, "thread": point.thread, "path": path}


def last_words(folder: Path) -> str:
    """Return the end of what the orchestrator of a scene logged."""
    return folder.with_suffix(".log").read_text(errors="replace")[-1000:]


def cuts_at(points: Sequence[Point], kinds: Sequence[str], each: int) -> list[Cut]:
    """Return where a run is disturbed: killed everywhere, and its disk at every call on a file."""
    return [Cut(point, kind) for kind in kinds for point in [p for p in points if kind == "kill" or p.place][::each]]


def spread(points: Sequence[Point], count: int, rng: random.Random) -> list[Point]:
    """Return one point of each of ``count`` parts that follow each other."""
    bounds = [len(points) * part // count for part in range(count + 1)]
    return [points[rng.randrange(low, high)] for low, high in itertools.pairwise(bounds)]


async def conduct(options: argparse.Namespace, folder: Path) -> Campaign:
    """Disturb everything that the options say."""
    async with AsyncExitStack() as stack:
        benches = [await stack.enter_async_context(a_bench(folder / f"bench-{n}")) for n in range(options.jobs)]
        points, told = await recorded(benches[0], None)
        campaign = Campaign(benches, told)
        await campaign.judge("one", cuts_at(points, options.only, options.each))
        if "kill" in options.only and options.pairs:
            rng, pairs = random.Random(options.seed), []
            for first in spread(points, min(options.firsts, len(points)), rng):
                try:
                    again, _ = await recorded(benches[0], told, first)
                    pairs += [Cut(point, "kill", first) for point in again]
                except (AssertionError, TimeoutError) as error:
                    campaign.broken.append(f"undisturbed after a kill at {first}: {error}")
            campaign.counts["pairs of a call and one of the recovery from it"] = len(pairs)
            await campaign.judge("two", rng.sample(pairs, min(options.pairs, len(pairs))))
        return campaign


def main(arguments: Sequence[str], run: Callable[[argparse.Namespace, Path], Any] = conduct) -> int:
    """Run the campaign; return 1 if the rollout ended otherwise at any point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--each", type=int, default=1, help="only every so many calls")
    parser.add_argument("--only", choices=tuple(KINDS), action="append", help="may be given several times")
    parser.add_argument("--firsts", type=int, default=8, help="first kills before second ones (%(default)s)")
    parser.add_argument("--pairs", type=int, default=100, help="second kills in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides which pairs")
    parser.add_argument("--jobs", type=int, default=2, help="orchestrators at a time (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.only = options.only or list(KINDS)
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed: apt install strace")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory if memory.is_dir() else None) as name:
        campaign = asyncio.run(run(options, Path(name)))
    if options.json:
        print(json.dumps({"name": "crash", "points": campaign.counts, "broken": campaign.broken}))
    else:
        print("\n".join(f"{what}: {count}" for what, count in campaign.counts.items()))
        print(f"{len(campaign.broken)} ended otherwise")
    return 1 if campaign.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
