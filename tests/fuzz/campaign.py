"""Feeds every decoder a million payloads that somebody evil might send.

``make fuzz``: for each decoder a process of its own, payloads from the campaign's seed. A finding is an exception that
is not documented, a payload that costs more than a second of CPU, memory that grows, or a process that dies. Payload N
is always the same: ``FUZZ="--only NAME --at N"`` makes it again, with its traceback.
"""

import argparse
import json
import logging
import multiprocessing
import queue
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

COUNT: Final = 1_000_000
SEED: Final = 20_261_129
SLOW_MS: Final = 50.0
HANG_SECONDS: Final = 1.0
"""Of CPU, for one payload."""
GROWTH_BYTES_MAX: Final = 64 * 1024**2
_WARM_UP: Final = 2_000
_ADDRESS_SPACE_BYTES: Final = 4 * 1024**3
_SILENCE_SECONDS: Final = 300.0
_TOLD_EACH_SECONDS: Final = 0.5
_PAYLOAD_SHOWN_BYTES: Final = 120


class HangError(BaseException):
    """A payload costs too much; of no kind that a decoder could catch."""


@dataclass(slots=True)
class Finding:
    """What no decoder may do, with the shortest payload that makes it do so."""

    what: str
    place: str
    message: str
    number: int
    payload: str
    bytes_count: int
    count: int = 1


@dataclass(slots=True)
class Outcome:
    """What became of one decoder."""

    target: str
    payloads: int = 0
    accepted: int = 0
    slow: int = 0
    worst_ms: float = 0.0
    worst_number: int = 0
    growth_bytes: int = 0
    cpu_seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.findings and self.growth_bytes <= GROWTH_BYTES_MAX


def run(name: str, seed: int, numbers: range, told: "multiprocessing.Queue[Any]") -> None:
    """Put one decoder to the test, in a process of its own."""
    logging.disable()
    signal.signal(signal.SIGPROF, _hang)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    target, outcome = TARGETS[name], Outcome(name)
    mutator = target.mutator()
    found: dict[tuple[str, str], Finding] = {}
    before, told_at, parent = 0, 0.0, multiprocessing.parent_process()
    for number in numbers:
        payload = mutator.payload(seed, number)
        if finding := feed(target, payload, number, outcome):
            known = found.setdefault((finding.what, finding.place), finding)
            if known is not finding:
                finding.count = known.count + 1
                shortest = min(known, finding, key=lambda each: each.bytes_count)
                shortest.count = finding.count
                found[finding.what, finding.place] = shortest
        if number == numbers[min(_WARM_UP, len(numbers) - 1)]:
            before = peak_bytes()
        if (now := time.monotonic()) - told_at > _TOLD_EACH_SECONDS:
            told.put((name, number + 1 - numbers.start))
            told_at = now
            if parent is not None and not parent.is_alive():
                return
    outcome.growth_bytes = peak_bytes() - before
    outcome.cpu_seconds = time.process_time()
    outcome.findings = list(found.values())
    told.put((name, outcome))


def feed(target: Target, payload: bytes, number: int, outcome: Outcome) -> Finding | None:
    """Decode one payload, count what it cost, and return what is wrong with that."""
    finding = None
    began = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        outcome.accepted += target.feed(payload)
        signal.setitimer(signal.ITIMER_PROF, 0)
    except (Exception, HangError) as error:  # noqa: BLE001 - any of them is a finding
        signal.setitimer(signal.ITIMER_PROF, 0)
        last = traceback.extract_tb(error.__traceback__)[-1]
        # A hang is found wherever it was when its time was up.
        place = "" if isinstance(error, HangError) else f"{Path(last.filename).name}:{last.lineno}"
        shown = repr(payload[:_PAYLOAD_SHOWN_BYTES])
        finding = Finding(type(error).__name__, place, str(error)[:200], number, shown, len(payload))
    cost_ms = (time.thread_time() - began) * 1000
    outcome.payloads += 1
    outcome.slow += cost_ms > SLOW_MS
    if cost_ms > outcome.worst_ms:
        outcome.worst_ms, outcome.worst_number = cost_ms, number
    return finding


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise HangError(f"more than {HANG_SECONDS:g} s of CPU")


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def campaign(names: list[str], seed: int, numbers: range, workers: int, progress: Progress) -> list[Outcome]:
    """Run each target in a process of its own, some at a time, and return what became of them in their order.

    Those whose payloads cost most begin, so that none of them is waited for alone.
    """
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[Any] = context.Queue()
    waiting, running = sorted(names, key=lambda name: -TARGETS[name].cost), dict[str, SpawnProcess]()
    done, heard = dict[str, Outcome](), dict[str, float]()
    bars = {name: progress.add_task(name, total=len(numbers), start=False) for name in names}
    while waiting or running:
        while waiting and len(running) < workers:
            name = waiting.pop(0)
            running[name] = context.Process(target=run, args=(name, seed, numbers, told))
            running[name].start()
            heard[name] = time.monotonic()
            progress.start_task(bars[name])
        try:
            name, what = told.get(timeout=1.0)
        except queue.Empty:
            for name, process in list(running.items()):
                if not process.is_alive() or time.monotonic() - heard[name] > _SILENCE_SECONDS:
                    process.kill()
                    why = "died" if process.exitcode is not None else "fell silent"
                    done[name] = Outcome(name, findings=[Finding(why, "", f"exit {process.exitcode}", -1, "", 0)])
                    del running[name]
            continue
        heard[name] = time.monotonic()
        if isinstance(what, Outcome):
            done[name] = what
            running.pop(name).join()
            progress.update(bars[name], completed=what.payloads)
            for each in what.findings:
                progress.console.print(f"[red]{name}[/]: {_told(each)}", highlight=False)
        else:
            progress.update(bars[name], completed=what)
    return [done[name] for name in names]


def _told(each: Finding) -> str:
    which = f"payload {each.number} of {each.bytes_count} bytes"
    return f"{each.what} {each.place} × {each.count}, {which}: {each.message}"


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("decoder", box=None)
    for name in ("payloads", "accepted", "slowest", f"over {SLOW_MS:g} ms", "grew", "findings"):
        table.add_column(name, justify="right")
    for each in outcomes:
        table.add_row(
            each.target, f"{each.payloads:,}", f"{each.accepted / max(each.payloads, 1):.0%}",
            f"{each.worst_ms:.1f} ms",
            f"{each.slow:,}", f"{each.growth_bytes / 1024**2:.1f} MiB", f"{len(each.findings)}",
        )  # fmt: skip
    return table


def again(name: str, seed: int, number: int) -> int:
    """Make one payload again and show what it does."""
    payload = TARGETS[name].mutator().payload(seed, number)
    sys.stdout.write(f"{payload!r}\n")
    return 0 if TARGETS[name].feed(payload) in {True, False} else 1


def main() -> int:
    """Run a campaign and return the exit code: 0 nothing found, 1 something, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Feed every decoder what somebody evil might send.")
    parser.add_argument("--count", type=int, default=COUNT, help="payloads for each decoder (default 1,000,000)")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="begin with this payload (default 0)")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="this decoder; may be given again")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="decoders at a time")
    parser.add_argument("--at", type=int, metavar="NUMBER", help="with one --only: make this payload again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    names = options.only or list(TARGETS)
    if options.at is not None:
        if len(names) != 1:
            parser.error("--at: name one decoder with --only")
        return again(names[0], options.seed, options.at)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        numbers = range(options.first, options.first + options.count)
        outcomes = campaign(names, options.seed, numbers, options.workers, progress)
    if options.json:
        sys.stdout.write(json.dumps({"seed": options.seed, "targets": [asdict(each) for each in outcomes]}) + "\n")
    else:
        Console().print(_table(outcomes))
    return 0 if all(each.is_good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
