"""Cuts the power at every system call that changes a file, and lets the disk fail at every one.

``make power-cut``: a real agent installs and goes back, each of its threads under strace by itself, and dies before
each call in turn (``SIGKILL`` on entry), or is told there that the disk is full (``ENOSPC``) or broken (``EIO``).
Afterwards it runs once more, undisturbed. There must always be one active and verified slot and exactly one
application, of the version that was ordered or, where the disk failed, of the one before.
"""

import argparse
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import track

from tests.device.device_driver import PATIENCE_SECONDS
from tests.device.device_world import end_leftovers
from tests.device.kill_bench import Bench, made_bench, unsound

OPENING: Final = "openat"
FAILURES: Final = ("ENOSPC", "EIO")
STORIES: Final = {"install": ("first", "1.1.0", "1.0.0"), "rollback": ("installed", "1.0.0", "1.1.0")}
"""Each with the state that it begins in, the version that is ordered, and the one that served before."""
KILLED: Final = -9
HUNG: Final = -14  # by SIGALRM
MISSED: Final = "came to rest without that call"
_CALL: Final = re.compile(r"(?:\[pid +\d+\] +)?(\w+)\((.*)")


@dataclass(frozen=True, slots=True)
class Point:
    """One call of one thread, by its number among the thread's calls of that name."""

    thread: int
    call: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"thread {self.thread}, {self.call} {self.number}: {self.what[:90]}"


def recorded(bench: Bench, state: str, order: str, folder: Path) -> list[Point]:
    """Return every call that changes a file of the device, thread by thread, in the order of each."""
    device = bench.copy_of(state)
    log = folder / f"{order}.strace"
    answer = bench.run(device.config, order, None, traced={"log": str(log), "inject": None, "thread": None})
    end_leftovers(device.root)
    assert answer["code"] == 0, answer
    points: list[Point] = []
    for path in sorted(folder.glob(f"{log.name}.*"), key=lambda each: int(each.suffix[1:])):
        counts: Counter[str] = Counter()
        for line in path.read_text(errors="replace").splitlines():
            found = _CALL.match(line)
            if found is None:
                continue
            call, what = found.groups()
            counts[call] += 1
            if call == OPENING and "O_CREAT" not in what and "O_TRUNC" not in what:
                continue
            if str(device.root) in what:
                points.append(Point(int(path.suffix[1:]), call, counts[call], what))
    return points


def disturbed(bench: Bench, order: str, point: Point, how: str, folder: Path) -> str:
    """Run with one point disturbed, then undisturbed; return what is wrong then, empty if nothing is."""
    state, wanted, before = STORIES[order]
    device = bench.copy_of(state)
    try:
        inject = f"{point.call}:{how}:when={point.number}"
        traced = {"log": str(folder / "disturbed.strace"), "inject": inject, "thread": point.thread}
        is_killed = how.startswith("signal")
        code = bench.run(device.config, order, None, may_fail=not is_killed, traced=traced)["code"]
        if code == HUNG:
            return f"had not come to rest after {PATIENCE_SECONDS} s"
        if is_killed and code == 0:
            return MISSED  # Which of two threads opens a file first is not the same in each run.
        if is_killed and code != KILLED:
            return f"was not killed (code {code})"
        again = bench.run(device.config, order, None, may_fail=not is_killed)
        allowed = {wanted} if is_killed else {wanted, before}
        if again["code"] != 0:
            return f"the second run ended with {again['code']}"
        return unsound(device, allowed)
    finally:
        end_leftovers(device.root)
        shutil.rmtree(device.root.parent)


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; return 1 if any point broke the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--each", type=int, default=1, help="only every so many points")
    parser.add_argument("--only", choices=("kill", *FAILURES), action="append", help="may be given several times")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    hows = {"kill": "signal=KILL"} | {each: f"error={each}" for each in FAILURES}
    chosen = {name: how for name, how in hows.items() if not options.only or name in options.only}
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed: apt install strace")
    broken: list[str] = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="power-cut-") as name, made_bench(Path(name)) as bench:
        for order in STORIES:
            points = recorded(bench, STORIES[order][0], order, Path(name))
            work = [*itertools.product(points[:: options.each], chosen)]
            for point, kind in track(work, f"{order}: {len(points)} calls", disable=options.json):
                wrong = disturbed(bench, order, point, chosen[kind], Path(name))
                counts[f"{order}, {kind}{', never came' if wrong == MISSED else ''}"] += 1
                if wrong and wrong != MISSED:
                    broken.append(f"{order}, {kind} at {point}: {wrong}")
                    print(broken[-1], file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"name": "power-cut", "points": dict(counts), "broken": broken}))
    else:
        print("\n".join(f"{what}: {count} points" for what, count in counts.items()))
        print(f"{len(broken)} broke the device")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
