"""Cuts the power at every system call that changes a file, and lets the disk fail there.

``make power-cut``: a real agent installs and commits, goes back, and gets up from a first power cut, each of its
threads under strace by itself, and dies before each call in turn (``SIGKILL`` on entry), or is told there that the disk
is full (``ENOSPC``) or broken (``EIO``). Afterwards it runs once more, undisturbed. There must always be one active and
verified slot and exactly one application, of the version that was ordered or, where the disk failed, of the one before.

Killed it is at every call. The disk fails at every site, which is a call of a thread on a file with some role; with
``--each 1`` at every call. Of the second cuts, each a pair of a first call and one of the recovery, a part is drawn.
"""

import argparse
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import track

from device_client.adapters.journal import Journal
from device_client.adapters.layout import RECORD, STATE
from tests.device.device_driver import PATIENCE_SECONDS
from tests.device.device_world import AgentProcess, end_leftovers
from tests.device.kill_bench import LOST, Bench, made_bench, unsound

OPENING: Final = "openat"
KINDS: Final = {"kill": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
STORIES: Final = {"install": ("first", "1.1.0", "1.0.0"), "rollback": ("installed", "1.0.0", "1.1.0")}
"""Each with the state that it begins in, the version that is ordered, and the one that served before."""
KILLED: Final = -9
HUNG: Final = -14  # by SIGALRM
MISSED: Final = "came to rest without that call"
TRIES: Final = 3
"""For a call that does not come: which of two threads opens a file first is not the same in each run."""
_CALL: Final = re.compile(r"(?:\[pid +\d+\] +)?(\w+)\((.*)")
_PLACE: Final = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>|"([^"]*)"')
_CHANGING: Final = re.compile(r"[0-9a-f]{64}|blue|green")


@dataclass(frozen=True, slots=True)
class Point:
    """One call of one thread, by its number among the thread's calls of that name that are about the same file.

    Among all it would have no number: a thread that looks for processes opens as many files as the machine has.

    Attributes:
        thread: In the order in which they begin.
        call: Its name.
        place: The first path of the device's that it names, from the device's folder on.
        number: Among those, from 1 on.
        role: What it is done to, without what differs from run to run.
    """

    thread: int
    call: str
    place: str
    number: int
    role: str

    def __str__(self) -> str:
        return f"thread {self.thread}, {self.call} {self.number} of {self.role or '/'}"

    @property
    def site(self) -> tuple[int, str, str]:
        """Where in the program it is, as far as can be told from outside."""
        return self.thread, self.call, self.role


@dataclass(frozen=True, slots=True)
class Cut:
    """A run that is disturbed.

    Attributes:
        order: Under which it runs, which says where it begins too.
        point: At what.
        kind: How.
        first: Where a run before it was killed; None: there was none.
    """

    order: str
    point: Point
    kind: str
    first: Point | None = None

    def __str__(self) -> str:
        after = f" after a kill at {self.first}" if self.first is not None else ""
        return f"{self.order}, {self.kind} at {self.point}{after}"


def recorded(bench: Bench, order: str, folder: Path, first: Point | None = None) -> list[Point]:
    """Return every call that changes a file of the device, thread by thread, in the order of each.

    Args:
        bench: Where.
        order: Under which it runs.
        folder: For logs.
        first: Where a run before it is killed.
    """
    device = bench.copy_of(STORIES[order][0])
    log = folder / f"device-{bench.count}.strace"
    if first is not None:
        _run_disturbed(bench, device, Cut(order, first, "kill"), folder)
    answer = bench.run(device.config, order, None, traced={"log": str(log)})
    end_leftovers(device.root)
    assert answer["code"] == 0, answer
    points: list[Point] = []
    for path in sorted(folder.glob(f"{log.name}.*"), key=lambda each: int(each.suffix[1:])):
        counts: Counter[tuple[str, str]] = Counter()
        for line in path.read_text(errors="replace").splitlines():
            found = _CALL.match(line)
            if found is None:
                continue
            call, what = found.groups()
            named = named_by(call, what, str(device.root))
            counts.update((call, place) for place in set(named))
            if named and (call != OPENING or "O_CREAT" in what or "O_TRUNC" in what):
                role = role_of(call, what, str(device.root))
                points.append(Point(int(path.suffix[1:]), call, named[0], counts[call, named[0]], role))
    return points


def named_by(call: str, what: str, root: str) -> list[str]:
    """Return the paths below the device's folder that a call names; what it writes and what it returns are none."""
    arguments = what.rpartition(") = ")[0]
    is_about_names = call.endswith("at") or not arguments[:1].isdigit()
    paths = [folder or name for folder, name in _PLACE.findall(arguments)][: None if is_about_names else 1]
    return [path.removeprefix(root) for path in paths if path == root or path.startswith(f"{root}/")]


def role_of(call: str, what: str, root: str) -> str:
    """Return the file that a call is about: of what is written the file only, of names the folder and the name."""
    is_about_name = call.endswith("at") or not what[:1].isdigit()
    found = [folder or name for folder, name in _PLACE.findall(what)][: 2 if is_about_name else 1]
    return _CHANGING.sub("*", " ".join(place.removeprefix(root) for place in found if place != str(Path.cwd())))


def sites(points: Sequence[Point]) -> list[Point]:
    """Return the first call at each site."""
    return list({point.site: point for point in reversed(points)}.values())[::-1]


def disturbed(bench: Bench, cut: Cut, folder: Path) -> str:
    """Run with one point disturbed, then undisturbed; return what is wrong then, empty if nothing is."""
    state, wanted, before = STORIES[cut.order]
    device = bench.copy_of(state)
    try:
        if cut.first is not None:
            first = _run_disturbed(bench, device, Cut(cut.order, cut.first, "kill"), folder)
            if first != KILLED:
                return MISSED if first == 0 else f"was not killed at first (code {first})"
        code = _run_disturbed(bench, device, cut, folder)
        is_killed = cut.kind == "kill"
        if code in {HUNG, LOST}:
            return f"had not come to rest after {PATIENCE_SECONDS} s (code {code}): {_state_of(device)}"
        if is_killed and code == 0:
            return MISSED
        if is_killed and code != KILLED:
            return f"was not killed (code {code})"
        again = bench.run(device.config, cut.order, None, may_fail=not is_killed)
        if again["code"] != 0:
            return f"the second run ended with {again['code']}: {_state_of(device)}"
        return unsound(device, {wanted} if is_killed else {wanted, before})
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to this point, and the others are still to come
        return f"{type(error).__name__}: {error}"
    finally:
        end_leftovers(device.root)
        shutil.rmtree(device.root.parent, ignore_errors=True)


def _state_of(device: AgentProcess) -> str:
    """Return phase and error as they are remembered."""
    record = Journal(device.root / STATE / RECORD).load()
    return f"{record.phase}, {record.error.message if record.error is not None else 'no error'}"


def _run_disturbed(bench: Bench, device: AgentProcess, cut: Cut, folder: Path) -> int:
    point = cut.point
    inject = f"{point.call}:{KINDS[cut.kind]}:when={point.number}"
    traced = {
        "log": str(folder / "disturbed.strace"),
        "inject": inject,
        "thread": point.thread,
        "path": f"{device.root}{point.place}",
    }
    code: int = bench.run(device.config, cut.order, None, may_fail=cut.kind != "kill", traced=traced)["code"]
    return code


def first_cuts(bench: Bench, order: str, kinds: Sequence[str], each: int | None, folder: Path) -> list[Cut]:
    """Return where a story is disturbed: by a kill everywhere, by the disk at each site, or at every so many calls."""
    points = recorded(bench, order, folder)
    found: list[Cut] = []
    for kind in kinds:
        chosen = points[::each] if each else points if kind == "kill" else sites(points)
        found += (Cut(order, point, kind) for point in chosen)
    return found


def second_cuts(bench: Bench, order: str, first: Point, folder: Path) -> list[Cut]:
    """Return a kill at every call of the run that comes after a kill at ``first``."""
    return [Cut(order, point, "kill", first) for point in recorded(bench, order, folder, first)]


def spread(points: Sequence[Point], count: int, rng: random.Random) -> list[Point]:
    """Return one point of each of ``count`` parts that follow each other."""
    bounds = [len(points) * part // count for part in range(count + 1)]
    return [points[rng.randrange(low, high)] for low, high in itertools.pairwise(bounds)]


def campaign(bench: Bench, folder: Path, options: argparse.Namespace, counts: Counter[str]) -> Iterator[str]:
    """Disturb everything that the options say; yield what is wrong and count the rest."""
    for order in STORIES:
        cuts = first_cuts(bench, order, options.only, options.each, folder)
        yield from _judged(bench, order, cuts, folder, counts)
    if "kill" not in options.only or not options.pairs:
        return
    rng, pairs = random.Random(options.seed), []
    for order in STORIES:
        for first in spread(recorded(bench, order, folder), options.firsts, rng):
            try:
                pairs += second_cuts(bench, order, first, folder)
            except AssertionError as error:
                yield f"{order}, undisturbed after a kill at {first}: {error}"
    counts["pairs of a call and one of the recovery from it"] = len(pairs)
    chosen = rng.sample(pairs, min(options.pairs, len(pairs)))
    yield from _judged(bench, "recovery", chosen, folder, counts)


def _judged(bench: Bench, name: str, cuts: Sequence[Cut], folder: Path, counts: Counter[str]) -> Iterator[str]:
    for cut in track(cuts, name, disable=not sys.stderr.isatty()):
        for _ in range(TRIES):
            wrong = disturbed(bench, cut, folder)
            if wrong != MISSED:
                break
        counts[f"{name}, {cut.kind}{', never came' if wrong == MISSED else ''}"] += 1
        if wrong and wrong != MISSED:
            yield f"{cut}: {wrong}"


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; return 1 if any point broke the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--each", type=int, help="only every so many calls, whatever is done there")
    parser.add_argument("--only", choices=tuple(KINDS), action="append", help="may be given several times")
    parser.add_argument(
        "--firsts", type=int, default=8, help="first cuts of each story, before second ones (%(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=200, help="second cuts in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides which pairs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.only = options.only or list(KINDS)
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed: apt install strace")
    broken: list[str] = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="power-cut-") as name, made_bench(Path(name)) as bench:
        try:
            for wrong in campaign(bench, Path(name), options, counts):
                broken.append(wrong)
                print(wrong, file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - a campaign that ends early has a verdict too
            broken.append(f"the campaign ended early: {error!r}")
    if options.json:
        print(json.dumps({"name": "power-cut", "points": counts, "broken": broken}))
    else:
        print("\n".join(f"{what}: {count}" for what, count in counts.items()))
        print(f"{len(broken)} broke the device")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
