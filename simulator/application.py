"""The simulated application: what a version does to the device it runs on, and what that looks like in health samples.

Only what a real agent could see is reported: counters, latencies, restarts, the answer of the health endpoint.
"""

import math
import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgpack

from orchestrator.telemetry.sketch import GAMMA

REQUESTS_PER_SECOND: Final = 10.0
ERROR_RATIO: Final = 0.004
_LATENCY_SECONDS: Final = 0.08
LATENCY_SHAPE: Final = (20, 90, 120, 60, 10)
"""Latencies of one sample, in buckets around the usual one."""
_PLAIN_ERROR_RATIO: Final = 0.08
_PLAIN_LATENCY_FACTOR: Final = 1.4
"""From here on it is plainly ill: no gate lets so much pass."""
MEMORY_BYTES: Final = 180_000_000
"""What it usually takes."""
DISK_FREE_BYTES: Final = 5_000_000_000
CPU_RATIO: Final = 0.25
CELSIUS: Final = 50.0
CONFIDENCE: Final = 0.9
_PACKER: Final = msgpack.Packer()


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a version behaves; the default is a good one.

    Attributes:
        crashes_per_minute: The chance, 0..1, that it ends by itself within any minute.
        error_ratio: Of its requests, 0..1, beside the usual few.
        latency_factor: By how much it is slower than usual.
        leak_bytes_per_second: Memory that it never gives back.
        error_ratio_per_minute: By how much ``error_ratio`` rises.
        cpu_ratio: Of a processor, beside the usual share.
        quality_factor: What its output is worth of the usual.
        disk_bytes_per_second: Disk that it fills.
        log_errors_per_minute: Errors that it writes into its log.
        throttles_per_minute: How often it makes the device so hot that it is throttled.
        celsius_per_minute: By how much it heats the device.
        sick_after_seconds: From then on its health endpoint says no; None is never.
        silent_after_seconds: From then on the device sends no samples; None is never.
        starts: Whether it comes up at all.
        says_version: What it takes itself for in its samples; None is what it is.
        withholds: Fields that its samples leave out.
        noise: Standard deviation, relative to the level, of what its memory, processors, quality and errors show, and
            of the temperature.
        begins_after_seconds: All of this begins so long after its start.
        device_types: Where it misbehaves; empty means everywhere.
    """

    crashes_per_minute: float = 0.0
    error_ratio: float = 0.0
    latency_factor: float = 1.0
    leak_bytes_per_second: float = 0.0
    error_ratio_per_minute: float = 0.0
    cpu_ratio: float = 0.0
    quality_factor: float = 1.0
    disk_bytes_per_second: float = 0.0
    log_errors_per_minute: float = 0.0
    throttles_per_minute: float = 0.0
    celsius_per_minute: float = 0.0
    sick_after_seconds: float | None = None
    silent_after_seconds: float | None = None
    starts: bool = True
    says_version: str | None = None
    withholds: frozenset[str] = frozenset()
    noise: float = 0.0
    begins_after_seconds: float = 0.0
    device_types: tuple[str, ...] = ()

    def on(self, device_type: str) -> "Behavior":
        """Return how it behaves on a device of this type."""
        return self if not self.device_types or device_type in self.device_types else GOOD


GOOD: Final = Behavior()


def crashing(chance_per_minute: float) -> Behavior:
    """Return a version that ends by itself."""
    return Behavior(crashes_per_minute=chance_per_minute)


def failing(error_ratio: float, *, after_seconds: float = 0.0) -> Behavior:
    """Return a version that answers this share of its requests with an error."""
    return Behavior(error_ratio=error_ratio, begins_after_seconds=after_seconds)


def slow(factor: float) -> Behavior:
    """Return a version whose latencies are multiplied by ``factor``."""
    return Behavior(latency_factor=factor)


@dataclass(slots=True)
class Counters:
    """What the agent counts since boot; ``since`` is when it was last brought up to date."""

    requests: int = 0
    errors: int = 0
    restarts: int = 0
    log_errors: float = 0.0
    throttles: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Application:
    """One process of a version, started at a moment on the simulation's clock."""

    version: str
    behavior: Behavior
    started_at: float

    def is_well(self, now: float) -> bool:
        """Say whether the health endpoint says yes."""
        sick_after = self.behavior.sick_after_seconds
        return sick_after is None or not self.misbehaves(now) or now - self.started_at < sick_after

    def is_silent(self, now: float) -> bool:
        """Say whether it keeps the device from sending samples."""
        silent_after = self.behavior.silent_after_seconds
        return silent_after is not None and now - self.started_at >= silent_after

    def misbehaves(self, now: float) -> bool:
        """Say whether its faults have begun."""
        return now - self.started_at >= self.behavior.begins_after_seconds

    def ill_seconds(self, now: float) -> float:
        """Return for how long it has said no, or had more errors or higher latencies than any gate lets pass."""
        behavior = self.behavior
        is_poor = behavior.error_ratio >= _PLAIN_ERROR_RATIO or behavior.latency_factor >= _PLAIN_LATENCY_FACTOR
        well_seconds = 0.0 if is_poor else behavior.sick_after_seconds
        if well_seconds is None:
            return 0.0
        return max(0.0, now - self.started_at - max(well_seconds, behavior.begins_after_seconds))

    def work(self, counters: Counters, now: float, rng: random.Random) -> None:
        """Count what it did since the counters were brought up to date."""
        behavior, seconds = self.behavior, now - max(counters.since, self.started_at)
        counters.since = now
        requests = int(seconds * REQUESTS_PER_SECOND)
        ratio = ERROR_RATIO
        if self.misbehaves(now):
            minutes = (now - self.started_at - behavior.begins_after_seconds) / 60
            ratio += (behavior.error_ratio + behavior.error_ratio_per_minute * minutes) * _noise(behavior, rng)
            counters.log_errors += behavior.log_errors_per_minute * seconds / 60
            counters.throttles += behavior.throttles_per_minute * seconds / 60
        counters.requests += requests
        counters.errors += int(requests * min(ratio, 1.0) + rng.random())

    def measure(self, now: float, rng: random.Random) -> dict[str, Any]:
        """Return what the agent measures of it and of the device at this moment."""
        seconds = now - self.started_at
        behavior = self.behavior if self.misbehaves(now) else GOOD
        ill_seconds = seconds - behavior.begins_after_seconds
        memory = MEMORY_BYTES + behavior.leak_bytes_per_second * ill_seconds
        celsius = CELSIUS + behavior.celsius_per_minute * ill_seconds / 60
        return {
            "uptime_seconds": seconds,
            "memory_bytes": int(memory * _noise(behavior, rng)),
            "cpu_ratio": (CPU_RATIO + behavior.cpu_ratio) * _noise(behavior, rng),
            "disk_free_bytes": max(int(DISK_FREE_BYTES - behavior.disk_bytes_per_second * ill_seconds), 0),
            "temperature_celsius": celsius * _noise(behavior, rng),
            "quality": {"confidence": CONFIDENCE * behavior.quality_factor * _noise(behavior, rng)},
            "latency": {
                "gamma": GAMMA,
                "offset": latency_offset(behavior.latency_factor),
                "counts": LATENCY_SHAPE,
            },
        }

    def crash_after_seconds(self, rng: random.Random) -> float | None:
        """Draw when this process ends by itself; None is never."""
        chance = self.behavior.crashes_per_minute
        if chance <= 0:
            return None
        rate = -math.log(1 - min(chance, 0.999999)) / 60
        return self.behavior.begins_after_seconds + rng.expovariate(rate)


def health_sample(
    application: Application | None,
    counters: Counters,
    *,
    seq: int,
    boot_id: str,
    version: str | None,
    now: float,
    rng: random.Random,
) -> bytes:
    """Return a sample as the agent sends it; None is an application that does not run."""
    is_well = application is not None and application.is_well(now)
    sample: dict[str, Any] = {
        "seq": seq,
        "boot_id": boot_id,
        "version": version,
        "requests_total": counters.requests,
        "errors_total": counters.errors,
        "restarts_total": counters.restarts,
        "log_errors_total": int(counters.log_errors),
        "throttle_events_total": int(counters.throttles),
        "healthy": is_well,
        "endpoint_up": is_well,
    }
    if application is not None:
        behavior = application.behavior
        sample |= application.measure(now, rng)
        sample["version"] = behavior.says_version or version
        for field in behavior.withholds:
            del sample[field]
    packed: bytes = _PACKER.pack(sample)
    return packed


def _noise(behavior: Behavior, rng: random.Random) -> float:
    """Return what a level is multiplied with."""
    return rng.gauss(1.0, behavior.noise) if behavior.noise else 1.0


@cache
def latency_offset(factor: float) -> int:
    """Return the lowest bucket of latencies that are ``factor`` times the usual ones."""
    return math.ceil(math.log(_LATENCY_SECONDS * factor) / math.log(GAMMA)) - len(LATENCY_SHAPE) // 2
