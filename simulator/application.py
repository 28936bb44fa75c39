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
_ERROR_RATIO: Final = 0.004
_LATENCY_SECONDS: Final = 0.08
_LATENCY_SHAPE: Final = (20, 90, 120, 60, 10)
"""Latencies of one sample, in buckets around the usual one."""
_MEMORY_BYTES: Final = 180_000_000
_PACKER: Final = msgpack.Packer()


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a version behaves; the default is a good one.

    Attributes:
        crashes_per_minute: The chance, 0..1, that it ends by itself within any minute.
        error_ratio: Of its requests, 0..1, beside the usual few.
        latency_factor: By how much it is slower than usual.
        leak_bytes_per_second: Memory that it never gives back.
        sick_after_seconds: From then on its health endpoint says no; None is never.
        silent_after_seconds: From then on the device sends no samples; None is never.
        starts: Whether it comes up at all.
        begins_after_seconds: All of this begins so long after its start.
        device_types: Where it misbehaves; empty means everywhere.
    """

    crashes_per_minute: float = 0.0
    error_ratio: float = 0.0
    latency_factor: float = 1.0
    leak_bytes_per_second: float = 0.0
    sick_after_seconds: float | None = None
    silent_after_seconds: float | None = None
    starts: bool = True
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

    def work(self, counters: Counters, now: float, rng: random.Random) -> None:
        """Count what it did since the counters were brought up to date."""
        seconds = now - max(counters.since, self.started_at)
        counters.since = now
        requests = int(seconds * REQUESTS_PER_SECOND)
        ratio = _ERROR_RATIO + (self.behavior.error_ratio if self.misbehaves(now) else 0.0)
        counters.requests += requests
        counters.errors += int(requests * ratio + rng.random())

    def crash_after_seconds(self, rng: random.Random) -> float | None:
        """Draw when this process ends by itself; None is never."""
        chance = self.behavior.crashes_per_minute
        if chance <= 0:
            return None
        rate = -math.log(1 - min(chance, 0.999999)) / 60
        return self.behavior.begins_after_seconds + rng.expovariate(rate)


def health_sample(
    application: Application | None, counters: Counters, *, seq: int, boot_id: str, version: str | None, now: float
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
        "healthy": is_well,
        "endpoint_up": is_well,
    }
    if application is not None:
        behavior, seconds = application.behavior, now - application.started_at
        sample["uptime_seconds"] = seconds
        sample["memory_bytes"] = _MEMORY_BYTES + int(behavior.leak_bytes_per_second * seconds)
        factor = behavior.latency_factor if application.misbehaves(now) else 1.0
        sample["latency"] = {
            "gamma": GAMMA,
            "offset": _latency_offset(factor),
            "counts": _LATENCY_SHAPE,
        }
    packed: bytes = _PACKER.pack(sample)
    return packed


@cache
def _latency_offset(factor: float) -> int:
    """Return the lowest bucket of latencies that are ``factor`` times the usual ones."""
    return math.ceil(math.log(_LATENCY_SECONDS * factor) / math.log(GAMMA)) - len(_LATENCY_SHAPE) // 2
