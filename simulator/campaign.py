"""Many seeds on all processors: the same result for any number of processes, up to the first seed that fails."""

import gc
import hashlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from simulator.coverage import RARE, reached
from simulator.world import simulate

_CHUNK: Final = 5
"""Seeds that a process takes at a time; between them it lets go of old worlds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one seed.

    Attributes:
        reached: See ``coverage``.
        violations: Broken invariants, or what was raised.
        trace_hash: Of all that happened in it; empty where something was raised.
    """

    seed: int
    outcomes: tuple[str, ...]
    reached: frozenset[str]
    violations: tuple[str, ...]
    trace_hash: str = ""


@dataclass(slots=True)
class Campaign:
    """What became of the seeds so far, in their order.

    Attributes:
        count: Seeds that were run, the failing one included.
        reached: In how many seeds each thing was reached; each rare state is there, also with 0.
        digest: Of the traces of all seeds so far: two campaigns with the same one saw the same worlds.
        failed: The first seed that failed; None while none has.
        was_interrupted: Somebody ended it before it was through.
        seconds: How long it took, on the wall's clock.
    """

    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=lambda: Counter({f"rare {name}": 0 for name in RARE}))
    digest: str = ""
    failed: Seen | None = None
    was_interrupted: bool = False
    seconds: float = 0.0

    @property
    def seeds_per_second(self) -> float:
        """How fast it went."""
        return self.count / self.seconds if self.seconds else 0.0

    def add(self, seen: Seen) -> None:
        """Count the next seed."""
        self.count += 1
        self.outcomes.update(seen.outcomes)
        self.reached.update(seen.reached)
        self.digest = hashlib.sha256(f"{self.digest}{seen.trace_hash}".encode()).hexdigest()
        self.failed = seen if seen.violations else None


def run_campaign(
    seeds: range, *, device_count: int | None, jobs: int, tell: Callable[[Campaign], object] = lambda _: None
) -> Campaign:
    """Run seeds until all are through, one fails or the user interrupts; of the rest nothing is counted.

    Args:
        seeds: In this order they count, whoever is done first.
        device_count: Devices of each fleet; None lets each seed draw it.
        jobs: Processes; with 1 all happens in this one.
        tell: Told of the campaign after each seed.
    """
    campaign, started_at = Campaign(), time.monotonic()
    try:
        with _running(seeds, device_count, jobs) as found:
            for seen in found:
                campaign.add(seen)
                campaign.seconds = time.monotonic() - started_at
                tell(campaign)
                if campaign.failed is not None:
                    break
    except KeyboardInterrupt:
        campaign.was_interrupted = True
    campaign.seconds = time.monotonic() - started_at
    return campaign


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _running(seeds: range, device_count: int | None, jobs: int) -> Iterator["Iterator[Seen]"]:
    """Run seeds side by side and give what became of them, in order; what is still running at the end is ended."""
    if jobs == 1:
        yield (_run(device_count, seed) for seed in seeds)
        return
    chunks = [seeds[first : first + _CHUNK] for first in range(0, len(seeds), _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(chunks) or 1), initializer=_begin) as pool:
        yield (seen for chunk in pool.imap(partial(_run_chunk, device_count), chunks) for seen in chunk)


def _begin() -> None:
    """Leave an interrupt to the parent; look for garbage between chunks only, and not among what was imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    gc.freeze()


def _run_chunk(device_count: int | None, seeds: range) -> list[Seen]:
    """Run some seeds up to the first that fails."""
    found: list[Seen] = []
    for seed in seeds:
        found.append(_run(device_count, seed))
        if found[-1].violations:
            break
    gc.collect()
    return found


def _run(device_count: int | None, seed: int) -> Seen:
    try:
        result = simulate(seed, device_count=device_count)
    except Exception as error:  # noqa: BLE001 - whatever breaks a seed is its finding, and is told with the seed
        return Seen(seed, (), frozenset(), (f"{type(error).__name__}: {error}",))
    return Seen(seed, tuple(result.outcomes.values()), reached(result.trace), result.violations, result.trace_hash)
