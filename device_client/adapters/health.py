"""Asking the application how it is, and turning that into probes and samples.

One thread asks, so that a slow answer delays nobody. What it is to ask is one value, replaced as a whole by the agent's
loop; every answer carries the value it is about, so an answer about yesterday's version is recognised as such.
"""

import http.client
import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.metrics import Counters, parse_metrics
from device_client.adapters.processes import usage_of
from device_client.core.events import Probed
from schemas.messages import HealthCheck, HealthSample, LatencySketch

POLL_SECONDS: Final = 0.2
"""At most so late it notices that something else is to be asked."""
STARTING_SECONDS: Final = 1.0
"""Between two questions before the first good answer, if the interval is longer."""
_BODY_BYTES_MAX: Final = 64 * 1024
_METRICS_BYTES_MAX: Final = 1024 * 1024
_OK: Final = 200
_NAME_LENGTH_MAX: Final = 128
_TEMPERATURE: Final = Path("/sys/class/thermal/thermal_zone0/temp")


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked.

    Attributes:
        port: Where it listens.
        check: How it is asked.
        group: Its process group; None while it waits for its next start.
    """

    port: int
    check: HealthCheck
    group: int | None


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
    body = _get(port, check.path, check.timeout_seconds, _BODY_BYTES_MAX)
    if body is None:
        return Probed(ok=False)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Probed(ok=False)
    if not isinstance(answer, dict):
        return Probed(ok=False)
    version = answer.get("version")
    known = isinstance(version, str) and 0 < len(version) <= _NAME_LENGTH_MAX
    return Probed(ok=answer.get("status") == "ok", version=version if known else None)


class Observer:
    """Asks the application at its interval and takes samples at the agent's.

    Args:
        root: The folder whose disk is measured.
        boot_id: Stands in every sample.
        sample_interval_seconds: Between two samples.
        clock: Seconds that never fall.
        post: Takes ``ProbeTaken`` and ``SampleTaken``; must not block.
    """

    def __init__(
        self,
        root: Path,
        boot_id: str,
        sample_interval_seconds: float,
        clock: Callable[[], float],
        post: Callable[[ProbeTaken | SampleTaken], None],
    ) -> None:
        self._root = root
        self._boot_id = boot_id
        self._sample_interval_seconds = sample_interval_seconds
        self._clock = clock
        self._post = post
        self._target: Target | None = None
        self._restarts_total = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._counters = Counters()
        self._counted: Target | None = None
        self._cpu: tuple[int, float, float] | None = None
        self._started_at = clock()
        self._last = Probed(ok=False)
        self._was_up = False
        self._seq = 0

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def watch(self, target: Target | None, restarts_total: int) -> None:
        """Set what is asked from now on; None while nothing is to answer."""
        self._target = target
        self._restarts_total = restarts_total

    def _run(self) -> None:
        probe_at = sample_at = self._clock()
        asked: Target | None = None
        while not self._ended.wait(min(POLL_SECONDS, max(0.0, min(probe_at, sample_at) - self._clock()))):
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
                self._post(SampleTaken(self._sample(target, self._clock())))

    def _sample(self, target: Target | None, now: float) -> HealthSample:
        """Measure; what cannot be measured stays unknown."""
        self._seq += 1
        latency, answers = self._scrape(target)
        group = target.group if target is not None else None
        usage = usage_of(group) if group is not None else None
        last = self._last
        return HealthSample(
            seq=self._seq,
            boot_id=self._boot_id,
            version=last.version,
            uptime_seconds=now - self._started_at,
            requests_total=self._counters.requests_total if answers else None,
            errors_total=self._counters.errors_total if answers else None,
            latency=latency,
            memory_bytes=usage.memory_bytes if usage is not None else None,
            cpu_ratio=self._cpu_ratio(group, usage.cpu_seconds, now) if group is not None and usage else None,
            disk_free_bytes=shutil.disk_usage(self._root).free,
            temperature_celsius=_temperature_celsius(),
            restarts_total=self._restarts_total,
            healthy=last.ok,
            endpoint_up=last.ok or last.version is not None,
        )

    def _scrape(self, target: Target | None) -> tuple[LatencySketch | None, bool]:
        if target is None:
            return None, False
        if self._counted is None or self._counted.group != target.group:
            self._counters.forget()
            self._counted = target
        body = _get(target.port, "/metrics", target.check.timeout_seconds, _METRICS_BYTES_MAX)
        if body is None:
            return None, False
        metrics = parse_metrics(body.decode(errors="replace"))
        return self._counters.update(metrics), metrics.requests is not None

    def _cpu_ratio(self, group: int, cpu_seconds: float, now: float) -> float | None:
        """Return the share of one processor since the last sample of the same group."""
        before, self._cpu = self._cpu, (group, cpu_seconds, now)
        if before is None or before[0] != group or now <= before[2]:
            return None
        return max(0.0, cpu_seconds - before[1]) / (now - before[2])


def disk_free_bytes(root: Path) -> int:
    """Return what is free for this device's files."""
    return shutil.disk_usage(root).free


def memory_total_bytes() -> int:
    """Return this device's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _get(port: int, path: str, timeout_seconds: float, bytes_max: int) -> bytes | None:
    """Return the body of a 200, None for everything else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read(bytes_max + 1)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body if response.status == _OK and len(body) <= bytes_max else None


def _temperature_celsius() -> float | None:
    try:
        celsius = int(_TEMPERATURE.read_text()) / 1000
    except (OSError, ValueError):
        return None
    return celsius if -100 <= celsius <= 300 else None  # noqa: PLR2004 - what the wire allows
