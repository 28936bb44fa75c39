"""What a device measures of itself at a moment, as far as checks and triggers look at it."""

from enum import StrEnum
from typing import Final, NamedTuple, Self

from schemas.messages import HealthSample

_QUALITIES_MAX: Final = 16


class Signal(StrEnum):
    """A level whose trend is judged; each is worse when it rises."""

    MEMORY = "memory"
    """Bytes."""
    DISK = "disk"
    """Free bytes, negative, so that it rises when the disk fills up."""
    TEMPERATURE = "temperature"
    """Degrees Celsius."""


class Levels(NamedTuple):
    """One sample's levels; None: not known.

    Attributes:
        percentiles: Latency p50, p95 and p99 in seconds, of a device that sends no sketch.
        quality: The first sixteen names in order, so that a device cannot fill the memory.
    """

    memory_bytes: int | None = None
    disk_free_bytes: int | None = None
    temperature_celsius: float | None = None
    cpu_ratio: float | None = None
    percentiles: tuple[float | None, float | None, float | None] = (None, None, None)
    quality: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, sample: HealthSample, *, of_the_moment_only: bool = False) -> Self:
        """Take the levels of a sample; what is about the interval before it only if that was of the same version."""
        moment = cls(sample.memory_bytes, sample.disk_free_bytes, sample.temperature_celsius)
        if of_the_moment_only:
            return moment
        percentiles = (sample.latency_p50_seconds, sample.latency_p95_seconds, sample.latency_p99_seconds)
        return moment._replace(
            cpu_ratio=sample.cpu_ratio,
            percentiles=percentiles if sample.latency is None else (None, None, None),
            quality=tuple(sorted((sample.quality or {}).items())[:_QUALITIES_MAX]),
        )

    def value(self, signal: Signal) -> float | None:
        """Return a signal's value."""
        match signal:
            case Signal.MEMORY:
                return self.memory_bytes
            case Signal.DISK:
                return None if self.disk_free_bytes is None else -self.disk_free_bytes
            case Signal.TEMPERATURE:
                return self.temperature_celsius

    def signals(self) -> tuple[str, ...]:
        """Name what is known, in the words of a device's ``info``."""
        known = {
            "memory": self.memory_bytes is not None,
            "disk": self.disk_free_bytes is not None,
            "temperature": self.temperature_celsius is not None,
            "cpu": self.cpu_ratio is not None,
            "latency": any(each is not None for each in self.percentiles),
            "quality": bool(self.quality),
        }
        return tuple(name for name, is_known in known.items() if is_known)
