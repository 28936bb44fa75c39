"""Asking the application how it is, and turning that into probes and samples.

One thread asks, so that a slow answer delays nobody. What it is to ask is one value, replaced as a whole by the agent's
loop; every answer carries the value it is about, so an answer about yesterday's version is recognised as such.
"""

import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import Instance
from device_client.adapters.local_http import get
from device_client.adapters.sampler import Sampler
from device_client.core.events import Probed
from schemas.ids import is_name
from schemas.messages import HealthCheck, HealthSample

NAP_SECONDS: Final = 5.0
"""At most so late it notices that the device has slept."""
STARTING_SECONDS: Final = 1.0
"""Between two questions before the first good answer, if the interval is longer."""
_BODY_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked.

    Attributes:
        port: Where it listens.
        check: How it is asked.
        instance: What runs; None while it waits for its next start.
    """

    port: int
    check: HealthCheck
    instance: Instance | None


@dataclass(frozen=True, slots=True)
class ProbeTaken:
    """One answer, and what it is about."""

    target: Target
    probed: Probed


@dataclass(frozen=True, slots=True)
class SampleTaken:
    """One sample, ready to be numbered and sent."""

    sample: HealthSample


def probe(port: int, check: HealthCheck) -> Probed:
    """Ask once; whatever is not an answer of 200 with a version in good time is no health."""
    body = get(port, check.path, check.timeout_seconds, _BODY_BYTES_MAX)
    return Probed(ok=False) if body is None else read_answer(body)


def read_answer(body: bytes) -> Probed:
    """Read what an application says of itself; a version that the wire has no name for is not known."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Probed(ok=False)
    if not isinstance(answer, dict):
        return Probed(ok=False)
    version = answer.get("version")
    known = isinstance(version, str) and is_name(version)
    return Probed(ok=answer.get("status") == "ok", version=version if known else None)


class Observer:
    """Asks the application at its interval and takes samples at the agent's.

    Args:
        sampler: Measures.
        sample_interval_seconds: Between two samples.
        clock: Seconds that never fall.
        post: Takes ``ProbeTaken`` and ``SampleTaken``; must not block.
    """

    def __init__(
        self,
        sampler: Sampler,
        sample_interval_seconds: float,
        clock: Callable[[], float],
        post: Callable[[ProbeTaken | SampleTaken], None],
    ) -> None:
        self._sampler = sampler
        self._sample_interval_seconds = sample_interval_seconds
        self._clock = clock
        self._post = post
        self._target: Target | None = None
        self._restarts_total = 0
        self._is_ended = False
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._last = Probed(ok=False)
        self._was_up = False

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._is_ended = True
        self._changed.set()

    def watch(self, target: Target | None, restarts_total: int) -> None:
        """Set what is asked from now on; None while nothing is to answer."""
        self._restarts_total = restarts_total
        if target is not self._target:
            self._target = target
            self._changed.set()

    def _run(self) -> None:
        probe_at = sample_at = self._clock()
        asked: Target | None = None
        while True:
            self._changed.wait(min(NAP_SECONDS, max(0.0, min(probe_at, sample_at) - self._clock())))
            self._changed.clear()
            if self._is_ended:
                return
            now, target = self._clock(), self._target
            if target is not asked:
                asked, probe_at, self._last, self._was_up = target, now, Probed(ok=False), False
            if target is None:
                probe_at = math.inf
            elif now >= probe_at:
                self._last = probe(target.port, target.check)
                self._was_up = self._was_up or self._last.ok
                pause_seconds = target.check.interval_seconds
                # Until its first answer it is starting; nobody counts those failures, and everybody waits for it.
                probe_at = now + (pause_seconds if self._was_up else min(pause_seconds, STARTING_SECONDS))
                self._post(ProbeTaken(target, self._last))
            if now >= sample_at:
                sample_at = now + self._sample_interval_seconds
                self._post(SampleTaken(self._sample(target)))

    def _sample(self, target: Target | None) -> HealthSample:
        instance = None if target is None else target.instance
        port = None if target is None else target.port
        return self._sampler.take(instance, port, self._last, self._restarts_total)


def disk_free_bytes(root: Path) -> int:
    """Return what is free for this device's files."""
    return shutil.disk_usage(root).free


def memory_total_bytes() -> int:
    """Return this device's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
