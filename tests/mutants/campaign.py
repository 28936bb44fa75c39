"""Plants bugs in copies of the product, one at a time, and sees which test notices.

``make mutants``: for each mutant the tests that it names run, and where they notice nothing, all that could. Whatever
no test sees has survived. At the end the tests that have noticed something must pass without any mutant, all together,
or they have noticed nothing.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.mutants.catalogue import MUTANTS
from tests.mutants.checkout import ROOT, BrokenRunError, Checkout
from tests.mutants.mutant import MisfitError, Mutant

NAMED_SECONDS_MAX: Final = 300.0
WIDER_SECONDS_MAX: Final = 1800.0
SOUND: Final = "sound"
RINGS: Final = {
    "core": "rules", "telemetry": "rules", "planning": "rules", "vectors": "rules", "lint": "rules",
    "device": "device", "broker": "broker", "simulation": "simulation", "contract": "contract", "shell": "shell",
}  # fmt: skip
"""Of tests, by their folder; all others are of real processes, files and connections."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        caught_by: The first test that failed; empty if none did.
        was_expected: It is one of those that the mutant names.
        error: Why nothing can be said; empty if something can.
    """

    name: str
    harm: str
    file: str
    caught_by: str = ""
    was_expected: bool = False
    error: str = ""
    seconds: float = 0.0

    @property
    def ring(self) -> str:
        """Which ring of tests noticed; empty if none did."""
        return RINGS.get(self.caught_by.split("/")[1], "end-to-end") if self.caught_by else ""

    @property
    def word(self) -> str:
        """The outcome for people."""
        if self.error:
            return f"ERROR     {self.name}: {self.error}"
        if not self.caught_by:
            return f"SURVIVED  {self.name}: {self.harm}"
        return f"caught    {self.name} by {self.caught_by}" + ("" if self.was_expected else ", which it does not name")


def judge(mutant: Mutant, checkout: Checkout, *, named_only: bool = False) -> Outcome:
    """Say which test fails when ``mutant`` is planted in ``checkout``."""
    began = time.monotonic()
    outcome = Outcome(mutant.name, mutant.harm, mutant.file)
    try:
        with checkout.planted(mutant):
            failed = checkout.test(mutant.tests, seconds_max=NAMED_SECONDS_MAX, first_only=True)
            was_expected = bool(failed)
            if not failed and not named_only:
                failed = checkout.test(mutant.wider, seconds_max=WIDER_SECONDS_MAX, first_only=True)
        outcome = replace(outcome, caught_by="".join(failed[:1]), was_expected=was_expected)
    except (BrokenRunError, MisfitError) as problem:
        outcome = replace(outcome, error=str(problem))
    return replace(outcome, seconds=round(time.monotonic() - began, 1))


def judged(mutants: Sequence[Mutant], sound: Checkout, jobs: int, *, named_only: bool = False) -> Iterator[Outcome]:
    """Judge ``mutants``, some at a time, in copies beside ``sound``; yield what became of each as it is known."""
    idle: SimpleQueue[Checkout] = SimpleQueue()
    for number in range(jobs):
        idle.put(Checkout(sound.folder, sound.folder.with_name(str(number))))

    def work(mutant: Mutant) -> Outcome:
        checkout = idle.get()
        try:
            return judge(mutant, checkout, named_only=named_only)
        finally:
            idle.put(checkout)

    with ThreadPoolExecutor(jobs) as pool:
        for task in as_completed([pool.submit(work, each) for each in mutants]):
            yield task.result()


def proven(outcomes: Sequence[Outcome], sound: Checkout, jobs: int) -> list[Outcome]:
    """Return ``outcomes`` without those that say nothing, because what noticed the mutant fails without one as well."""
    noticed = sorted({_function(each) for each in outcomes if each.caught_by})
    if not noticed:
        return list(outcomes)
    failed = sound.test(noticed, seconds_max=WIDER_SECONDS_MAX, first_only=False, workers=jobs)
    wrong = {test.partition("[")[0] for test in failed}
    return [
        replace(each, caught_by="", error=f"{each.caught_by} fails without it too")
        if _function(each) in wrong
        else each
        for each in outcomes
    ]


def _function(outcome: Outcome) -> str:
    return outcome.caught_by.partition("[")[0]


def main() -> int:
    """Run the campaign and return the exit code: 0 all caught, 1 some survived, 2 nothing can be said."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutant; may be given several times")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time (%(default)s)")
    parser.add_argument("--named-only", action="store_true", help="run no tests but those that a mutant names")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    unknown = set(options.only or ()) - {each.name for each in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant {min(unknown)!r}")
    mutants = [each for each in MUTANTS if options.only is None or each.name in options.only]
    console = Console(stderr=True)
    folder = Path(tempfile.mkdtemp(prefix="m-"))
    outcomes: list[Outcome] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        sound = Checkout(ROOT, folder / SOUND)
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task("mutants", total=len(mutants))
            for outcome in judged(mutants, sound, options.jobs, named_only=options.named_only):
                outcomes.append(outcome)
                console.print(
                    f"{outcome.word} ({outcome.seconds:.0f} s)", highlight=False, markup=False, soft_wrap=True
                )
                progress.advance(bar)
        console.print("running what has noticed something without any mutant", highlight=False)
        outcomes = proven(outcomes, sound, options.jobs)
    except BrokenRunError as error:
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _told(outcomes, as_json=options.json)


def _told(outcomes: Sequence[Outcome], *, as_json: bool) -> int:
    rings = Counter(each.ring for each in outcomes if each.caught_by)
    survivors = [each.name for each in outcomes if not each.caught_by and not each.error]
    errors = [each.name for each in outcomes if each.error]
    if as_json:
        by_name = [asdict(each) | {"ring": each.ring} for each in sorted(outcomes, key=lambda each: each.name)]
        print(json.dumps({"name": "mutants", "rings": rings, "survivors": survivors, "mutants": by_name}))
    else:
        caught = ", ".join(f"{count} by {ring}" for ring, count in rings.most_common())
        print(f"{len(outcomes)} mutants, {rings.total()} caught ({caught}), {len(survivors)} survived")
    return 2 if errors else 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
